"""A recorded step, played with other numbers in memory, gives the bits of ordinary training."""

import contextlib
import functools
import gc
import inspect
import unittest.mock
import weakref

import numpy as np
import pytest
from emulation import Recording, to_gpu
from twin_checks import stored_as

from tinygpt import GPT, SGD, AdamW, GPTConfig, Muon, accumulate_gradients, backend
from tinygpt.backend import to_numpy
from tinygpt.kernels import Feed, LossScale, graph, precision
from tinygpt.optim import warmup_cosine
from tinygpt.recorded_step import RecordedStep

CONFIGS = {  # "as Llama" learns by Muon, the others by AdamW
    "GPT-2": {"dropout": 0.2},
    "nanoGPT's": {"dropout": 0.2, "bias": False, "activation": "gelu"},
    "as Llama": {
        "position": "rope", "norm": "rms_norm", "activation": "swiglu", "n_kv_head": 1,
        "bias": False, "tie_weights": False,
    },
    "as Qwen 3": {
        "position": "rope", "norm": "rms_norm", "qk_norm": True, "qk_norm_weight": True,
        "head_dim": 64, "logit_softcap": 5.0, "remat": True, "n_layer": 2,
    },
}  # fmt: skip


SIZES = {"vocab_size": 61, "block_size": 20, "n_layer": 1, "n_head": 2, "n_embd": 64}


def train(name, dtype, recorded, steps):
    """The losses and norms of all steps, and the weights and moments at the end."""
    model = GPT(GPTConfig(**{**SIZES, **CONFIGS[name]}), device="cuda")
    optimizer = (Muon if name == "as Llama" else AdamW)(model.parameters(), lr=1e-2)
    scale = LossScale(optimizer.data) if dtype == "float16" else None
    step = RecordedStep(model, optimizer, 0.1, scale)
    batches = np.random.default_rng(0).integers(0, 61, (steps, 2, 2, 19))
    batches[:, 1, 0, :5] = -1
    seen = []
    for i, (ids, targets) in enumerate(batches):
        rng, lr_scale = (7, i), warmup_cosine(i, steps + 2, 1)
        if recorded:
            loss, norm = step(ids, targets, rng, lr_scale)
        else:
            value = None if scale is None else scale.value
            loss = accumulate_gradients(model.loss, ids, targets, rng, 1, value)
            norm = optimizer.clip_grad_norm(0.1, scale)
            optimizer.step(lr_scale)
            optimizer.zero_grad()
        seen += [loss, norm]
    assert optimizer.steps == steps
    arrays = [*seen, optimizer.data, optimizer.exp_avg, optimizer.exp_avg_sq]
    return [to_numpy(a) for a in arrays]


@functools.cache
def ordinary(emulated, name, dtype, steps):
    """Ordinary training, once for each."""
    return train(name, dtype, False, steps)


def assert_same_bits(cuda, name, dtype, steps=4):
    if dtype == "bfloat16":
        stored_as(dtype)
    with cuda.running(order=1), precision(dtype):
        expected, actual = (
            ordinary(cuda.emulated, name, dtype, steps),
            train(name, dtype, True, steps),
        )
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("nanoGPT's", "bfloat16"),
        ("GPT-2", "float32"),
        ("GPT-2", "float16"),
        ("as Llama", "bfloat16"),
        ("as Qwen 3", "bfloat16"),
        pytest.param("as Llama", "tf32", marks=pytest.mark.slow),
    ],
)
def test_the_bits_of_ordinary_training(cuda, name, dtype):
    assert_same_bits(cuda, name, dtype)


def test_what_is_recorded_again(cuda):
    """Another shape, another precision; and a wrong batch is an error as before."""
    with cuda.running():
        model = GPT(GPTConfig(11, 8, n_layer=1, n_head=1, n_embd=32), device="cuda")
        optimizer = AdamW(model.parameters())
        step = RecordedStep(model, optimizer, 1.0)
        ids = np.arange(16).reshape(2, 8) % 11
        before = np.inf
        for batch in (ids, ids, ids, ids[:, :5], ids[:, :5], ids, ids):
            loss, _ = step(batch, batch)
            assert to_numpy(loss) < before
            before = to_numpy(loss)
        with precision("tf32"):
            step(ids, ids)
        assert optimizer.steps == 8
        for wrong, message in (
            ((ids + 9, ids), "ids holds 11"),
            ((ids, ids - 2), "targets holds -2"),
            ((ids, ids[:, :5]), "shape"),
            ((ids, ids * 0 - 1), "every target is -1"),
        ):
            with pytest.raises(ValueError, match=message):
                step(*wrong)


