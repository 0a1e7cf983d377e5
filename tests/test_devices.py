"""device="cuda": all that a GPU has to do, on a GPU where there is one, else on a stand-in.

The stand-in is the restricted array, which does only what CuPy's arrays do: it takes the same way
through our code, so that a step which CuPy would refuse shows on any machine.
"""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from op_checks import assert_close, run, with_dtype
from restricted_array import RestrictedArray
from small_gpt import small_batch, small_gpt
from training_script import TINY, load_script, quick_ends, read_log, write_text

from tinygpt import GPT, SGD, AdamW, Muon, accumulate_gradients, backend, evaluate, gradcheck
from tinygpt.backend import to_device, to_numpy
from tinygpt.cases import cases


def why_no_gpu():
    """The reason why no GPU can be used here; empty where one can."""
    try:
        backend.cupy()
    except RuntimeError as error:
        return str(error)
    return ""


real = pytest.param(
    "gpu", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu())]
)  # noqa: E501


@pytest.fixture(params=["stand-in", real])
def cuda(request, monkeypatch):
    """The type of the arrays that are on the device "cuda"."""
    if request.param == "gpu":
        return backend.cupy().ndarray
    monkeypatch.setattr(RestrictedArray, "may_wait", True)
    stand_in = SimpleNamespace(asarray=lambda a: np.asarray(a, like=RestrictedArray(0)))
    monkeypatch.setattr(backend, "cupy", lambda: stand_in)
    return RestrictedArray


all_cases = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])


def on_cuda(f):
    """The op f, options and all: NumPy arrays go to the device, and what comes out comes back."""
    if isinstance(f, functools.partial):
        f = functools.partial(
            f.func, **{name: moved(option) for name, option in f.keywords.items()}
        )

    def op(*arrays):
        y, backward = f(*moved(arrays))
        return brought_back(y), lambda *dys: brought_back(backward(*moved(dys)))

    op.__name__ = getattr(f, "func", f).__name__
    return op


def moved(x):
    if isinstance(x, tuple):
        return tuple(map(moved, x))
    return to_device(x, "cuda") if isinstance(x, np.ndarray | np.generic) else x


def brought_back(x):
    return tuple(map(brought_back, x)) if isinstance(x, tuple) else x if x is None else to_numpy(x)


# ---- ops ----------------------------------------------------------------------------------------


@all_cases
def test_op_gives_what_it_gives_in_numpy(cuda, case):
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        f, arrays = with_dtype(case.f, case.arrays, dtype)
        ys, _, gradients = run(f, *arrays)
        found_ys, _, found_gradients = run(on_cuda(f), *arrays)
        for found, expected in zip((*found_ys, *found_gradients), (*ys, *gradients), strict=True):
            assert_close(found, expected, tolerance)
            assert found is None or found.dtype == expected.dtype


@pytest.mark.gpu
@pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu())
@all_cases
def test_op_has_the_gradient_of_finite_differences(case):
    labels = [
        i for i, a in enumerate(case.arrays) if case.allow_zero and np.asarray(a).dtype == float
    ]
    gradcheck(on_cuda(case.f), *case.arrays, allow_zero=labels)


# ---- a model ------------------------------------------------------------------------------------

MODELS = {
    "gpt2": {"dropout": 0.2},
    "gpt2, untied": {"bias": False, "tie_weights": False, "activation": "gelu"},
    "llama": {
        "position": "rope", "norm": "rms_norm", "activation": "swiglu", "n_kv_head": 1,
        "bias": False,
    },
    "default": {
        "position": "rope", "norm": "rms_norm", "activation": "relu2", "qk_norm": True,
        "bias": False,
    },
    "sinks": {
        "position": "rope", "window": 2, "sinks": 1, "qk_norm": True, "qk_norm_weight": True,
        "logit_softcap": 3.0, "activation": "geglu", "head_dim": 6,
    },
    "mixture": {"n_expert": 4, "n_inner": 5, "activation": "swiglu", "dropout": 0.2},
    "sinusoidal": {"position": "sinusoidal", "activation": "silu"},
    "none": {"position": "none", "activation": "relu"},
}  # fmt: skip
OPTIMIZERS = {
    "SGD": functools.partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "AdamW": functools.partial(AdamW, lr=0.01),
    "Muon": functools.partial(Muon, lr=0.01, weight_decay=0.1),
}
all_models = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
all_optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def pair(cuda, **options):
    """A small model on the CPU, and its twin on the device."""
    models = [small_gpt(dtype="float32", **options) for _ in range(2)]
    models[1].to("cuda")
    assert all(isinstance(p.data, cuda) for p in models[1].parameters())
    return models


def assert_same_parameters(here, there, cuda, of=lambda p: p.data):
    for (name, a), b in zip(here.named_parameters(), there.parameters(), strict=True):
        assert isinstance(of(b), cuda), name
        assert_close(to_numpy(of(b)), of(a), 1e-4)


