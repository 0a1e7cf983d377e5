"""Wrong kernels, a line changed in each, and each caught: our checks of kernels can fail.

A row names the file, a text after which the line stands, the line, the line with the bug, and the
check that has to turn red in some order of the threads.
"""

import functools

import numpy as np
import pytest
from emulation import PROGRAMS, build, name_of, to_gpu
from twin_checks import CASES, check_muon, check_rounded_sum, check_sums, check_twin

from tinygpt import kernels, ops


@functools.cache
def case(name, dtype="float32"):
    return functools.partial(check_case, name, dtype)


def check_case(name, dtype, device, order):
    check_twin(device, *CASES[name], dtype, order)


@functools.cache
def sums(name):
    return functools.partial(check_sums_of, name)


def check_sums_of(name, device, order):
    check_sums(device, name, order=order)


@functools.cache
def rounded_sum(op):
    return functools.partial(check_rounded_sum_of, op)


def check_rounded_sum_of(op, device, order):
    check_rounded_sum(device, op, order)


def adamw(device, order):
    with device.running(order):
        arrays = [to_gpu(np.ones(300, "float32")) for _ in range(4)]
        kernels.adamw(*arrays, to_gpu(np.ones(3, "float32")), 0.5, 0.5, 0.5)


muon = check_muon


def square_sum(device, order):
    with device.running(order):
        assert kernels.square_sum(to_gpu(np.ones(1000, "float32"))) == 1000


SYNC = "__syncthreads();"
FORWARD = "attention_forward("
KEYS, QUERIES = "attention_backward_kv(", "attention_backward_q("
BACK = "layer_norm_backward("
causal, dropped = case("attention"), case("attention with dropout")
few, many = case("attention, few keys"), case("attention, many keys")
tensor_cores = case("attention", "bfloat16")
one_id = case("embedding of one id")

