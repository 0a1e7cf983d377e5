"""Your own op in ten minutes: softplus, from the formula to a network that learns with it.

1. Write y with indices, and derive dx: here, in the docstring.
2. Forward in plain NumPy; backward above the return; keep what backward mentions, nothing else.
3. gradcheck it. This is the proof, and takes a second.
4. A value that can be checked by hand: softplus(0) = log(1 + 1) = log 2.
5. Lift it to Tensors with `apply`. Now loss.backward() knows the way through it.

An op that is to live in tinygpt goes on from here: the end of tinygpt/ops/README.md has the list.

Prints:
    gradcheck: 7e-11
    softplus of 0, -1000, 1000: 0.6931, 0.0000, 1000.0000
    step    0: mean squared error 2.0360
    step  100: mean squared error 0.1652
    step 1000: mean squared error 0.0009
"""

import numpy as np

from tinygpt import SGD, Tensor, apply, gradcheck
from tinygpt import functional as F


def softplus(x):
    """y = log(1 + e^x), a relu without the kink.   Saves x.

    dy/dx = e^x / (1 + e^x) = 1 / (1 + e^-x) = sigmoid(x), and y_i depends on x_i alone, so
        dx = dy * sigmoid(x)
    """

    def backward(dy):
        return (dy * 0.5 * (1 + np.tanh(0.5 * x)),)  # sigmoid, in a form that cannot overflow

    return np.logaddexp(0, x), backward


def main():
    rng = np.random.default_rng(0)
    print(f"gradcheck: {gradcheck(softplus, rng.standard_normal((3, 4))):.0e}")
    y, _ = softplus(np.array([0.0, -1000.0, 1000.0]))
    print(f"softplus of 0, -1000, 1000: {y[0]:.4f}, {y[1]:.4f}, {y[2]:.4f}")

    # A network of 16 softplus units learns y = sin(3x) between -1 and 1.
    x = np.linspace(-1, 1, 64)[:, None]  # (64, 1)
    wanted = np.sin(3 * x)
    w1, b1, w2, b2 = weights = [
        Tensor(rng.standard_normal(shape), requires_grad=True)
        for shape in [(1, 16), (16,), (16, 1), (1,)]
    ]
    optimizer = SGD(weights, lr=0.02, momentum=0.9)
    for step in range(1001):
        h = apply(softplus, F.linear(x, w1, b1))  # the op, on a Tensor
        error = F.linear(h, w2, b2) - wanted
        loss = (error * error).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in (0, 100, 1000):
            print(f"step {step:4}: mean squared error {loss.item():.4f}")


if __name__ == "__main__":
    main()
