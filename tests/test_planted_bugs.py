"""Wrong versions of our code, a line changed in each, and each caught: our checks can fail.

A row names the file, the line as it is, the line with the bug, and the check that has to turn red.
"""

import numpy as np
import pytest
from model_checks import growing, llama3_scaling, mixture, mixture_gradients, rolling, sinks
from op_checks import (
    assert_close,
    check_dtypes,
    check_gradient,
    check_leaves_inputs_alone,
    check_value,
    op_of,
    run,
    with_dtype,
)
from planting import plant
from tape_checks import added, gathered, in_turn, parts, table, tape

from tinygpt.cases import cases


def gradient(case):
    check_gradient(case.f, *case.arrays, allow_zero=case.allow_zero)


def value(case):
    check_value(case.f, *case.arrays)


def inputs(case):
    check_leaves_inputs_alone(case.f, *case.arrays)


def dtype(case):
    check_dtypes(case.f, *case.arrays)


def single(case):
    """y in float32 is y, but for float32's rounding."""
    f, arrays = with_dtype(case.f, case.arrays, "float32")
    assert_close(f(*arrays)[0], case.f(*case.arrays)[0], 1e-6)


def shifted(case):
    """Scores that are all larger by thousands, by others in every row, say the same."""
    first, *others = case.arrays
    if "linear" in case.name or "attention" in case.name:
        others[0] = others[0] + 1000  # so each score of a row x gets 1000 sum(x)
    else:
        axis = getattr(case.f, "keywords", {}).get("axis", -1)
        rows = first.max(axis=axis, keepdims=True).shape
        first = first + 1000 * np.arange(np.prod(rows)).reshape(rows)
    assert_close(case.f(first, *others)[0], case.f(*case.arrays)[0], 1e-9)


def ties(case):
    """In a tie the winners share dy: what they get adds up to it."""
    if case.name.startswith("max"):
        _, dys, gradients = run(case.f, np.round(case.arrays[0]))
        assert np.isclose(np.sum(gradients[0]), np.sum(dys[0]))


# ---- the bugs ----------------------------------------------------------------------------------