def test_a_recorded_step_waits_for_nothing(cuda):
    with cuda.running(), precision("tf32"):
        model = GPT(GPTConfig(11, 8, n_layer=1, n_head=1, n_embd=32, dropout=0.2), device="cuda")
        step = RecordedStep(model, AdamW(model.parameters()), 1.0)
        ids = np.arange(16).reshape(2, 8) % 11
        for i in range(4):  # the first two compile and record
            with cuda.not_waiting() if i > 1 else contextlib.nullcontext():
                loss, norm = step(ids, ids, (0, i))
        assert np.isfinite([to_numpy(loss), to_numpy(norm)]).all()


def test_only_adamw_and_muon_on_a_gpu(cuda):
    model = GPT(GPTConfig(11, 8, n_layer=1, n_head=1, n_embd=32))
    with pytest.raises(ValueError, match="only AdamW or Muon over float32 parameters on a GPU"):
        RecordedStep(model, AdamW(model.parameters()), 1.0)
    with cuda.running():
        model = GPT(model.config, device="cuda")
        with pytest.raises(ValueError, match="only AdamW or Muon"):
            RecordedStep(model, SGD(model.parameters()), 1.0)


@pytest.mark.parametrize("options", [{"window": 4}, {"head_dim": 48}, {"n_embd": 34}], ids=str)
def test_what_is_left_to_ops_that_multiply_is_not_recorded(cuda, options):
    """CuPy's products cannot be part of a graph, only ours."""
    with cuda.running():
        sizes = {"n_layer": 1, "n_head": 1, "n_embd": 32}
        model = GPT(GPTConfig(11, 8, **{**sizes, **options}), device="cuda")
        step, ids = RecordedStep(model, AdamW(model.parameters()), 1.0), np.ones((1, 8), int)
        step(ids, ids, 0)
        with pytest.raises(RuntimeError, match=r"cannot be recorded \(.*\); leave out --graph"):
            step(ids, ids, 1)


def test_no_mixture_of_experts(cuda):
    with cuda.running():
        model = GPT(GPTConfig(11, 8, n_layer=1, n_head=1, n_embd=32, n_expert=2), device="cuda")
        with pytest.raises(ValueError, match="mixture of experts cannot be recorded"):
            RecordedStep(model, AdamW(model.parameters()), 1.0)


# ---- planted bugs -------------------------------------------------------------------------------


def a_key_that_stays(patch):
    patch(Feed, "key", lambda feed, words: feed.place(graph.philox_key(words)))


def every_layer_draws_alike(patch):
    patch(Feed, "key", lambda feed, words, key=Feed.key: key(feed, words[:-1]))


def a_key_of_the_step_before(patch):
    send = Feed.send
    patch(Feed, "send", lambda feed, rng: send(feed, (rng[0], rng[1] - 1)))


def nothing_is_sent(patch):
    sent = []
    send = Feed.send
    patch(Feed, "send", lambda *a: None if sent else sent.append(send(*a)))


def a_batch_that_stays(patch):
    def place(feed, array, place=Feed.place):
        return place(feed, array.copy() if array.dtype == "int64" else array)

    patch(Feed, "place", place)


def a_learning_rate_that_stays(patch):
    def place(feed, array, place=Feed.place):
        return place(feed, array.copy() if array.dtype == "float32" else array)

    patch(Feed, "place", place)


def a_step_that_is_not_counted(patch):
    def count_step(optimizer, lr_scale, count_step=AdamW.count_step):
        optimizer.steps = max(optimizer.steps - 1, 0)
        count_step(optimizer, lr_scale)

    patch(AdamW, "count_step", count_step)


