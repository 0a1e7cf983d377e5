"""The chain rule by hand: a small network learns XOR, and every gradient is on the page.

Two layers are four ops. Forward runs them first to last; backward hands a gradient from the last to
the first, and picks up on its way what belongs to the weights. That is all of backprop.

Prints:
    step    0: loss 0.7035, |dw1| 0.0466, |dw2| 0.1601
    step   50: loss 0.2393, |dw1| 0.0765, |dw2| 0.1001
    step  100: loss 0.0599, |dw1| 0.0282, |dw2| 0.0374
    step  200: loss 0.0177, |dw1| 0.0092, |dw2| 0.0130
    0 xor 0 = 0, 0 xor 1 = 1, 1 xor 0 = 1, 1 xor 1 = 0
"""

import numpy as np

from tinygpt import ops


def main():
    x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])  # (4, 2)
    targets = np.array([0, 1, 1, 0])

    rng = np.random.default_rng(0)
    w1, b1 = rng.standard_normal((2, 8)), np.zeros(8)
    w2, b2 = rng.standard_normal((8, 2)) / 4, np.zeros(2)

    for step in range(201):
        # Forward. Each op leaves behind the way back.
        h, linear1_back = ops.linear(x, w1, b1)  # (4, 8)
        a, tanh_back = ops.tanh(h)
        logits, linear2_back = ops.linear(a, w2, b2)  # (4, 2): a score for 0, a score for 1
        loss, loss_back = ops.cross_entropy(logits, targets)

        # Backward: the same four, last one first. dx is dL/dx, for every x.
        dlogits, _ = loss_back(1.0)  # dL/dL is 1; targets have no gradient
        da, dw2, db2 = linear2_back(dlogits)
        (dh,) = tanh_back(da)
        _, dw1, db1 = linear1_back(dh)

        if step in (0, 50, 100, 200):
            lengths = f"|dw1| {np.linalg.norm(dw1):.4f}, |dw2| {np.linalg.norm(dw2):.4f}"
            print(f"step {step:4}: loss {loss:.4f}, {lengths}")

        # Learn: a step downhill.
        for w, dw in ((w1, dw1), (b1, db1), (w2, dw2), (b2, db2)):
            w -= 0.5 * dw

    answers = logits.argmax(axis=-1)
    print(", ".join(f"{p:.0f} xor {q:.0f} = {y}" for (p, q), y in zip(x, answers, strict=True)))


if __name__ == "__main__":
    main()
