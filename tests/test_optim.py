"""Optimizers: the flat buffers they live in, what they do in a step, and the schedules."""

import gc
import math

import numpy as np
import pytest

from tinygpt import SGD, AdamW, Muon, Tensor, nn, optim
from tinygpt.optim import orthogonal, warmup_constant, warmup_cosine, warmup_linear

OPTIMIZERS = [SGD, AdamW, Muon]


def parameters(dtype="float64"):
    """A matrix, a vector, a table, and one more matrix; no two of one shape."""
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (5,), (6, 2), (7, 4)]
    params = [nn.Parameter(rng.standard_normal(shape).astype(dtype)) for shape in shapes]
    params[2].is_table = True
    return params


def fill_gradients(params, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad[...] = size * rng.standard_normal(p.shape)


def train(optimizer, params, steps, first=0):
    for step in range(first, first + steps):
        fill_gradients(params, seed=step)
        optimizer.step()


# ---- flat buffers -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_parameters_and_gradients_live_in_two_arrays(optimizer_class):
    params = parameters("float32")
    values = [p.data.copy() for p in params]
    params[1].grad = np.arange(5, dtype="float32")  # from a backward() before
    optimizer = optimizer_class(params)
    assert optimizer.data.shape == optimizer.grad.shape == (sum(p.size for p in params),)
    assert optimizer.data.dtype == optimizer.grad.dtype == np.float32
    for p, value in zip(params, values, strict=True):
        np.testing.assert_array_equal(p.data, value)
        assert np.shares_memory(p.data, optimizer.data)
        assert np.shares_memory(p.grad, optimizer.grad)
    np.testing.assert_array_equal(params[1].grad, np.arange(5))
    assert not params[0].grad.any()

    (params[0] * 3).sum().backward()
    assert optimizer.grad.sum() == 3 * 12 + 10
    optimizer.zero_grad()
    assert not any(p.grad.any() for p in params)
    params[0].data[...] = 7
    assert (optimizer.data == 7).sum() == 12


def test_a_second_optimizer_over_the_same_parameters():
    params = parameters()
    optimizer = AdamW(params)
    with pytest.raises(ValueError, match=r"in the buffers of another AdamW.*\(del optimizer\)"):
        SGD(params[2:3])
    gc.disable()
    try:
        del optimizer  # enough by itself, without the collector
        second = SGD(params)
    finally:
        gc.enable()
    assert np.shares_memory(params[0].data, second.data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: [], "got none that requires a gradient"),
        (lambda p: [Tensor([1.0])], "got none that requires a gradient"),
        (lambda p: [p[0], p[1], p[0]], "given twice"),
        (lambda p: [{"params": p[:2]}, {"params": p[1:]}], "given twice"),
        (lambda p: [p[0], nn.Parameter(np.ones(2, "float32"))], "one dtype, not float32 and float"),
        (lambda p: [{"params": p, "learning_rate": 1}], r"unknown options \['learning_rate'\]"),
    ],
)
def test_what_cannot_be_optimized(make, message):
    params = parameters()
    before = [p.data for p in params]
    with pytest.raises(ValueError, match=message):
        AdamW(make(params))
    assert all(p.data is data for p, data in zip(params, before, strict=True))  # nothing was moved


@pytest.mark.parametrize("what", ["data", "grad"])
@pytest.mark.parametrize("then", ["step", "zero_grad", "clip"])
def test_replacing_an_array_is_noticed(what, then):
    params = parameters()
    optimizer = AdamW(params)
    setattr(params[1], what, np.zeros(5))
    call = {"clip": lambda: optimizer.clip_grad_norm(1.0)}.get(then) or getattr(optimizer, then)
    with pytest.raises(RuntimeError, match="data or .grad of a parameter was replaced"):
        call()


def test_the_models_zero_grad_is_noticed():
    layer = nn.Linear(2, 3, np.random.default_rng(0))
    optimizer = AdamW(layer.parameters())
    layer.zero_grad()
    with pytest.raises(RuntimeError, match=r"use optimizer.zero_grad\(\)"):
        optimizer.step()