BUGS = [
    # attention, forward: barriers and copies
    ("attention", FORWARD, SYNC, ";", many),
    ("attention", "product_nn<COLUMNS>(o, p", SYNC, ";", many),
    ("attention", FORWARD, "copies_wait<1>();", "copies_wait<2>();", many),
    ("attention", "DEVICE void load_keys", "j % 2 * COLUMNS * D",
     "(j > 0 ? j - 1 : 0) % 2 * COLUMNS * D", many),
    # masks, tails, sums that grow tile by tile
    ("attention", FORWARD, "8 * n + 2 * t + i < edge", "true", causal),
    ("attention", FORWARD, "query + offset + 1", "query + offset", causal),
    ("attention", FORWARD, "sum[r] *= shrink;", ";", many),
    ("attention", FORWARD, "o[n][2 * r] *= shrink;", ";", many),
    ("attention", FORWARD, "top == -INFINITY ? 0 : top", "top", few),
    ("attention", FORWARD, "if (sum[r] == 0) sum[r] = 1;", ";", few),
    ("attention", FORWARD, "h / (H / G)", "h % G", dropped),
    ("attention", "DEVICE void load_tile", "min(first + row, n - 1)", "min(first + row, n)",
     causal),
    ("attention", "DEVICE void store_rows", "if (row >= n) continue;", ";", causal),
    # the tensor cores: who holds what
    ("attention", "DEVICE void product_nt", "lane / 8 % 2", "lane / 16", tensor_cores),
    ("attention", "DEVICE void product_nn", "16 * k + lane % 16", "lane % 16", tensor_cores),
    ("attention", "DEVICE void product_nn", "p[2 * k + 1][2]", "p[2 * k + 1][0]", tensor_cores),
    # dropout in attention
    ("attention", "DEVICE void philox", "block + 1", "block", dropped),
    ("attention", "DEVICE unsigned kept_from", "(16 - skip)", "skip", dropped),
    ("attention", "drop_rows_are_queries", "i / 2 * 8 + 2 * t + c", "i * 4 + 2 * t + c", dropped),
    ("attention", "drop_rows_are_queries", "drawn[r * RUNS / 4]", "drawn[0]", dropped),
    ("attention", "drop_rows_are_keys", "kept >> (g + 8) & 1", "kept >> g & 1", dropped),
    ("attention", "x * (y - delta_q)", "if (threshold) drop_rows_are_keys(p, dropout, element, S, "
     "keep_scale);", ";", dropped),
    # attention, backward
    ("attention", QUERIES, "t == 0 && row < T", "t == 0", causal),
    ("attention", QUERIES, "delta_q[r] += __shfl_xor_sync(WHOLE_WARP, delta_q[r], 2);", ";",
     causal),
    ("attention", KEYS, SYNC, ";", causal),
    ("attention", "product_nn<COLUMNS>(dk_rows", SYNC, ";", dropped),
    ("attention", KEYS, "copies_wait<1>();", "copies_wait<2>();", causal),
    ("attention", KEYS, "key <= query + offset", "key < query + offset", causal),
    ("attention", KEYS, "query < T ? l_now[column] : INFINITY", "l_now[0]", causal),
    ("attention", KEYS, "x * (y - delta_q)", "x * y", causal),
    ("attention", KEYS, "max(row0 - offset, 0)", "max(row0 + 1 - offset, 64)", causal),
    ("attention", KEYS, "group * R + j / tiles", "group * R", dropped),
    ("attention", QUERIES, SYNC, ";", many),
    ("attention", "product_nn<COLUMNS>(dq_rows", SYNC, ";", many),
    ("attention", QUERIES, "query + offset + 1", "query + offset + 2", causal),
    ("attention", KEYS, "store_rows(dv, dv_rows, row0 + warp_row, S, step, 1, 1);",
     "store_rows(dv, dv_rows, row0 + warp_row, S, G * D, 1, 1);", causal),
    ("attention", "product_nn<COLUMNS>(dk_rows", "(size_t)b * S * step", "(size_t)b * S * G * D",
     causal),
    ("attention", "product_nn<COLUMNS>(dq_rows", "(size_t)b * T * step", "(size_t)b * T * H * D",
     causal),
    # norms
    ("layer_norm", BACK, SYNC, ";", case("layer_norm, more rows")),
    ("layer_norm", BACK, "min(first + ROWS, N)", "first + ROWS", case("layer_norm, more rows")),
    ("layer_norm", BACK, "store4(db + c, zeros);", ";", case("layer_norm")),
    ("layer_norm", BACK, "sums[2 * i * C + c]", "sums[c]", case("layer_norm")),
    ("layer_norm", "layer_norm_forward(", "if (row >= N) return;", ";", case("layer_norm")),
    ("layer_norm", "layer_norm_forward(", "c < C", "c < C - 4", case("layer_norm")),
    ("layer_norm", "layer_norm_backward(", "dx_hat - average", "dx_hat", case("layer_norm")),
    ("layer_norm", "float warp_sum", "o > 0", "o > 1", case("layer_norm")),
    ("rms_norm", "rms_norm_backward(", SYNC, ";", case("rms_norm")),
    ("rms_norm", "rms_norm_backward(", "row += warps", "row += warps + 1", case("rms_norm")),
    ("rms_norm", "rms_norm_backward(", "x_hat * along", "along", case("rms_norm")),
    ("layer_norm", "layer_norm_backward(", "ds + at + c", "ds + c", case("add_layer_norm")),
    ("rms_norm", "rms_norm_backward(", "if (ds) add4(g, ds + at + c);", ";", case("add_rms_norm")),
    ("layer_norm", "layer_norm_forward(", "h + at + c", "h + c", case("add_layer_norm")),
    ("rms_norm", "rms_norm_forward(", "h + at + c", "h + c", case("add_rms_norm")),
    ("layer_norm", "layer_norm_forward(", "if (h) x = sum;", ";", case("add_layer_norm")),
    ("rms_norm", "rms_norm_forward(", "if (h) x = sum;", ";", case("add_rms_norm")),
    ("layer_norm", "layer_norm_backward(", "dh + at + c", "dh + c",
     rounded_sum(ops.add_layer_norm)),
    ("rms_norm", "rms_norm_backward(", "dh + at + c", "dh + c",
     rounded_sum(ops.add_rms_norm)),
    # what is there already, and is added to
    ("sums", "sum_parts(", "old ? to_float(y[c]) : 0", "sum", sums("linear")),
    ("sums", "sum_parts(", SYNC, ";", case("layer_norm, more rows")),
    ("sums", "sum_parts(", "p += rows", "p = P", case("layer_norm, more rows")),
    ("sums", "sum_parts(", "(size_t)p * step", "(size_t)p * C", case("layer_norm, more rows")),
    ("embedding", "DEVICE void add(", "to_float(*p) + x", "x", sums("embedding of one id")),
    # activations: the tail
    ("gelu", "DEVICE void each(", "i + 4 <= n", "i < n", case("gelu")),
    ("gelu", "DEVICE void each_backward(", "i < n", "i + 1 < n", case("gelu")),
    # embedding: runs of equal ids
    ("embedding", "embedding_backward(", "chunk > 0 && sorted[first - 1] == sorted[first]",
     "false", one_id),
    ("embedding", "embedding_backward(", "goes_on && i + 1 < end", "goes_on", one_id),
    ("embedding", "embedding_backward_join(", "if (sorted[first] == id && chunk > 0 && "
     "sorted[first - 1] == id) return;", ";", one_id),
    # cross-entropy
    ("cross_entropy", "\ncross_entropy(", SYNC, ";", case("linear_cross_entropy")),
    ("cross_entropy", "Softmax join", "largest == -INFINITY", "false", case("cross_entropy")),
    ("cross_entropy", "\ncross_entropy(", "j + i == target", "false", case("cross_entropy")),
    ("cross_entropy", "\ncross_entropy(", "target == ignore_index", "false",
     case("cross_entropy, none counted")),
    ("cross_entropy", "void get4(", "even && j + 4 <= V", "even", case("linear_cross_entropy")),
    ("cross_entropy", "void put4(", "j + i < V", "true", case("cross_entropy")),
    ("cross_entropy", "\nmean_loss(", SYNC, ";", case("linear_cross_entropy")),
    ("cross_entropy", "\nmean_loss(", "targets[i] != ignore_index", "1",
     case("linear_cross_entropy")),
    # dropout
    ("dropout", "void dropout(", "at >= 0", "true", case("dropout")),
    ("dropout", "void dropout(", "element % 16", "lane", case("dropout")),
    # the optimizer
    ("adamw", "void adamw(", "i >= n", "false", adamw),
    ("muon", "void running_gradient(", "i >= n", "false", muon),
    ("muon", "void running_gradient(", "u[i] = g[i] + momentum * m[i]", "u[i] = m[i]", muon),
    ("muon", "void unit(", "sqrtf(*square_sum)", "*square_sum", muon),
    ("muon", "void start_round(", "i >= n * n", "i >= n", muon),
    ("muon", "void start_round(", "i / n == i % n", "i % n == 0", muon),
    ("muon", "void start_round(", "c * g[i]", "g[i]", muon),
    ("muon", "void muon(", "shrink * w[i]", "w[i]", muon),
    ("muon", "void muon(", "lr * scale", "lr", muon),
    ("sums", "column_sums(", SYNC, ";", case("linear, many rows")),
    ("sums", "column_sums(", "min(first + ROWS, N)", "min(first + ROWS, N) + 1",
     case("linear, many rows")),
    ("sums", "square_sums(", SYNC, ";", square_sum),
    ("sums", "sum_parts(", "row == 0 && c < C", "row == 0", square_sum),
]  # fmt: skip

