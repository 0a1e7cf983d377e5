"""The options of GPTConfig that other people's models need (their gradients are in test_gpt.py)."""

import sys

import model_checks
import numpy as np
import pytest
from small_gpt import SIZES, B, relative_error, small_batch, small_gpt

from tinygpt import GPT, GPTConfig, Tensor, no_grad
from tinygpt import functional as F
from tinygpt.generate import generate
from tinygpt.gpt import RopeScaling
from tinygpt.gpt.cache import KVCache
from tinygpt.gpt.positions import position_tables
from tinygpt.ops.rope import rope_tables

V = SIZES["vocab_size"]
OPTIONS = {
    "head_dim": {"head_dim": 6, "n_kv_head": 1, "position": "rope"},
    "rope linear": {"position": "rope", "rope_scaling": {"kind": "linear", "factor": 3.0}},
    "qwen2": {"position": "rope", "norm": "rms_norm", "bias": False, "qkv_bias": True},
    "qwen3": {"position": "rope", "qk_norm": True, "qk_norm_weight": True, "norm_eps": 0.1},
    "window": {"position": "rope", "window": 3},
    "window, learned": {"window": 3},
    "window, one layer": {"position": "rope", "window": 2, "window_layers": (1,)},
    "sinks": {"position": "rope", "window": 3, "sinks": 2, "n_kv_head": 1},
    "sinks, one layer": {"position": "rope", "window": 2, "sinks": 1, "window_layers": (0,)},
    "sinks, learned": {"window": 2, "sinks": 1},
    "softcap": {"logit_softcap": 1.5, "activation": "geglu"},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


# ---- for every option ---------------------------------------------------------------------------


MIXTURE = {"n_expert": 4, "n_expert_per_token": 2, "activation": "swiglu", "position": "rope"}


@pytest.mark.parametrize("options", [*OPTIONS.values(), MIXTURE], ids=[*OPTIONS, "mixture"])
def test_the_cache_changes_nothing(options):
    """Token for token, past block_size, in prompts of one length and of several."""
    model = small_gpt(**options, block_size=11)
    unequal = [[1], [2, 3, 4, 5, 6, 7, 8, 9], [4, 4]]
    for prompts, temperature in ((np.arange(6).reshape(2, 3), 0.0), (unequal, 1.0)):
        written = [
            model.generate(prompts, 13, temperature=temperature, rng=5, use_cache=use_cache)
            for use_cache in (True, False)
        ]
        for with_cache, without in zip(*written, strict=True):
            np.testing.assert_array_equal(with_cache, without)


@every_option
def test_a_future_token_never_changes_earlier_logits(options):
    model = small_gpt(dtype="float32", **options, block_size=70)
    ids, _ = small_batch(shape=(B, 70))  # longer than a block of queries in attention
    before = model(ids).data
    for t in (1, 30, 64, 69):
        changed = ids.copy()
        changed[:, t:] = (ids[:, t:] + 1) % V
        np.testing.assert_array_equal(model(changed).data[:, :t], before[:, :t])


@every_option
def test_one_dtype_throughout(options):
    model = small_gpt(dtype="float32", **options, dropout=0.1)
    ids, targets = small_batch()
    loss = model.loss(ids, targets, rng=1)
    loss.backward()
    assert {loss.dtype, model(ids).dtype, *[p.grad.dtype for p in model.parameters()]} == {
        np.dtype("float32")
    }


@every_option
def test_save_and_load(options, tmp_path):
    model = small_gpt(**options)
    model.save(tmp_path)
    loaded = GPT.load(tmp_path)
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded(small_batch()[0]).data, model(small_batch()[0]).data)


def test_an_option_that_is_off_costs_no_op():
    """The defaults run the ops that they ran before there were options."""
    names = []
    apply = F.apply
    try:
        F.apply = lambda op, *inputs, **options: (
            names.append((op.__name__, sorted(options))) or apply(op, *inputs, **options)
        )
        small_gpt(n_layer=1).loss(*small_batch())
    finally:
        F.apply = apply
    assert [name for name, _ in names].count("scaled_dot_product_attention") == 1
    assert dict(names)["scaled_dot_product_attention"] == ["attn_mask", "is_causal", "scale"]
    assert not {"rms_norm", "add_rms_norm", "rope", "softcap", "softmax"} & set(dict(names))


# ---- sizes, biases, norms -----------------------------------------------------------------------


def shapes(**options):
    return {name: p.shape for name, p in small_gpt(**options).named_parameters()}


def test_head_dim_says_how_wide_heads_are():
    assert shapes(head_dim=4) == shapes()
    found = shapes(head_dim=7, n_kv_head=1)
    assert found["h.0.attn.c_attn.weight"] == (12, (3 + 2) * 7)
    assert found["h.0.attn.c_proj.weight"] == (3 * 7, 12)
    assert shapes(head_dim=7, n_head=5)["h.0.attn.c_proj.weight"] == (35, 12)  # 12 / 5 is no size


