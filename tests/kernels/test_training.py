"""Training on kernels: the losses, gradients and weights of NumPy, and which kernels ran."""

import contextlib

import numpy as np
import pytest
from emulation import GPUArray
from training_script import TINY, assert_same_end, load_script, quick_ends, write_text
from twin_checks import check_muon, relative_error, stored_as

from tinygpt import GPT, AdamW, GPTConfig, Muon, accumulate_gradients, checkpoint, kernels
from tinygpt import functional as F
from tinygpt.backend import to_numpy
from tinygpt.kernels import PRECISIONS, precision
from tinygpt.kernels.launch import FOLDER
from tinygpt.nn import Parameter
from tinygpt.optim import JORDAN

CONFIGS = {
    "GPT-2": {"activation": "gelu_tanh", "dropout": 0.2},
    "as Llama": {
        "position": "rope", "norm": "rms_norm", "activation": "silu", "n_kv_head": 1,
        "qk_norm": True, "bias": False, "tie_weights": False,
    },
}  # fmt: skip


def train(device, config, steps=2, optimizer=AdamW):
    """Losses, gradients of the last step by name, norms before clipping, and weights at the end."""
    config = GPTConfig(61, 20, n_layer=1, n_head=2, n_embd=64, **config)
    model = GPT(config, rng=1, device=device)
    # eps: the gradient of a key's bias is 0, and what rounding leaves of it must stay small.
    optimizer = optimizer(model.parameters(), lr=1e-2, eps=1e-4)
    rng = np.random.default_rng(0)
    losses, norms = [], []
    for step in range(steps):
        ids, targets = rng.integers(0, 61, (2, 3, 19))
        targets[0, :5] = -1
        optimizer.zero_grad()
        losses.append(accumulate_gradients(model.loss, ids, targets, rng=(1, step)))
        norms.append(optimizer.clip_grad_norm(0.1))
        optimizer.step()
    gradients = {name: to_numpy(p.grad) for name, p in model.named_parameters()}
    return losses, norms, gradients, model.state_dict()


@pytest.mark.parametrize(("name", "optimizer"), [("GPT-2", AdamW), ("as Llama", Muon)])
def test_a_training_run_is_the_one_of_numpy(cuda, name, optimizer):
    options = (CONFIGS[name], 2, optimizer)
    losses, norms, gradients, weights = train("cpu", *options)
    with cuda.running(order=2):
        losses_on_gpu, norms_on_gpu, gradients_on_gpu, weights_on_gpu = train("cuda", *options)
    for a, e in zip(losses_on_gpu + norms_on_gpu, losses + norms, strict=True):
        assert relative_error(to_numpy(a), e) < 1e-5
    for parameter in weights:
        assert relative_error(gradients_on_gpu[parameter], gradients[parameter]) < 1e-4, parameter
        assert relative_error(weights_on_gpu[parameter], weights[parameter]) < 1e-4, parameter


def test_two_runs_give_the_same_bits(cuda):
    with cuda.running(order=1):
        first = train("cuda", CONFIGS["GPT-2"])
    with cuda.running(order=2):
        second = train("cuda", CONFIGS["GPT-2"])
    for a, e in zip(first[3].values(), second[3].values(), strict=True):
        np.testing.assert_array_equal(a, e)


def test_a_step_runs_on_kernels(cuda, monkeypatch):
    if not cuda.emulated:
        pytest.skip("the emulator says which kernels it runs")
    used = set()
    with cuda.running():
        start = kernels.launch.LAUNCHERS[GPUArray]

        def noted(program, *rest):
            used.add(program.file)
            return start(program, *rest)

        monkeypatch.setitem(kernels.launch.LAUNCHERS, GPUArray, noted)
        train("cuda", CONFIGS["GPT-2"], steps=1)
        train("cuda", CONFIGS["as Llama"], 1, Muon)
    assert used == {file.name for file in FOLDER.glob("*.cu")}


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_step_waits_for_nothing(cuda, name):
    """The ids come from the CPU, and nothing goes back: not the loss, not the norm."""
    if name == "bfloat16":
        stored_as(name)
    config = GPTConfig(61, 8, n_layer=1, n_head=1, n_embd=32, dropout=0.2)
    ids, targets = np.random.default_rng(0).integers(0, 61, (2, 2, 8))
    with cuda.running(), precision(name):
        model = GPT(config, device="cuda")
        optimizer = AdamW(model.parameters())
        for step in range(2):  # in the first one, what is compiled is looked for
            with cuda.not_waiting() if step else contextlib.nullcontext():
                loss = accumulate_gradients(model.loss, ids, targets, (0, step), micro_batches=1)
                norm = optimizer.clip_grad_norm(0.1)
                optimizer.step()
                optimizer.zero_grad()
        assert np.isfinite(to_numpy(loss))
        assert np.isfinite(to_numpy(norm))


