"""Undo broadcasting."""


def unbroadcast(dy, shape):
    """Sum `dy` over every axis that broadcasting stretched, back down to `shape`.

    A value that was copied to many places has the sum of their gradients for its gradient.
    """
    if dy.shape == shape:
        return dy
    extra = dy.ndim - len(shape)
    stretched = tuple(i + extra for i, n in enumerate(shape) if n == 1)
    return dy.sum(axis=(*range(extra), *stretched), keepdims=True).reshape(shape)
