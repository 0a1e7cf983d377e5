"""Gradient-check everything: a function, an op, a whole model; and what a wrong backward gets.

gradcheck does what 01_one_op.py did, for every argument, in float64, with a random dy. It returns
the worst relative error: about 1e-10, rounding and nothing else. A backward that is wrong anywhere
is off by far more, and gets a GradientError.

Prints:
    a function      2e-10
    softmax         1e-10
    attention       2e-09
    a GPT, the worst of its 28 parameters  6e-09
    GradientError:
    bad_softmax: gradient of x is wrong: backward says 0.0259..., finite differences say -0.0557...
"""

import numpy as np

from tinygpt import GPT, GPTConfig, GradientError, gradcheck, ops


def function(x, w):
    """Any function of Tensors that returns a Tensor."""
    return ((x @ w).tanh() * x.mean()).sum()


def bad_softmax(x):
    """Each y_i = e^x_i / sum e^x, as if nothing but x_i acted on it."""
    y = np.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)

    def backward(dy):
        return (y * (1 - y) * dy,)

    return y, backward


def loss_as_op(model, p, ids, targets):
    """The model's loss as an op of one of its parameters: what is a constant is up to us."""

    def loss_of(w):
        p.data = w
        loss = model.loss(ids, targets)

        def backward(dy):
            model.zero_grad()
            loss.backward(dy)
            return (p.grad,)

        return loss.data, backward

    return loss_of


def main():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    q, k, v = rng.standard_normal((3, 2, 4, 5, 6))  # each (B, H, T, D)

    print(f"a function      {gradcheck(function, x, w):.0e}")
    print(f"softmax         {gradcheck(ops.softmax, x):.0e}")
    print(f"attention       {gradcheck(ops.scaled_dot_product_attention, q, k, v):.0e}")

    # A GPT, parameter by parameter. First each is moved: a bias that starts at 0 hides mistakes.
    model = GPT(GPTConfig(vocab_size=11, block_size=7, n_layer=2, n_head=2, n_embd=12), dtype=float)
    for p in model.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape)
    ids, targets = rng.integers(11, size=(2, 3, 5))  # each (B, T)
    errors = []
    for p in model.parameters():
        weight = p.data
        errors.append(gradcheck(loss_as_op(model, p, ids, targets), weight))
        p.data = weight
    print(f"a GPT, the worst of its {len(errors)} parameters  {max(errors):.0e}")

    try:
        gradcheck(bad_softmax, x)
    except GradientError as error:
        print("GradientError:", error, sep="\n")


if __name__ == "__main__":
    main()