def test_what_waits_is_noticed(cuda):
    with cuda.running():
        x = cuda.array(np.ones(()), "float32")
        for look in (float, bool, to_numpy, lambda x: x.item()):
            with cuda.not_waiting(), pytest.raises(RuntimeError):
                look(x)


# ---- the training script ------------------------------------------------------------------------


def test_readings_come_later_and_none_is_lost(cuda, monkeypatch):
    script = load_script()
    monkeypatch.setattr(script, "READ_EVERY", 2)
    readings, came = script.Readings(), []
    for step in range(1, 8):
        readings.add(step, *(cuda.array(np.array(x), "float32") for x in (step / 2, -step)))
        came.append(readings.read(everything=step == 7))
    assert [[step for step, _, _ in some] for some in came] == [
        [], [], [], [1, 2], [], [3, 4], [5, 6, 7],
    ]  # fmt: skip
    assert all(some == [(n, n / 2, -n) for n, *_ in some] for some in came)


@pytest.mark.parametrize(  # kernels for attention, and the op
    ("precision", "head_size"), [("bfloat16", 32), ("float16", 16)]
)
def test_a_run_that_stops_and_goes_on(cuda, tmp_path, monkeypatch, precision, head_size):
    stored_as(precision)
    quick_ends(monkeypatch)
    script = load_script()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = [
        *TINY, "--device", "cuda", "--precision", precision, "--text", write_text(tmp_path),
        "--n-layer", "1", "--n-head", "1", "--n-embd", str(head_size), "--steps", "3", "--out",
    ]  # fmt: skip
    with cuda.running():
        script.main([*arguments, str(whole)])
        script.main([*arguments, str(parts), "--time-limit", "1e-9"])
        script.main(["--resume", str(parts), "--device", "cuda"])
    assert_same_end(whole, parts)
    (_, meta, _), (_, other, _) = (checkpoint.load(f / "checkpoint") for f in (whole, parts))
    assert meta.get("loss_scale") == other.get("loss_scale")
    assert ("loss_scale" in meta) == (precision == "float16")


