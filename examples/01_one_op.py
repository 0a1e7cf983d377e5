"""One op beside its finite difference: the whole idea of backprop, once, with nothing hidden.

An op gives its result and a function that carries a gradient back. L is some number that depends
on y, and dy says how fast L grows with each entry of y. backward(dy) owes us the same for x.

Is it right? Nudge one entry of x up and down by eps, and see how much L changes: that is dL/dx, but
for an error that shrinks 100 times when eps shrinks 10 times. (That ends when eps is about 1e-5:
from there on the rounding of L takes over, and the error grows again.)

Prints:
    x         1.0000   2.0000   3.0000
    y         0.0900   0.2447   0.6652
    dL/dx by backward(dy)            -0.2308   0.1068   0.1240
    dL/dx by nudging x, eps=0.1      -0.2310   0.1068   0.1239   off by 2.0e-04
    dL/dx by nudging x, eps=0.01     -0.2308   0.1068   0.1240   off by 2.0e-06
    dL/dx by nudging x, eps=0.001    -0.2308   0.1068   0.1240   off by 2.0e-08
    with dy = 1 everywhere, dL/dx is 0: True
"""

import numpy as np

from tinygpt import ops


def show(what, numbers, note=""):
    print(what + "".join(f"{number:9.4f}" for number in numbers) + note)


def nudged(x, dy, eps):
    """dL/dx for L = sum(dy * y), one entry of x at a time."""
    dx = np.empty_like(x)
    for i in range(len(x)):
        step = np.zeros_like(x)
        step[i] = eps
        up, _ = ops.softmax(x + step)
        down, _ = ops.softmax(x - step)
        dx[i] = ((up - down) * dy).sum() / (2 * eps)
    return dx


def main():
    x = np.array([1.0, 2.0, 3.0])
    dy = np.array([-2.0, 1.0, 0.75])  # any will do: L = -2 y_0 + y_1 + 0.75 y_2

    y, backward = ops.softmax(x)  # y_i = e^x_i / (e^x_0 + e^x_1 + e^x_2)
    (dx,) = backward(dy)

    show("x      ", x)
    show("y      ", y)
    show("dL/dx by backward(dy)          ", dx)
    for eps in (0.1, 0.01, 0.001):
        numeric = nudged(x, dy, eps)
        off = abs(numeric - dx).max()
        show(f"dL/dx by nudging x, eps={eps:<7}", numeric, f"   off by {off:.1e}")

    # The y of a softmax add up to 1 whatever x is, so L = y_0 + y_1 + y_2 never changes: a check
    # with this dy would also pass a backward that returns nothing but zeros.
    (dx,) = backward(np.ones(3))
    print("with dy = 1 everywhere, dL/dx is 0:", np.allclose(dx, 0))


if __name__ == "__main__":
    main()