FILES = {file for file, *_ in BUGS}


def with_switches(source, file):
    """The text of a program with all bugs of its file in it, of which gpu::bug shows one."""
    places = []
    for number, (bug_file, after, line, bug, _) in enumerate(BUGS):
        if f"{bug_file}.cu" == file:
            places.append((source.index(line, source.index(after)), number, line, bug))
    for start, number, line, bug in sorted(places, reverse=True):
        if line.endswith(";"):
            both = f"if (gpu::bug == {number}) {{ {bug} }} else {{ {line} }}"
        else:
            both = f"(gpu::bug == {number} ? ({bug}) : ({line}))"
        source = source[:start] + both + source[start + len(line) :]
    return source


def has_bugs(program):
    """bf16 is only for what float32 has not: tensor cores, and gradients rounded for products."""
    file = program.file.removesuffix(".cu")
    if file == "attention":
        return dict(program.constants)["D"] == 32
    constants = dict(program.constants)
    rounds = "norm" in file and constants == {"result": "bf16"}
    return file in FILES and program.scalar == "float" and (rounds or not constants)


@pytest.fixture(scope="module")
def wrong_library(build_folder):
    """The programs that have bugs, with all of them behind switches."""
    programs = filter(has_bugs, PROGRAMS)
    sources = {name_of(p): with_switches(p.source(), p.file) for p in programs}
    return build(sources, build_folder)


@pytest.fixture
def wrong(emulator, wrong_library):
    """An emulator of the programs with bugs."""
    emulator.library = wrong_library
    yield emulator
    wrong_library.set_bug(-1)


def check_in_all_orders(device, number):
    for order in device.orders:
        BUGS[number][-1](device, order)


@pytest.mark.parametrize(
    "number", range(len(BUGS)), ids=lambda n: f"{BUGS[n][0]}-{BUGS[n][2][:30]}"
)
def test_bug_is_caught(wrong, number):
    wrong.library.set_bug(number)
    with pytest.raises((AssertionError, RuntimeError)):
        check_in_all_orders(wrong, number)


def test_the_same_checks_pass_without_bugs(wrong):
    for check in {bug[-1] for bug in BUGS}:
        check(wrong, 0)