def a_schedule_that_is_not_followed(patch):
    count_step = AdamW.count_step
    patch(AdamW, "count_step", lambda optimizer, lr_scale: count_step(optimizer, 1.0))


def memory_that_others_get(patch):
    def play(recording, play=Recording.play):
        play(recording)
        recording.forget()

    patch(Recording, "play", play)


BUGS = [
    a_key_that_stays,
    every_layer_draws_alike,
    a_key_of_the_step_before,
    nothing_is_sent,
    a_batch_that_stays,
    a_learning_rate_that_stays,
    a_step_that_is_not_counted,
    a_schedule_that_is_not_followed,
    memory_that_others_get,
]


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(emulator, monkeypatch, bug):
    stand_in = type("cupy", (), {"asarray": staticmethod(to_gpu)})
    monkeypatch.setattr(backend, "cupy", lambda: stand_in)
    with emulator.running(order=1), precision("float32"):
        ordinary(True, "nanoGPT's", "float32", 3)  # without the bug
    bug(monkeypatch.setattr)
    with pytest.raises(AssertionError):
        assert_same_bits(emulator, "nanoGPT's", "float32", steps=3)


# ---- what CuPy is told --------------------------------------------------------------------------


class CuPy:
    """Notes what it is asked for."""

    def __init__(self):
        self.cuda, self.told, self.inside = self, [], []
        self.runtime = unittest.mock.Mock()

    def get_default_memory_pool(self):
        return self

    def free_all_blocks(self):
        self.told.append("free")

    def stream(self):
        stream = unittest.mock.MagicMock()
        stream.__enter__ = lambda _: self.inside.append("stream")
        stream.__exit__ = lambda *_: self.inside.remove("stream")
        stream.begin_capture = lambda: self.told.append("begin")
        stream.end_capture = lambda: self.told.append("end") or self
        return stream

    class MemoryPool:
        def malloc(self, size):
            raise NotImplementedError

    @contextlib.contextmanager
    def using_allocator(self, malloc):
        self.pool = weakref.ref(malloc.__self__)
        self.inside.append("pool")
        yield
        self.inside.remove("pool")

    def launch(self):
        self.told.append("launch")


def check_capture(source):
    """By the function whose text this is."""
    cupy = CuPy()
    names = {**vars(graph), "cupy": lambda: cupy}
    names["_recording_stream"] = lambda device: cupy.stream()
    names["cublas_handle"] = lambda: cupy.told.append("cuBLAS")
    exec(source, names)

    def f():
        cupy.told.append(tuple(cupy.inside))
        return "result"

    result, play = names["_by_capture"](f)
    assert cupy.told == ["free", "cuBLAS", "begin", ("stream", "pool"), "end"]
    assert result == "result"
    gc.collect()
    assert cupy.pool() is not None  # or the memory of the graph could go to others
    play()
    play()
    assert cupy.told[-2:] == ["launch", "launch"]
    assert cupy.inside == []


def test_how_cupy_captures():
    check_capture(inspect.getsource(graph._by_capture))


def test_a_capture_that_fails_ends(monkeypatch):
    cupy = CuPy()
    monkeypatch.setattr(graph, "cupy", lambda: cupy)
    monkeypatch.setattr(graph, "_recording_stream", lambda device: cupy.stream())
    monkeypatch.setattr(graph, "cublas_handle", lambda: None)
    with pytest.raises(ZeroDivisionError):
        graph._by_capture(lambda: 1 / 0)
    assert cupy.told == ["free", "begin", "end"]


@pytest.mark.parametrize(
    ("line", "bug"),
    [
        ("cublas_handle()  #", "pass  #"),
        ("with stream, cuda.using_allocator(pool.malloc):", "with stream:"),
        ("with stream, cuda", "with cuda"),
        ("play.kept = pool", "play.kept = None"),
    ],
)
def test_a_wrong_capture_is_caught(line, bug):
    source = inspect.getsource(graph._by_capture)
    assert source.count(line) == 1
    with pytest.raises(AssertionError):
        check_capture(source.replace(line, bug))
