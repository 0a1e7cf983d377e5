"""The same network by tape: Tensor remembers which ops ran, and backward() walks back over them.

Weights, steps and numbers are those of 02_by_hand.py, to the last digit. What is gone is the second
half of the chain rule: loss.backward() writes it, from the ops that ran.

Prints:
    step    0: loss 0.7035, |dw1| 0.0466, |dw2| 0.1601
    step   50: loss 0.2393, |dw1| 0.0765, |dw2| 0.1001
    step  100: loss 0.0599, |dw1| 0.0282, |dw2| 0.0374
    step  200: loss 0.0177, |dw1| 0.0092, |dw2| 0.0130
    0 xor 0 = 0, 0 xor 1 = 1, 1 xor 0 = 1, 1 xor 1 = 0
"""

import numpy as np

from tinygpt import Tensor
from tinygpt import functional as F


def main():
    x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])  # (4, 2)
    targets = np.array([0, 1, 1, 0])

    rng = np.random.default_rng(0)
    w1 = Tensor(rng.standard_normal((2, 8)), requires_grad=True)
    b1 = Tensor(np.zeros(8), requires_grad=True)
    w2 = Tensor(rng.standard_normal((8, 2)) / 4, requires_grad=True)
    b2 = Tensor(np.zeros(2), requires_grad=True)

    for step in range(201):
        logits = F.linear(F.linear(x, w1, b1).tanh(), w2, b2)  # (4, 2)
        loss = F.cross_entropy(logits, targets)
        loss.backward()  # adds dL/dw to w.grad, for every w with requires_grad

        if step in (0, 50, 100, 200):
            lengths = [np.linalg.norm(w.grad) for w in (w1, w2)]
            print(f"step {step:4}: loss {loss.item():.4f}, ", end="")
            print("|dw1| {:.4f}, |dw2| {:.4f}".format(*lengths))

        for w in (w1, b1, w2, b2):
            w.data -= 0.5 * w.grad
            w.grad = None  # or the next backward() would add to it

    answers = logits.data.argmax(axis=-1)
    print(", ".join(f"{p:.0f} xor {q:.0f} = {y}" for (p, q), y in zip(x, answers, strict=True)))


if __name__ == "__main__":
    main()