def test_a_run_by_graph_ends_on_the_same_bits(cuda, tmp_path, monkeypatch):
    quick_ends(monkeypatch)
    script = load_script()
    monkeypatch.setattr(script, "READ_EVERY", 2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = [
        *TINY, "--preset", "nanogpt", "--device", "cuda", "--text", write_text(tmp_path),
        "--n-layer", "1", "--n-head", "1", "--n-embd", "32", "--steps", "6", "--out",
    ]  # fmt: skip
    with cuda.running():
        script.main([*arguments, str(whole)])
        script.main([*arguments, str(parts), "--graph", "--time-limit", "1e-9"])
        script.main(["--resume", str(parts), "--device", "cuda", "--graph"])
    assert_same_end(whole, parts)


def test_graph_needs_a_gpu():
    with pytest.raises(ValueError, match="on a GPU has a step that can be recorded"):
        load_script().main(["--device", "cpu", "--preset", "nanogpt", "--graph", "--text", "play"])


def test_precision_needs_a_gpu():
    with pytest.raises(ValueError, match="needs a GPU"):
        load_script().main(["--device", "cpu", "--precision", "tf32"])


# ---- the optimizer's kernels --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adamw_writes_the_copy_that_products_want(device, dtype):
    draw = np.random.default_rng(0).standard_normal
    w, m, v, g = (draw(1000).astype("float32") for _ in range(4))
    v *= v
    for order in device.orders:
        arrays = [device.array(x) for x in (w, m, v, g)]
        copy = device.array(np.zeros(1000), stored_as(dtype))
        with device.running(order):
            numbers = device.array(np.array([1.5, 0.01, 0.999]), "float32")
            kernels.adamw(*arrays, numbers, 0.9, 0.95, 1e-8, copy=copy)
        w2, m2, v2, _ = map(to_numpy, arrays)
        expected_m, expected_v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        assert relative_error(m2, expected_m) < 1e-6
        assert relative_error(v2, expected_v) < 1e-6
        expected = 0.999 * w - 0.01 * expected_m / (1.5 * np.sqrt(expected_v) + 1e-8)
        assert relative_error(w2, expected) < 1e-6
        np.testing.assert_array_equal(to_numpy(copy), w2.astype(stored_as(dtype)))


@pytest.mark.parametrize("optimizer", [AdamW, Muon])
def test_options_may_be_any_numbers(device, optimizer):
    """A kernel takes floats of 32 bits; users give Python's ints and NumPy's numbers, too."""
    options = {"betas": np.array([0.5, 0.25]), "eps": 1, "lr": np.float32(0.5)}
    options |= {"momentum": 0} if optimizer is Muon else {}
    ends = []
    for array in (np.array, lambda x: device.array(x, "float32")):
        p = Parameter(array(np.arange(12.0).reshape(3, 4)))
        trained = optimizer([p, Parameter(array(np.arange(3.0)))], **options)
        with device.running():
            trained.grad[...] = array(np.sin(np.arange(15.0)))
            trained.step()
            x = F.dropout(F.layer_norm(p, p[0], eps=1), np.float64(0.5), (1,))
        ends.append([to_numpy(trained.data), to_numpy(x.data)])
    for a, e in zip(*ends, strict=True):
        assert relative_error(e, a) < 1e-5


def test_muon_is_the_one_of_numpy(device):
    for order in device.orders:
        check_muon(device, order)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_muon_writes_the_copy_that_products_want(device, dtype):
    rng = np.random.default_rng(0)
    w, m, g = (device.array(rng.standard_normal((20, 30)), "float32") for _ in range(3))
    copy = device.array(np.zeros((20, 30)), stored_as(dtype))
    numbers = device.array(np.array([np.nan, 0.1, 0.9]), "float32")
    with device.running():
        kernels.muon(w, m, g, numbers, 1.0, 0.9, JORDAN, copy=copy)
    np.testing.assert_array_equal(to_numpy(copy), to_numpy(w).astype(stored_as(dtype)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_norm_changes_nothing_in_muon(device, bad):
    w, m, g, copy = (device.array(np.eye(8), "float32") for _ in range(4))
    numbers = device.array(np.full(3, 0.5), "float32")
    with device.running():
        kernels.muon(
            w, m, g, numbers, 1.0, 0.9, JORDAN, device.array(np.array(bad), "float32"), copy
        )
    for x in (w, m, copy):
        np.testing.assert_array_equal(to_numpy(x), np.eye(8))


@pytest.mark.parametrize(
    ("longest", "bad"), [(0.5, None), (1e9, None), (0.5, np.nan), (0.5, np.inf)]
)
def test_clipping_and_what_adamw_makes_of_a_bad_norm(device, longest, bad):
    g = np.random.default_rng(0).standard_normal(1000).astype("float32")
    g[7] = g[7] if bad is None else bad
    size = np.linalg.norm(g.astype("f8"))
    with device.running():
        on_device, w = device.array(g), device.array(np.ones(1000), "float32")
        norm = kernels.clip(on_device, longest)
        m, v = (device.array(np.ones(1000), "float32") for _ in range(2))
        numbers = device.array(np.full(3, 0.5), "float32")
        kernels.adamw(w, m, v, on_device, numbers, *[0.5] * 3, norm=norm)
    assert norm.shape == ()
    if bad is None:
        assert relative_error(to_numpy(norm), size) < 1e-6
        assert relative_error(to_numpy(on_device), g * min(1, longest / size)) < 1e-6
        assert (to_numpy(w) != 1).all()
    else:
        assert not np.isfinite(to_numpy(norm))
        assert (to_numpy(on_device) == 0).all()
        assert all((to_numpy(x) == 1).all() for x in (w, m, v))


@pytest.mark.parametrize("n", [1, 300, 600 * 256 + 5])
def test_square_sum(device, n):
    x = np.random.default_rng(0).standard_normal(n).astype("float32")
    for order in device.orders[:2]:
        with device.running(order):
            y = kernels.square_sum(device.array(x))
        assert y.shape == ()
        assert relative_error(to_numpy(y), x.astype("f8") @ x.astype("f8")) < 1e-6
