"""An op as it stands, on a GPU, where it has no kernel, or none for the arrays that came."""

from __future__ import annotations

from .. import ops


def by_the_op(op, inputs, options=None):
    """op(*inputs, **options), in float32 where arrays have 16 bits: too few for sums, which it
    would keep in them, and einsum takes no bfloat16."""
    options = options or {}
    if not any(map(is_short, inputs)):
        return op(*inputs, **options)
    dtypes = [None if x is None else x.dtype for x in inputs]
    wide = [x.astype("float32") if is_short(x) else x for x in inputs]
    y, backward_of_op = op(*wide, **options)
    several = isinstance(y, tuple)
    ys = y if several else (y,)
    computed_in = ys[0].dtype

    def backward(*dys):
        gradients = backward_of_op(*[dy.astype(computed_in, copy=False) for dy in dys])
        pairs = zip(gradients, dtypes, strict=False)  # inputs that were not given have none
        return tuple(None if g is None else g.astype(d, copy=False) for g, d in pairs)

    ys = tuple([y.astype(dtypes[0], copy=False) for y in ys])
    return ys if several else ys[0], backward


def combine(x, gates, order):
    """The twin of ops.combine."""
    return by_the_op(ops.combine, (x, gates, order))


def is_short(x):
    """Whether x, which may be None, has 16 bits."""
    return x is not None and x.dtype.itemsize == 2