@pytest.mark.parametrize("bias", [True, False])
def test_qkv_bias(bias):
    full = shapes(bias=bias)
    c_attn = {f"h.{layer}.attn.c_attn.bias": (36,) for layer in range(2)}
    without = {name: shape for name, shape in full.items() if name not in c_attn}
    assert shapes(bias=bias, qkv_bias=True) == without | c_attn
    assert shapes(bias=bias, qkv_bias=False) == without


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_every_norm_takes_norm_eps(norm, monkeypatch):
    seen = []

    def watched(f):
        return lambda *inputs, eps: seen.append(eps) or f(*inputs, eps=eps)

    for name in (norm, f"add_{norm}"):
        monkeypatch.setattr(F, name, watched(getattr(F, name)))
    small_gpt(norm=norm, norm_eps=0.25)(small_batch()[0])
    assert seen == [0.25] * 5
    seen.clear()
    for weights in (False, True):
        small_gpt(norm=norm, norm_eps=0.25, qk_norm=True, qk_norm_weight=weights)(small_batch()[0])
    assert set(seen) == {0.25}


def test_weights_of_the_norm_of_queries_and_keys():
    new = {f"h.{layer}.attn.{name}_norm.weight": (4,) for layer in range(2) for name in "qk"}
    options = {"qk_norm": True, "position": "rope"}
    assert shapes(**options, qk_norm_weight=True) == shapes(**options) | new
    model, plain = small_gpt(**options, qk_norm_weight=True), small_gpt(**options)
    plain.load_state_dict({n: a for n, a in model.state_dict().items() if n not in new})
    for block in model.h:
        block.attn.q_norm.weight.data[...] = 1
        block.attn.k_norm.weight.data[...] = 1
    ids, _ = small_batch()
    np.testing.assert_allclose(model(ids).data, plain(ids).data, rtol=1e-12)
    model.h[1].attn.k_norm.weight.data[0] = 2
    assert relative_error(model(ids).data, plain(ids).data) > 1e-3


def test_geglu():
    mlp = small_gpt(activation="geglu", n_inner=9).h[0].mlp
    x = np.random.default_rng(0).standard_normal((B, 5, 12))
    h = x @ mlp.c_fc.weight.data + mlp.c_fc.bias.data
    gate = h[..., :9]
    gate = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    expected = gate * h[..., 9:] @ mlp.c_proj.weight.data + mlp.c_proj.bias.data
    np.testing.assert_allclose(mlp(Tensor(x), None).data, expected, rtol=1e-12, atol=1e-12)
    assert GPTConfig(n_embd=96, n_head=3, activation="geglu").inner_size == 256


def test_a_soft_cap():
    ids, targets = small_batch(ignored=True)
    plain, capped = small_gpt(), small_gpt(logit_softcap=1.5)
    expected = 1.5 * np.tanh(plain(ids).data / 1.5)
    np.testing.assert_allclose(capped(ids).data, expected, rtol=1e-12)
    loss = F.cross_entropy(capped(ids), targets).item()
    assert capped.loss(ids, targets).item() == pytest.approx(loss, rel=1e-12)


# ---- rope ---------------------------------------------------------------------------------------