ATTENTION = "ops.scaled_dot_product_attention"
SLIDING = "ops.sliding_window_attention"
BUGS = [
    # sums and products
    ("ops.arithmetic", "unbroadcast(-dy, b_shape)", "unbroadcast(dy, b_shape)", gradient),
    ("ops.arithmetic", "unbroadcast(dy * b, a_shape", "unbroadcast(dy * a, a_shape", gradient),
    ("ops.arithmetic", "-da * y", "-da * b", gradient),
    ("ops.arithmetic", "unbroadcast(dy * b * a ** (b - 1)", "unbroadcast(dy * b * a**b", gradient),
    ("ops.arithmetic", "da, db = dy * b * a", "da, db = dy * (b - 1) * a", gradient),
    ("ops.arithmetic", "(b - 1), dy * y * log_a", "(b - 1), dy * log_a", gradient),
    ("ops.arithmetic", "return (-dy,)", "return (np.negative(dy, out=dy),)", inputs),
    ("ops.broadcast", "i + extra for i, n", "i for i, n", gradient),
    ("ops.broadcast", "dy.sum(axis=", "dy.mean(axis=", gradient),
    ("ops.matmul", "unbroadcast(dy @ b.swapaxes(-1, -2)", "unbroadcast(dy @ b", gradient),
    ("ops.matmul", "a.swapaxes(-1, -2) @ dy", "-a.swapaxes(-1, -2) @ dy", gradient),
    ("ops.matmul", "da.reshape(a.shape)), db", "da.reshape(a.shape)), db / len(a)", gradient),
    ("ops.linear", "dx = (dy @ w.T)", "dx = (dy @ w.reshape(w.shape[::-1]))", gradient),
    ("ops.linear", "np.ones_like(dy, shape=len(dy)) @ dy", "dy[1:].sum(axis=0)", gradient),
    ("ops.linear", "np.ones_like(dy, shape=len(dy)) @ dy", "np.ones(len(dy)) @ dy", dtype),
    # functions of one number
    ("ops.pointwise", "dy / x", "dy * x", gradient),
    ("ops.pointwise", "1 - y * y", "1 - y", gradient),
    ("ops.pointwise", "dy * y * (1 - y)", "dy * (1 - y)", gradient),
    ("ops.pointwise", "y > 0", "y >= 0", gradient),
    ("ops.pointwise", "dx *= 2", "dx *= 1", gradient),
    ("ops.pointwise", "dx *= y\n", "dx *= s\n", gradient),
    ("ops.pointwise", "1 - share * share", "1 - y * y", gradient),
    ("ops.pointwise", "y = y * cap", "pass", value),
    ("ops.pointwise", "return (dy * y,)", "return (np.multiply(dy, y, out=dy),)", gradient),
    ("ops.gelu", "dx *= 6 * K * A", "dx *= 2 * K * A", gradient),
    ("ops.gelu", "dx *= 1 - gate", "dx *= gate", gradient),
    ("ops.gelu", "dx *= -0.5", "dx *= -1", gradient),
    ("ops.gelu", "0.044715", "0.04715", value),
    ("ops.gelu", "0.700383064443688", "0.700386034443688", value),
    ("ops.gelu", "0.0363330844", "0.0336330844", single),
    ("ops.gelu", "P *= x\n", "P *= x2\n", single),
    ("ops.gelu", "dx += P", "dx[...] = np.add(P, dx, out=P)", inputs),
    # many numbers into one
    ("ops.reductions", "_with_axes(dy / n,", "_with_axes(dy,", gradient),
    ("ops.reductions", "n = x.size / y.size", "n = np.divide(x.size, y.size)", dtype),
    ("ops.reductions", "won * _with_axes", "_with_axes", gradient),
    ("ops.reductions", "won /= won.sum(axis=axis, keepdims=True)", "pass", ties),
    ("ops.reductions", "{a % len(shape) for", "{a for", gradient),
    # moving numbers
    ("ops.shapes", "dy.reshape(old)", "dy.reshape(old, order='F')", gradient),
    ("ops.shapes", "dy.transpose(inverse)", "dy.transpose(axes)", gradient),
    ("ops.shapes", "if _takes_each_once(key):", "if True:", gradient),
    ("ops.shapes", "dy.reshape(-1), minlength", "dy.T.reshape(-1), minlength", gradient),
    ("ops.shapes", "slice(end - n, end)", "slice(end - n, end - n + sizes[0])", gradient),
    ("ops.shapes", "split(dy, sizes, axis)", "split(dy, sizes[::-1], axis)", gradient),
    ("ops.shapes", "np.concatenate(dys, axis", "np.concatenate(dys[::-1], axis", gradient),
    ("ops.shapes", "np.where(condition, dy, 0.0)", "np.where(condition, 0.0, dy)", gradient),
    ("ops.embedding", "dw[used] = hot @ dy", "dw[ids.reshape(-1)] += dy", gradient),
    ("ops.dispatch", "copies[order] = dy", "copies[...] = dy", gradient),
    ("ops.dispatch", "C).sum(axis=1)", "C).mean(axis=1)", gradient),
    ("ops.dispatch", "x[order // k]", "x[order % N]", value),
    ("ops.dispatch", "copies[order] = x", "copies = x[order]", value),
    ("ops.dispatch", "gates[:, :, None] * dy", "dy", gradient),
    ("ops.dispatch", "-1)[order]", "-1)", gradient),
    # probabilities
    ("ops.softmax", "dx -= y * dx.sum(axis=axis, keepdims=True)", "dx *= 0", gradient),
    ("ops.softmax", "dx -= y * dx.sum(axis=axis, keepdims=True)", "pass", gradient),
    ("ops.softmax", "dx -= y * dx.sum(axis=axis", "dx -= y * dx.sum(axis=-1", gradient),
    ("ops.softmax", "x - x.max(axis=axis, keepdims=True)", "x.copy()", shifted),
    ("ops.softmax", "x - x.max(axis=axis, keepdims=True)", "x - x.max()", shifted),
    ("ops.log_softmax", "dx = np.exp(y)", "dx = y.copy()", gradient),
    ("ops.log_softmax", "dx = np.exp(y)", "dx = np.exp(y, out=y)", inputs),
    ("ops.log_softmax", "x - x.max(axis=axis, keepdims=True)", "x.copy()", shifted),
    ("ops.log_softmax", "x - x.max(axis=axis, keepdims=True)", "x - x.max()", shifted),
    ("ops.cross_entropy", "rows.max(axis=-1, keepdims=True)", "rows.max()", shifted),
    ("ops.linear_cross_entropy", "e.max(axis=-1, keepdims=True)", "e.max()", shifted),
    ("ops.cross_entropy", "np.maximum(counted.sum(), 1)", "len(ids)", value),
    ("ops.cross_entropy", "dloss / n)", "dloss / len(ids))", gradient),
    ("ops.cross_entropy", "scale = counted *", "scale = np.ones_like(counted) *", gradient),
    ("ops.cross_entropy", "dlogits[at] -= scale", "dlogits[at] -= 1", gradient),
    ("ops.cross_entropy", "np.maximum(counted.sum(), 1)", "np.int64(2)", dtype),
    ("ops.linear_cross_entropy", "e[at] -= total", "e[at] -= 1", gradient),
    ("ops.linear_cross_entropy", "scaled = rows * factor", "scaled = rows", gradient),
    ("ops.linear_cross_entropy", "(e @ w) * factor", "np.multiply(e, factor, out=e) @ w", inputs),
    # norms, dropout, rope
    ("ops.layer_norm", "np.full_like(x, 1 / C, shape=C)", "np.full(C, 1 / C)", dtype),
    ("ops.layer_norm", "dx -= mean", "pass", gradient),
    ("ops.layer_norm", "dx -= x_hat * along", "pass", gradient),
    ("ops.layer_norm", "dx *= r_std", "pass", gradient),
    ("ops.layer_norm", "np.multiply(dy, w, out=dx)", "np.multiply(dy, 1, out=dx)", gradient),
    ("ops.rms_norm", "x_hat * -along", "x_hat * 0 * along", gradient),
    ("ops.rms_norm", "else dy * w", "else +dy", gradient),
    ("ops.residual", "sum(dx), dw, db", "sum(ds), dw, db", gradient),
    ("ops.residual", "sum(dx), dw\n", "sum(dx - ds), dw\n", gradient),
    ("ops.dropout", "drop(dy)", "drop(dy) * keep_mask(x.shape, p, 7)", gradient),
    ("ops.dropout", "drop(dy)", "dy * keep", gradient),
    ("ops.dropout", "y *= 1 / (1 - p)", "pass", value),
    ("ops.dropout", "bits[skip : skip + n]", "bits[:n]", parts),
    ("ops.rope", "_rotate(dy, cos, -sin)", "_rotate(dy, cos, sin)", gradient),
    ("ops.rope", "y1 -= x2 * sin", "y1 -= y2 * sin", value),
    # attention
    (ATTENTION, "1 / math.sqrt(D)", "1", value),
    (ATTENTION, "_times(scale, kT)", "_times(1, kT)", value),
    (ATTENTION, "qs = qs * scale", "pass", value),
    (ATTENTION, "qs = q.reshape(B, G, R, T, D)\n        vT", "vT", gradient),
    (ATTENTION, "_times(scale, v.", "_times(1, v.", gradient),
    (ATTENTION, "ds.swapaxes(-1, -2) @", "ds.swapaxes(-1, -2) * scale @", gradient),
    (ATTENTION, "ds -= (dy_block * y_block)", "ds -= 0 * y_block", gradient),
    (ATTENTION, "(scale * ones[:1]", "(ones[:1]", gradient),
    (ATTENTION, "drop(dy_block @ vT[..., keys], rows, keys)", "dy_block @ vT[..., keys]", gradient),
    (ATTENTION, "drop(p, rows, keys).swap", "p.swap", gradient),
    (ATTENTION, "dk[:, :, keys] += dk_block", "dk[:, :, keys] = dk_block", gradient),
    (ATTENTION, "ds *= p", "ds *= np.where(p > 0, p, 1)", gradient),
    (ATTENTION, "ds *= p", "ds = np.multiply(ds, p, out=p)", inputs),
    (ATTENTION, "ds.swapaxes(-1, -2) @ q_block",
     "ds[:, :, :T].swapaxes(-1, -2) @ q_block[:, :, :T]", gradient),
    (ATTENTION, "keys, p in rev", "keys, _ in rev", gradient),
    (ATTENTION, "offset = H // G, S - T", "offset = H // G, 0", value),
    (ATTENTION, "start + offset - edge, d", "start + offset - edge + 1, d", value),
    (ATTENTION, "s -= np.maximum(largest, lowest)", "s -= largest", value),
    (ATTENTION, "lowest)[:, None]", "lowest).max()", shifted),
    (SLIDING, "- window + 1, rows", "- window + 2, rows", value),
    (SLIDING, "begin > sinks else 0", "begin > 0 else 0", value),
    (SLIDING, "s > j - window", "s >= j - window", value),
    (SLIDING, " | (s < sinks)", "", value),
    (SLIDING, "(s <= j) & ", "", value),
    (SLIDING, "scale=scale,", "", value),
    (SLIDING, "[:, None] + S - T", "[:, None]", value),
    (SLIDING, "first * H *", "first *", value),
    (SLIDING, "(*rng, start)", "rng", value),
    (SLIDING, "dk[:, :, keys] += dk_block", "dk[:, :, keys] = dk_block", gradient),
    (SLIDING, "dv[:, :, keys] += dv_block", "dv[:, :, keys] = dv_block", gradient),
    (SLIDING, "dy[:, :, rows]", "dy[:, :, : rows.stop - rows.start]", gradient),
    # parts of the model
    ("gpt.mixture", "chosen].softmax()", "chosen] * 0.5", mixture),
    ("gpt.mixture", "chosen].softmax()", "chosen].softmax(axis=0)", mixture),
    ("gpt.mixture", "np.argsort(-to_numpy", "np.argsort(to_numpy", mixture),
    ("gpt.mixture", "argsort(chosen.reshape(-1)", "argsort(chosen.T.reshape(-1)", mixture),
    ("gpt.mixture", "counts / N", "counts / chosen.size", mixture),
    ("gpt.mixture", "= E * (scores", "= (scores", mixture),
    ("gpt.mixture", "self.router(rows)", "self.router(rows.detach())", mixture_gradients),
    ("gpt.mixture", "softmax()  # (N, k)", "softmax().detach()  # (N, k)", mixture_gradients),
    ("gpt.rope_scaling", "stays + (1 - stays)", "1 - stays + stays", llama3_scaling),
    ("gpt.rope_scaling", "/ (2 * math.pi)", "", llama3_scaling),
    ("gpt.positions", "(config.window or 0) - 1", "(config.window or 0)", sinks),
    ("gpt.positions", "np.minimum(positions, farthest)", "positions", sinks),
    ("gpt.attention", "q_sinks = F.rope(q, *turn[2:])", "q_sinks = F.rope(q, *turn[:2])", sinks),
    ("gpt.attention", "F.where(is_sink, zeros, k)", "k", sinks),
    ("gpt.attention", "[q, q_sinks]", "[q, q]", sinks),
    ("gpt.cache", "self.sinks) % self.ring", "self.sinks + 1) % self.ring", rolling),
    ("gpt.cache", "np.where(tokens < self.sinks,", "np.where(tokens < 0,", rolling),
    ("gpt.cache", "(tokens < self.sinks) | ", "", rolling),
    ("gpt.cache", "length - self.ring)", "length - self.ring + 2)", rolling),
    ("gpt.cache", "noted >= 0", "noted > 0", rolling),
    ("gpt.cache", "self._kept(starts[0] + T)", "self._kept(starts[0] + 1)", rolling),
    ("gpt.cache", "places <= asked", "places < asked", rolling),
    ("gpt.cache", "starts) + T, held.shape[3])", "starts), held.shape[3])", rolling),
    ("gpt.cache", "is not None and not self.config.endless", "is not None", rolling),
    ("gpt.cache", "stop = starts[0] + T", "stop = T", growing),
    ("gpt.cache", "= k.data, v.data", "= v.data, k.data", growing),
    # the tape
    ("tensor", "else dys[slot] + dxs[i]", "else dxs[i]", tape),
    ("tensor", "else dys[slot] + dxs[i]", "else dys[slot].__iadd__(dxs[i])", tape),
    ("tensor", "(-node.number, node)", "(node.number, node)", tape),
    ("gather", "array += numbers  #", "array[...] = numbers  #", tape),
    ("gather", "array[where] += numbers", "array[where] = numbers", tape),
    ("gather", "leaf.grad = np.zeros_like", "leaf.grad = np.ones_like", tape),
    ("tensor", "None else (node, slot)", "None else (node, 0)", tape),
    ("tensor", "dys[slot] = np.zeros(", "dys[slot] = np.ones(", tape),
    ("backward_options", "[source is not None for", "[source is None for", tape),
    ("vjp", "add_to(found[leaf], where, numbers)", "found[leaf][where] = numbers", tape),
    ("vjp", "keep_graph=True", "keep_graph=False", tape),
    ("backward_options", "isinstance(source, tuple)) for", "False) for", added),
    ("gather", "        numbers(array)\n", "        pass\n", added),
    ("gather", "array += numbers(np.zeros(", "array -= numbers(np.zeros(", added),
    ("gather", "self[leaf] + dx if", "dx if", gathered),
    ("gather", "add_to(dx, where, numbers)", "add_to(dx, where, -numbers)", gathered),
    ("gather", "array += numbers  #", "array[...] = numbers  #", in_turn),
    ("gather", "leaf.grad = np.zeros_like(leaf.data)", "leaf.grad = 1 * leaf.data", in_turn),
    ("gather", "self.last.get(leaf, 0)", "0", in_turn),
    ("gather", "default=math.inf) > number", "default=math.inf) >= 0", in_turn),
    ("ops.embedding", "[(used, hot @ dy)]", "[(used, dy[: len(used)])]", table),
    ("ops.linear_cross_entropy", "yield part, e[:, part].T", "yield part, -e[:, part].T", table),
    ("functional", "key.row * (x.size // len(x))", "key.row", parts),
    ("functional", "q.shape[2] * k.shape[2]", "q.shape[2]", parts),
]  # fmt: skip

RED = (
    AssertionError,
    TypeError,
    ValueError,
    RuntimeError,
    RuntimeWarning,
)  # not NameError: that is a typo


def check_all(path, check):
    """Check the cases of a file's ops; for a helper of ops, all; others have none."""
    own = [case for case in cases() if op_of(case).__module__ == f"tinygpt.{path}"]
    for case in own or (cases() if path.startswith("ops.") else [None]):
        check(case)


@pytest.mark.parametrize(("path", "line", "bug", "check"), BUGS, ids=lambda part: str(part)[:40])
def test_bug_is_caught(monkeypatch, path, line, bug, check):
    plant(monkeypatch, path, line, bug)
    with pytest.raises(RED):
        check_all(path, check)


@pytest.mark.parametrize(("path", "check"), sorted({(b[0], b[3]) for b in BUGS}, key=str))
def test_the_same_check_passes_without_the_bug(path, check):
    check_all(path, check)
