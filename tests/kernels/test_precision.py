"""precision("bfloat16"): products on bfloat16, the rest in float32, and the same training."""

import numpy as np
import pytest
from emulation import GPUArray, to_gpu
from twin_checks import relative_error, stored_as

from tinygpt import GPT, AdamW, GPTConfig, Tensor, backend
from tinygpt import functional as F
from tinygpt.backend import to_numpy
from tinygpt.kernels import precision


@pytest.fixture
def cuda(emulator, monkeypatch):
    stand_in = type("cupy", (), {"asarray": staticmethod(to_gpu)})
    monkeypatch.setattr(backend, "cupy", lambda: stand_in)
    return emulator


def train(name, steps, config):
    """Losses, and the gradients of the first step by name."""
    losses, first = [], {}
    rng = np.random.default_rng(0)
    with precision(name):
        model = GPT(GPTConfig(17, 12, n_layer=1, n_head=1, n_embd=32, **config), device="cuda")
        optimizer = AdamW(model.parameters(), lr=3e-3)
        for _ in range(steps):
            ids = (np.arange(13) * rng.integers(1, 4, (4, 1)) + rng.integers(17, size=(4, 1))) % 17
            optimizer.zero_grad()
            loss = model.loss(ids[:, :-1], ids[:, 1:])
            loss.backward()
            first = first or {n: to_numpy(p.grad).copy() for n, p in model.named_parameters()}
            optimizer.step()
            losses.append(float(to_numpy(loss.data)))
    assert {p.dtype for p in model.parameters()} == {np.dtype("float32")}
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype("float32")}
    return np.array(losses), first


CONFIGS = {
    "GPT-2": {},
    "as Llama": {"position": "rope", "norm": "rms_norm", "activation": "swiglu", "qk_norm": True},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_trains_as_float32_does(cuda, name):
    stored_as("bfloat16")  # skips where it is not to be had
    with cuda.running():
        losses, gradients = train("float32", 8, CONFIGS[name])
        rounded, rounded_gradients = train("bfloat16", 8, CONFIGS[name])
    assert losses[-1] < losses[0] - 0.2
    assert (rounded != losses).any()  # it did round
    np.testing.assert_allclose(rounded, losses, rtol=0.01)
    for parameter, gradient in gradients.items():
        if np.linalg.norm(gradient) > 1e-6:  # that of a key's bias is 0
            assert relative_error(rounded_gradients[parameter], gradient) < 2e-2, parameter


def test_what_products_and_norms_keep(cuda):
    bfloat16 = stored_as("bfloat16")
    x, w = (Tensor(to_gpu(np.ones((4, 4)), "float32"), requires_grad=True) for _ in range(2))
    with cuda.running(), precision("bfloat16"):
        y = F.linear(x, w)
        assert y.dtype == bfloat16
        assert (x + y).dtype == "float32"
        assert F.layer_norm(x, w[0]).dtype == "float32"
        y.sum().backward()
    assert x.grad.dtype == w.grad.dtype == "float32"
    assert type(w.grad) is GPUArray


def test_on_a_cpu_nothing_changes():
    x = Tensor(np.ones((2, 2), "float32"))
    stored_as("bfloat16")
    with precision("bfloat16"):
        assert F.linear(x, x).dtype == "float32"


def test_tf32_is_for_products_only_while_it_is_set():
    from tinygpt.kernels.precision import tf32

    with precision("tf32"):
        assert tf32()
    assert not tf32()


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="must be one of"), precision("float8"):
        pass