def test_linear_scaling_stretches_positions():
    options = {"position": "rope", "n_embd": 12, "n_head": 3}
    stretched = GPTConfig(**options, rope_scaling=RopeScaling("linear", 4.0))
    for found, expected in zip(
        position_tables(stretched, (8,), 1, "float64"),
        position_tables(GPTConfig(**options), (2,), 1, "float64"),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_llama3_scaling_by_hand():
    model_checks.llama3_scaling(None)
    scaling = RopeScaling("llama3", 8.0, 1.0, 4.0, 64)
    cos, _ = rope_tables([3], 6, base=100.0, dtype="float64", scaling=scaling)
    plain = scaling(100.0 ** (-np.array([0, 2, 4]) / 6))
    np.testing.assert_allclose(cos, np.cos([3 * plain]), rtol=1e-15)


# ---- windows and sinks --------------------------------------------------------------------------


def reach(model, T):
    """(T, T): whether the logits at t (row) change with the token at s (column)."""
    ids = np.arange(T)[None] % V
    before = model(ids).data[0]
    changed = np.repeat(ids, T, axis=0)
    changed[np.arange(T), np.arange(T)] = (ids[0] + 1) % V
    return (model(changed).data != before).any(axis=-1).T


def test_a_window_reaches_back_once_in_every_layer():
    back = np.arange(12)[:, None] - np.arange(12)
    one = small_gpt(n_layer=1, window=3, block_size=12, position="rope")
    np.testing.assert_array_equal(reach(one, 12), (back >= 0) & (back < 3))
    two = small_gpt(n_layer=2, window=3, block_size=12, position="rope")
    np.testing.assert_array_equal(reach(two, 12), (back >= 0) & (back < 5))
    mixed = small_gpt(n_layer=2, window=3, window_layers=(1,), block_size=12, position="rope")
    np.testing.assert_array_equal(reach(mixed, 12), back >= 0)


def test_sinks_stay_in_sight():
    back = np.arange(12)[:, None] - np.arange(12)
    model = small_gpt(n_layer=1, window=3, sinks=2, block_size=12, position="rope")
    expected = (back >= 0) & ((back < 3) | (np.arange(12) < 2))
    np.testing.assert_array_equal(reach(model, 12), expected)


def test_layers_without_a_window_have_no_sinks():
    """They see every key where it stands, however far away."""
    ids, options = np.arange(12)[None] % V, {"position": "rope", "block_size": 12}
    logits = []
    for window in ({}, {"window": 3, "sinks": 2, "window_layers": (1,)}):
        model = small_gpt(**options, **window)
        model.h[1] = lambda x, h, **_: (x, h)
        logits.append(model(ids).data)
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize(("sinks", "window"), [(1, 4), (2, 4), (3, 1), (1, 20)])
def test_sinks_are_what_a_rolling_cache_holds(sinks, window):
    model_checks.sinks(None, sinks, window)


# ---- texts without an end -----------------------------------------------------------------------

ENDLESS = {
    "window": {"position": "rope", "window": 3},
    "window of one": {"position": "none", "window": 1},
    "sinks": {
        "position": "rope",
        "window": 3,
        "sinks": 2,
        "n_kv_head": 1,
        "rope_base": 100.0,
        "rope_scaling": {"kind": "linear", "factor": 2.0},
    },
    "sinks, none": {"position": "none", "window": 4, "sinks": 3, "norm": "rms_norm"},
}
endless = pytest.mark.parametrize("options", ENDLESS.values(), ids=ENDLESS)


@endless
def test_a_rolling_cache_gives_the_logits_of_one_pass(options):
    model_checks.rolling(None, **options)


@endless
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generation_goes_on_as_if_there_was_no_block_size(options, temperature):
    """Prompts shorter and longer than block_size, 7; every token from one pass over all."""
    model = small_gpt(**options)
    prompts = [[1], [2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1, 2], [4, 4], [5, 6, 7, 8]]
    choice = {"temperature": temperature, "rng": 5}
    with_cache = model.generate(prompts, 24, **choice)
    for found, without in zip(
        with_cache, model.generate(prompts, 24, **choice, use_cache=False), strict=True
    ):
        np.testing.assert_array_equal(found, without)
    if temperature == 0:
        likeliest = model(with_cache[1][None]).data[0].argmax(axis=-1)
        np.testing.assert_array_equal(with_cache[1][12:], likeliest[11:-1])
    roomy = small_gpt(**options | {"block_size": 99})
    for found, unbounded in zip(with_cache, roomy.generate(prompts, 24, **choice), strict=True):
        np.testing.assert_array_equal(found, unbounded)


def test_the_memory_of_a_rolling_cache_does_not_grow():
    model = small_gpt(position="rope", window=3, sinks=2)
    cache = KVCache(model.config, 1, model.wte.weight.data)
    arrays, seen = cache.arrays, []

    def spy(ids, cache):
        seen.append(ids.shape[1])
        return model._next_logits(ids, cache)

    generate(spy, np.array([[1, 2, 3]]), 60, sys.maxsize, cache=cache)
    assert cache.arrays is arrays
    assert arrays.shape == (2, 2, 1, 3, 5, 4)
    assert cache.lengths.tolist() == [62]
    assert seen == [3] + 59 * [1]


def test_which_models_are_endless():
    for options in ENDLESS.values():
        assert small_gpt(**options).config.endless
    window = {"position": "rope", "window": 3, "sinks": 2}
    for options in (
        {"position": "rope"},
        window | {"position": "learned"},  # a table that ends
        window | {"position": "sinusoidal"},
        window | {"window_layers": (1,)},
        window | {"sinks": 5},  # further away than in training
    ):
        model = small_gpt(**options)
        assert not model.config.endless
        with pytest.raises(ValueError, match="8 tokens do not fit in block_size=7"):
            model([[1] * 8])
    assert small_gpt(**window, window_layers=(0, 1)).config.endless


def test_a_rolling_cache_takes_several_tokens_in_rows_of_one_length():
    model = small_gpt(position="rope", window=3)
    cache = KVCache(model.config, 2, model.wte.weight.data)
    with no_grad():
        model([[1]], cache=cache.rows(slice(0, 1)))
        with pytest.raises(ValueError, match=r"hold \(1, 0\), so give them one at a time"):
            model([[1, 2], [3, 4]], cache=cache)