@all_models
def test_loss_and_gradients(cuda, options):
    here, there = pair(cuda, **options)
    ids, targets = small_batch(ignored=True)
    rng = (1, 2) if "dropout" in options else None
    losses = [model.loss(ids, targets, rng=rng) for model in (here, there)]
    assert isinstance(losses[1].data, cuda)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    for loss in losses:
        loss.backward()
    assert_same_parameters(here, there, cuda, of=lambda p: p.grad)


@all_optimizers
def test_steps_of_training(cuda, optimizer):
    """Also where ids are on the device already. Without biases: that of keys has gradients of 0 but
    for rounding, and AdamW makes steps of any size from them."""
    models = pair(cuda, dropout=0.2, bias=False)
    optimizers = [optimizer(model.parameters()) for model in models]
    for step in range(3):
        ids, targets = small_batch(step, shape=(4, 5), ignored=True)
        norms = []
        for model, opt, device in zip(models, optimizers, ("cpu", "cuda"), strict=True):
            batch = [to_device(a, device if step else "cpu") for a in (ids, targets)]
            loss = accumulate_gradients(model.loss, *batch, rng=(3, step), micro_batches=2)
            norms.append((float(loss), float(opt.clip_grad_norm(1.0))))
            opt.step(0.5)
            opt.zero_grad()
        assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert_same_parameters(*models, cuda)
    first, second = (evaluate(model.loss, ids, targets) for model in models)
    assert isinstance(second, cuda)
    assert float(second) == pytest.approx(float(first), rel=1e-4)


@all_optimizers
def test_an_optimizer_is_saved_and_goes_on(cuda, optimizer):
    ids, targets = small_batch()
    _, model = pair(cuda)
    opt = optimizer(model.parameters())

    def step():
        opt.zero_grad()
        model.loss(ids, targets).backward()
        opt.step()

    step()
    state = {name: np.array(to_numpy(s)) for name, s in opt.state_dict().items()}
    weights = {name: np.array(w) for name, w in model.state_dict().items()}
    step()
    after = {name: np.array(w) for name, w in model.state_dict().items()}
    opt.load_state_dict(state)
    model.load_state_dict(weights)
    step()
    for name, w in model.state_dict().items():
        assert_close(w, after[name], 1e-6)


def test_save_and_load(cuda, tmp_path):
    here, there = pair(cuda)
    there.save(tmp_path / "there")
    loaded = GPT.load(tmp_path / "there", device="cuda")
    assert_same_parameters(here, loaded, cuda)
    for (name, w), (_, p) in zip(
        here.state_dict().items(), GPT.load(tmp_path / "there").named_parameters(), strict=True
    ):
        np.testing.assert_array_equal(p.data, w, err_msg=name)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("position", ["learned", "rope"])
def test_generate(cuda, position, use_cache):
    here, there = pair(cuda, position=position)
    ids = np.array([[1, 2], [3, 4]])
    for temperature in (0, 1):  # past block_size too
        written = [
            model.generate(ids, 12, temperature=temperature, use_cache=use_cache)
            for model in (here, there)
        ]
        np.testing.assert_array_equal(*written)
    np.testing.assert_array_equal(
        there.generate(to_device(ids, "cuda"), 12, use_cache=use_cache), written[0]
    )


@all_models
def test_generate_from_unequal_prompts_and_score(cuda, options):
    here, there = pair(cuda, **options)
    prompts = [[1, 2, 3, 4, 5], [6], [7, 8]]
    written = [model.generate(prompts, 12, min_p=0.01) for model in (here, there)]
    for expected, found in zip(*written, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert_close(there.score(written[0][0]), here.score(written[0][0]), 1e-5)


def test_ids_are_checked_wherever_they_are(cuda):
    _, there = pair(cuda)
    for ids in ([[11]], to_device(np.array([[11]]), "cuda")):
        with pytest.raises(ValueError, match="ids holds 11, which is not in 0 .. 10"):
            there(ids)


# ---- the training script ------------------------------------------------------------------------


def test_a_run_that_stops_and_goes_on(cuda, tmp_path, monkeypatch):
    quick_ends(monkeypatch)
    script = load_script()
    text = write_text(tmp_path)
    arguments = [*TINY, "--text", text, "--steps", "6", "--out"]
    script.main([*arguments, str(tmp_path / "cpu")])
    out = tmp_path / "cuda"
    script.main([*arguments, str(out), "--device", "cuda", "--time-limit", "1e-9"])
    script.main(["--resume", str(out), "--device", "cuda"])
    for here, there in zip(read_log(tmp_path / "cpu"), read_log(out), strict=True):
        assert there["step"] == here["step"]
        assert there["val_loss"] == pytest.approx(here["val_loss"], rel=1e-3)
    assert GPT.load(out / "best").config == GPT.load(tmp_path / "cpu" / "best").config
