"""Matrix product."""

from .broadcast import unbroadcast


def matmul(a, b):
    """y = a @ b.

    a (..., M, K), b (..., K, N) -> y (..., M, N).   Saves a and b.

    y_mn = sum_k a_mk b_kn, so      da_mk = sum_n dy_mn b_kn      (dy @ b^T)
                                    db_kn = sum_m a_mk dy_mn      (a^T @ dy)

    ValueError unless the inner sizes agree. Leading axes broadcast, and their gradients are summed
    back. `needs` says which gradients are wanted: each costs a product.
    """
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(f"matmul takes matrices, not {a.shape} and {b.shape}; try x[None]")
    if b.ndim == 2 and a.ndim > 2:
        return flattened_matmul(a, b)

    def backward(dy, needs=(True, True)):
        da = unbroadcast(dy @ b.swapaxes(-1, -2), a.shape) if needs[0] else None
        db = unbroadcast(a.swapaxes(-1, -2) @ dy, b.shape) if needs[1] else None
        return da, db

    return a @ b, backward


def flattened_matmul(a, b):
    """The same where all of `a` shares one matrix b: its rows are one tall matrix, one product."""
    y, rows_backward = matmul(a.reshape(-1, a.shape[-1]), b)

    def backward(dy, needs=(True, True)):
        da, db = rows_backward(dy.reshape(-1, dy.shape[-1]), needs)
        return (da if da is None else da.reshape(a.shape)), db

    return y.reshape(*a.shape[:-1], b.shape[1]), backward