@pytest.mark.parametrize(("size", "threads"), [(5, 1), (1, 2), (1, 3)])
@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_blocks_and_threads_change_nothing(optimizer_class, size, threads, monkeypatch):
    """Every pass over the buffers reaches every element, however it is shared out."""
    results = []
    for block, count in [(1 << 17, 1), (size, threads)]:
        monkeypatch.setattr(optim, "BLOCK", block)
        monkeypatch.setattr(optim, "threads", lambda count=count: count)
        params = parameters()
        optimizer = optimizer_class(params)
        train(optimizer, params, 2)
        norm = optimizer.clip_grad_norm(0.1)
        clipped = optimizer.grad.copy()
        optimizer.zero_grad()
        assert not optimizer.grad.any()
        results.append((optimizer.data, clipped, norm))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


# ---- steps --------------------------------------------------------------------------------------


def test_sgd_by_hand():
    w, b = nn.Parameter(np.array([[1.0]])), nn.Parameter(np.array([1.0]))
    optimizer = SGD([w, b], lr=0.5, momentum=0.9, weight_decay=0.1)
    w.grad[...] = b.grad[...] = 2
    optimizer.step()
    assert w.data == pytest.approx(1 - 0.5 * (2 + 0.1 * 1))  # -0.05
    assert b.data == 1 - 0.5 * 2
    optimizer.step()
    m = 0.9 * 2.1 + 2 + 0.1 * -0.05
    assert w.data == pytest.approx(-0.05 - 0.5 * m)


def test_adamw_by_hand():
    """In the first step m_hat / sqrt(v_hat) is the sign of the gradient."""
    w, b = nn.Parameter(np.array([[2.0, 2.0]])), nn.Parameter(np.array([2.0]))
    optimizer = AdamW([w, b], lr=0.1, betas=(0.9, 0.99), eps=0.0, weight_decay=0.5)
    w.grad[...], b.grad[...] = [[3.0, -1e-3]], 7.0
    optimizer.step()
    np.testing.assert_allclose(w.data, [[2 - 0.1 * (1 + 1.0), 2 - 0.1 * (-1 + 1.0)]])
    np.testing.assert_allclose(b.data, [1.9])  # a vector: no decay
    w.grad[...] = 0
    before = w.data.copy()
    optimizer.step()
    m_hat, v_hat = 0.9 * 0.1 * 3 / (1 - 0.9**2), 0.99 * 0.01 * 9 / (1 - 0.99**2)
    expected = before[0, 0] - 0.1 * (m_hat / math.sqrt(v_hat) + 0.5 * before[0, 0])
    np.testing.assert_allclose(w.data[0, 0], expected)


@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_lr_scale_scales_every_rate(optimizer_class):
    results = []
    for lr, scale in [(0.02, 1.0), (0.04, 0.5)]:
        params = parameters()
        rates = {"lr": lr} | ({"adamw_lr": lr} if optimizer_class is Muon else {})
        optimizer = optimizer_class(params, **rates, weight_decay=0.1)
        fill_gradients(params)
        optimizer.step(lr_scale=scale)
        results.append(optimizer.data)
    np.testing.assert_allclose(*results, rtol=1e-14)


