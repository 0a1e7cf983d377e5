"""Products on bfloat16 or float16, the rest in float32, and the same training."""

import itertools

import numpy as np
import pytest
from twin_checks import relative_error, stored_as

from tinygpt import GPT, AdamW, GPTConfig, Muon, Tensor, kernels, ops
from tinygpt import functional as F
from tinygpt.backend import to_numpy
from tinygpt.kernels import LossScale, copy_for_products, precision
from tinygpt.kernels.launch import address
from tinygpt.kernels.precision import for_products
from tinygpt.nn import Parameter


def train(name, steps, config):
    """Losses, and the gradients of the first step by name."""
    losses, first = [], {}
    rng = np.random.default_rng(0)
    with precision(name):
        model = GPT(GPTConfig(17, 12, n_layer=1, n_head=1, n_embd=32, **config), device="cuda")
        optimizer = AdamW(model.parameters(), lr=3e-3)
        scale = LossScale(optimizer.data) if name == "float16" else None
        for _ in range(steps):
            ids = (np.arange(13) * rng.integers(1, 4, (4, 1)) + rng.integers(17, size=(4, 1))) % 17
            optimizer.zero_grad()
            loss = model.loss(ids[:, :-1], ids[:, 1:])
            loss.backward(None if scale is None else scale.value)
            optimizer.clip_grad_norm(1e9, scale)  # takes the scale out again
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


LONG = [
    pytest.param(name, precision, 200, marks=pytest.mark.slow)
    for name, precision in itertools.product(CONFIGS, ["bfloat16", "float16"])
]


@pytest.mark.parametrize(
    ("name", "precision", "steps"), [("GPT-2", "bfloat16", 8), ("as Llama", "float16", 8), *LONG]
)
def test_it_trains_as_float32_does(cuda, name, precision, steps):
    stored_as(precision)  # skips where it is not to be had
    with cuda.running():
        losses, gradients = train("float32", steps, CONFIGS[name])
        rounded, rounded_gradients = train(precision, steps, CONFIGS[name])
    assert losses[-1] < losses[0] - 0.2
    assert (rounded != losses).any()  # it did round
    window = 10 if steps > 10 else 1  # later, what one batch of 48 tokens says is noisy by itself
    curve, rounded_curve = (x.reshape(-1, window).mean(axis=1) for x in (losses, rounded))
    np.testing.assert_allclose(rounded_curve, curve, rtol=0.01)
    for parameter, gradient in gradients.items():
        if np.linalg.norm(gradient) > 1e-6:  # that of a key's bias is 0
            assert relative_error(rounded_gradients[parameter], gradient) < 2e-2, parameter


@pytest.mark.parametrize("optimizer", [AdamW, Muon])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_the_optimizer_keeps_a_rounded_copy(cuda, name, optimizer):
    """Products take it, and it is what rounding the weights would give."""
    dtype = stored_as(name)
    with cuda.running(), precision(name):
        model = GPT(GPTConfig(5, 4, n_layer=1, n_head=1, n_embd=32), device="cuda")
        trained = optimizer(model.parameters())
        before = to_numpy(trained.data).copy()
        for _ in range(2):
            model.loss(np.array([[1, 2]]), np.array([[2, 3]])).backward()
            trained.step()
        copy = copy_for_products(trained.data)
        for p in model.parameters():
            taken = for_products(p.data)
            assert address(copy) <= address(taken) < address(copy) + copy.nbytes
            np.testing.assert_array_equal(to_numpy(taken), to_numpy(p.data).astype(dtype))
            assert address(for_products(p.data.T)) == address(taken)
        assert (to_numpy(trained.data) != before).mean() > 0.5
    assert copy_for_products(trained.data) is None


def test_a_step_that_overflows_is_skipped_and_the_scale_halved(cuda):
    with cuda.running(), precision("float16"), np.errstate(all="ignore"):
        w = Parameter(cuda.array(np.ones((4, 4)), "float32"))
        optimizer = AdamW([w], lr=0.1)
        scale = LossScale(optimizer.data, (2.0**15, 1999, 0))
        seen = []
        for slope in (1.0, 1.0, 0.1):  # twice as much is more than float16 holds
            optimizer.zero_grad()
            y = F.linear(cuda.array(np.ones((1, 4)), "float32"), w).sum() * slope
            y.backward(scale.value)
            optimizer.clip_grad_norm(1.0, scale)
            optimizer.step()
            seen.append((float(to_numpy(w.data).mean()), *to_numpy(scale.state).tolist()))
    weights, scales, in_a_row, skipped = zip(*seen, strict=True)
    assert 1 > weights[0] == weights[1] > weights[2]
    assert scales == (2.0**16, 2.0**15, 2.0**15)
    assert in_a_row == (0, 0, 1)
    assert skipped == (0, 1, 1)


def test_what_products_and_norms_keep(cuda):
    bfloat16 = stored_as("bfloat16")
    ones = np.ones((4, 4))
    x, w = (Tensor(cuda.array(ones, "float32"), requires_grad=True) for _ in range(2))
    with cuda.running(), precision("bfloat16"):
        y = F.linear(x, w)
        assert y.dtype == bfloat16
        assert (x + y).dtype == "float32"
        assert F.layer_norm(x, w[0]).dtype == F.rms_norm(x, w[0]).dtype == bfloat16
        dropped, backward = kernels.twin(ops.dropout, [y.data])(y.data, 0.5, (1,))
        assert dropped.dtype == backward(x.data)[0].dtype == bfloat16
        (F.layer_norm(x, w[0]).sum() + y.sum()).backward()
    assert x.grad.dtype == w.grad.dtype == "float32"
    assert type(w.grad) is type(w.data)


def test_on_a_cpu_nothing_changes():
    x = Tensor(np.ones((2, 2), "float32"))
    stored_as("bfloat16")
    with precision("bfloat16"):
        assert F.linear(x, x).dtype == "float32"


def test_tf32_is_for_products_only_while_it_is_set():
    from tinygpt.kernels.precision import tf32

    for name in ("tf32", "float16"):
        with precision(name):
            assert tf32()
    assert not tf32()


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="must be one of"), precision("float8"):
        pass