@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_groups_have_their_own_options(optimizer_class):
    """As if each group had an optimizer of its own."""
    options = [{"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.01, "weight_decay": 0.5}]
    together, apart = parameters(), parameters()
    optimizers = [
        optimizer_class([{"params": together[:2], **options[0]}, {"params": together[2:]}],
                        **options[1]),
        optimizer_class(apart[:2], **options[0]),
        optimizer_class(apart[2:], **options[1]),
    ]  # fmt: skip
    for _ in range(3):
        for params in (together, apart):
            fill_gradients(params)
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(together, apart, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_the_rate_of_a_group_can_be_changed():
    params = parameters()
    optimizer = SGD(params, lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    before = optimizer.data.copy()
    fill_gradients(params)
    optimizer.step()
    np.testing.assert_array_equal(optimizer.data, before)


@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_weight_decay_is_for_two_dimensions_and_more(optimizer_class):
    params = parameters()
    rate = {"adamw_lr": 0.1} if optimizer_class is Muon else {}
    optimizer = optimizer_class(params, lr=0.1, weight_decay=0.5, **rate)
    before = [p.data.copy() for p in params]
    optimizer.step()  # every gradient is 0: only decay moves anything
    for p, old in zip(params, before, strict=True):
        expected = old if p.ndim < 2 else old * (1 - 0.1 * 0.5)
        np.testing.assert_allclose(p.data, expected)


@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_frozen_parameters_are_left_alone(optimizer_class):
    params = parameters()
    params[0].requires_grad = False
    frozen = params[0].data
    before = frozen.copy()
    optimizer = optimizer_class(params, weight_decay=0.5)
    train(optimizer, params[1:], 2)
    assert params[0].data is frozen
    assert params[0].grad is None
    np.testing.assert_array_equal(frozen, before)
    assert optimizer.data.size == sum(p.size for p in params[1:])


# ---- clipping -----------------------------------------------------------------------------------


def test_clipping():
    params = parameters()
    optimizer = AdamW(params)
    fill_gradients(params)
    before = optimizer.grad.copy()
    norm = optimizer.clip_grad_norm(1e9)
    np.testing.assert_allclose(norm, np.linalg.norm(before))
    np.testing.assert_array_equal(optimizer.grad, before)  # not longer than that: left alone

    np.testing.assert_allclose(optimizer.clip_grad_norm(0.5), np.linalg.norm(before))
    np.testing.assert_allclose(optimizer.grad, before * 0.5 / np.linalg.norm(before), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(optimizer.grad), 0.5, rtol=1e-6)


def test_the_norm_is_a_0d_array():
    norm = AdamW(parameters("float32")).clip_grad_norm(1.0)
    assert isinstance(norm, np.ndarray)
    assert norm.shape == ()
    assert norm.dtype == np.float32


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_leaves_the_gradients(bad):
    params = parameters()
    optimizer = AdamW(params)
    fill_gradients(params)
    params[1].grad[2] = bad
    before = optimizer.grad.copy()
    assert not np.isfinite(optimizer.clip_grad_norm(1.0))
    np.testing.assert_array_equal(optimizer.grad, before)


# ---- saving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_state_goes_on_with_the_same_bits(optimizer_class):
    params = parameters("float32")
    optimizer = optimizer_class(params)
    train(optimizer, params, 3)
    state = {name: np.copy(value) for name, value in optimizer.state_dict().items()}
    weights = [p.data.copy() for p in params]
    train(optimizer, params, 3, first=3)

    resumed = parameters("float32")
    for p, weight in zip(resumed, weights, strict=True):
        p.data[...] = weight
    second = optimizer_class(resumed)
    second.load_state_dict(state)
    train(second, resumed, 3, first=3)
    assert second.steps == optimizer.steps == 6
    for p, q in zip(params, resumed, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_a_state_that_does_not_fit():
    params = parameters()
    optimizer = AdamW(params)
    train(optimizer, params, 1)
    before = {name: np.copy(value) for name, value in optimizer.state_dict().items()}
    with pytest.raises(ValueError, match="AdamW needs .*exp_avg.* got .*momentum_buffer"):
        optimizer.load_state_dict(SGD(parameters()).state_dict())
    with pytest.raises(ValueError, match=r"exp_avg has shape \(17,\), not \(57,\)"):
        optimizer.load_state_dict(AdamW(parameters()[:2]).state_dict())
    with pytest.raises(ValueError, match="exp_avg_sq has shape"):
        optimizer.load_state_dict({**before, "exp_avg": before["exp_avg"] + 1, "exp_avg_sq": 3})
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


# ---- Muon ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (9, 5), (1, 4)])
def test_orthogonal(shape):
    """The same singular vectors; singular values near 1: what five rounds make of them."""
    rng = np.random.default_rng(0)
    k = min(shape)
    left = np.linalg.qr(rng.standard_normal((shape[0], k)))[0]
    right = np.linalg.qr(rng.standard_normal((shape[1], k)))[0]
    values = np.linspace(1, 10, k)
    u = left @ np.diag(values) @ right.T
    before = u.copy()
    core = left.T @ orthogonal(u) @ right  # diagonal, if left and right are its vectors
    np.testing.assert_array_equal(u, before)
    np.testing.assert_allclose(core, np.diag(np.diag(core)), atol=1e-12)
    np.testing.assert_allclose(left @ core @ right.T, orthogonal(u), atol=1e-12)
    values /= np.linalg.norm(values)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    np.testing.assert_allclose(np.diag(core), values, rtol=1e-6)
    assert (values > 0.65).all()
    assert (values < 1.25).all()
    np.testing.assert_allclose(orthogonal(1e-3 * u), orthogonal(u), rtol=1e-3)
    assert orthogonal(u.astype("float32")).dtype == np.float32


def test_muon_moves_matrices_and_leaves_the_rest_to_adamw():
    ours, theirs = parameters(), parameters()
    muon = Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1, adamw_lr=0.003)
    adamw = AdamW(theirs[1:3], lr=0.003, betas=(0.9, 0.95), weight_decay=0.1)
    fill_gradients(ours)
    gradients = [p.grad.copy() for p in ours]
    for p, q in zip(ours[1:3], theirs[1:3], strict=True):
        q.grad[...] = p.grad
    before = [p.data.copy() for p in ours]
    muon.step()
    adamw.step()
    for p, q in zip(ours[1:3], theirs[1:3], strict=True):  # the vector and the table
        np.testing.assert_array_equal(p.data, q.data)
    lengths = {0: math.sqrt(4 / 3), 3: 1}  # (3, 4): n_in 3, n_out 4; (7, 4) is not lengthened
    afters = {}
    for i, length in lengths.items():
        update = length * orthogonal(1.95 * gradients[i])
        afters[i] = before[i] * (1 - 0.02 * 0.1) - 0.02 * update
        np.testing.assert_allclose(ours[i].data, afters[i])

        ours[i].grad[...] = np.cos(gradients[i])
    muon.step()
    for i, length in lengths.items():
        newer = np.cos(gradients[i])
        running = 0.95 * gradients[i] + newer
        update = length * orthogonal(newer + 0.95 * running)
        np.testing.assert_allclose(ours[i].data, afters[i] * (1 - 0.02 * 0.1) - 0.02 * update)


def test_muon_leaves_more_than_two_dimensions_to_adamw():
    results = []
    for optimizer_class, rate in ((Muon, "adamw_lr"), (AdamW, "lr")):
        p = nn.Parameter(np.arange(24.0).reshape(2, 3, 4))
        optimizer = optimizer_class([p], **{rate: 0.01}, weight_decay=0.1)
        fill_gradients([p])
        optimizer.step()
        results.append(p.data)
    np.testing.assert_array_equal(*results)


# ---- schedules ----------------------------------------------------------------------------------


def test_warmup():
    for schedule in (warmup_cosine, warmup_linear, warmup_constant):
        np.testing.assert_allclose(
            [schedule(step, steps=9, warmup=4) for step in range(5)], [0.2, 0.4, 0.6, 0.8, 1.0]
        )
        assert schedule(0, steps=9) == 1


def test_what_follows_the_warmup():
    def after(schedule, **options):
        return [schedule(step, steps=8, warmup=4, **options) for step in (4, 5, 6, 7, 8, 100)]

    half = math.sqrt(0.5) / 2
    cosine = [1, 0.5 + half, 0.5, 0.5 - half, 0, 0]
    np.testing.assert_allclose(after(warmup_cosine, final=0.0), cosine, atol=1e-15)
    np.testing.assert_allclose(after(warmup_cosine, final=0.5), 0.5 + 0.5 * np.array(cosine))
    np.testing.assert_allclose(after(warmup_linear), [1, 0.75, 0.5, 0.25, 0, 0], atol=1e-15)
    np.testing.assert_allclose(after(warmup_linear, final=0.2), [1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert after(warmup_constant) == [1] * 6


def test_nanogpts_schedule():
    """get_lr() of nanoGPT's train.py: 100 steps up to 1e-3, a cosine to 1e-4 at step 2000."""
    for step in (0, 1, 50, 99, 100, 101, 500, 1050, 1999, 2000, 2001, 5000):
        if step < 100:
            expected = 1e-3 * (step + 1) / 101
        elif step > 2000:
            expected = 1e-4
        else:
            ratio = (step - 100) / (2000 - 100)
            expected = 1e-4 + 0.5 * (1 + math.cos(math.pi * ratio)) * (1e-3 - 1e-4)
        found = 1e-3 * warmup_cosine(step, steps=2000, warmup=100, final=0.1)
        assert found == pytest.approx(expected, rel=1e-12)


def test_a_warmup_that_never_ends():
    for schedule in (warmup_cosine, warmup_linear, warmup_constant):
        assert schedule(4, steps=5, warmup=5) == pytest.approx(5 / 6)
        assert math.isfinite(schedule(5, steps=5, warmup=5))
