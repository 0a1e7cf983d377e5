"""GPT: what can be configured, what comes out, and every gradient of every option."""

import dataclasses
import functools
import importlib
import inspect
import itertools
import json
import math
import operator

import numpy as np
import pytest
from op_checks import saved_bytes
from small_gpt import (
    SIZES,
    B,
    NoRandomNumbers,
    assert_same_gradients,
    gradients,
    replace_parameter,
    small_batch,
    small_gpt,
)

from tinygpt import GPT, GPTConfig, Tensor, gradcheck
from tinygpt import functional as F
from tinygpt.gpt import RopeScaling
from tinygpt.gpt.cache import KVCache

# ---- configuration ------------------------------------------------------------------------------


def test_the_default_is_gpt2(monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", lambda seed: NoRandomNumbers())
    model = GPT(GPTConfig(), dtype="float16")
    assert sum(p.size for p in model.parameters()) == 124_439_808


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GPTConfig().n_layer = 3


LLAMA3 = {
    "kind": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_block_size": 64,
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_embd": 100, "n_head": 6}, "n_embd=100 is not a multiple of n_head=6; try n_head=5"),
        ({"n_head": 12, "n_kv_head": 5}, "n_head=12 is not a multiple of n_kv_head=5; try .*=4"),
        ({"n_layer": 0}, "n_layer must be a whole number from 1 up, not 0"),
        ({"n_embd": 64.0}, "n_embd must be a whole number from 1 up, not 64.0"),
        ({"vocab_size": -5}, "vocab_size must be a whole number from 1 up, not -5"),
        ({"block_size": None}, "block_size must be a whole number from 1 up, not None"),
        ({"n_head": True}, "n_head must be a whole number from 1 up, not True"),
        ({"n_kv_head": 0}, "n_kv_head must be a whole number from 1 up, not 0"),
        ({"n_inner": 0}, "n_inner must be a whole number from 1 up, not 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, not -0.1"),
        ({"dropout": math.nan}, "dropout must be at least 0 and below 1, not nan"),
        ({"position": "alibi"}, r"position must be one of \('learned', 'rope', .* not 'alibi'"),
        ({"norm": "batch_norm"}, "norm must be one of .* not 'batch_norm'"),
        ({"activation": "mish"}, "activation must be one of .*'swiglu'.* not 'mish'"),
        ({"position": "rope", "n_embd": 15, "n_head": 5}, "n_embd / n_head = 3, an odd number"),
        ({"position": "sinusoidal", "n_embd": 15, "n_head": 5}, "need an even n_embd, not 15"),
        ({"bias": "no"}, "bias must be True or False, not 'no'"),
        ({"dropout": "high"}, "dropout must be a number, not 'high'"),
        ({"rope_base": 0.0}, "rope_base must be above 0, not 0.0"),
        ({"rope_base": math.nan}, "rope_base must be above 0, not nan"),
        ({"rope_base": True}, "rope_base must be a number, not True"),
        ({"head_dim": 0}, "head_dim must be a whole number from 1 up, not 0"),
        ({"position": "rope", "head_dim": 5}, "head_dim=5, an odd number; change head_dim"),
        ({"norm_eps": 0.0}, "norm_eps must be above 0, not 0.0"),
        ({"qkv_bias": 1}, "qkv_bias must be True or False, not 1"),
        ({"qk_norm_weight": True}, "qk_norm_weight=True needs qk_norm=True"),
        ({"rope_scaling": LLAMA3}, "rope_scaling needs position=\"rope\", not 'learned'"),
        ({"rope_scaling": 2.0}, "rope_scaling must be a RopeScaling, or a dict such as .* not 2.0"),
        ({"rope_scaling": {"kind": "yarn", "factor": 2.0}}, "must be linear or llama3, not 'yarn'"),
        ({"rope_scaling": LLAMA3 | {"factor": 0}}, "factor must be a number above 0, not 0"),
        ({"rope_scaling": LLAMA3 | {"kind": "linear"}}, "low_freq_factor is for .* llama3, not li"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "must be below high_freq_factor=4.0"),
        ({"window": 0}, "window must be a whole number from 1 up, not 0"),
        ({"sinks": -1}, "sinks must be a whole number from 0 up, not -1"),
        ({"sinks": 4}, "sinks=4 needs a window"),
        ({"window_layers": (0,)}, r"window_layers=\(0,\) needs a window"),
        ({"window": 8, "window_layers": (0, 12)}, "names layer 12, and n_layer=12 ends before"),
        ({"window": 8, "window_layers": 3}, "must be a tuple of layer numbers, from 0 up, not 3"),
        ({"window": 8, "window_layers": (-1,)}, r"tuple of layer numbers, from 0 up, not \(-1,\)"),
        ({"logit_softcap": 0.0}, "logit_softcap must be above 0, not 0.0"),
        ({"logit_softcap": "30"}, "logit_softcap must be a number, not '30'"),
        ({"n_expert": 1}, "n_expert_per_token=2 is more than n_expert=1"),
        ({"norm_eps": 1e300}, "norm_eps must be above 0 and below 1e\\+30, not 1e\\+300"),
        ({"balance_weight": -0.1}, "balance_weight must be at least 0, not -0.1"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"position": "rope", "rope_scaling": LLAMA3},
        {"position": "rope", "rope_scaling": RopeScaling("linear", 2.0)},
        {"window": 8, "window_layers": (0, 2), "sinks": 1, "n_expert": 4, "logit_softcap": 30.0},
    ],
)
def test_config_through_json(options):
    config = GPTConfig(**options)
    again = GPTConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config
    assert hash(again) == hash(config)


def test_layers_with_a_window():
    assert [GPTConfig(window=8).window_of(layer) for layer in range(3)] == [8, 8, 8]
    config = GPTConfig(window=8, window_layers=[0, 2])
    assert [config.window_of(layer) for layer in range(3)] == [8, None, 8]


@pytest.mark.parametrize(("n_embd", "n_head"), [(100, 6), (7, 3), (10, 11), (768, 7)])
def test_the_advice_about_heads_works(n_embd, n_head):
    with pytest.raises(ValueError, match="try n_head=") as error:
        GPTConfig(n_embd=n_embd, n_head=n_head)
    assert GPTConfig(n_embd=n_embd, n_head=int(str(error.value).split("=")[-1]))


# ---- parameters ---------------------------------------------------------------------------------

BLOCK = {
    "ln_1.weight": (12,),
    "ln_1.bias": (12,),
    "attn.c_attn.weight": (12, 36),
    "attn.c_attn.bias": (36,),
    "attn.c_proj.weight": (12, 12),
    "attn.c_proj.bias": (12,),
    "ln_2.weight": (12,),
    "ln_2.bias": (12,),
    "mlp.c_fc.weight": (12, 48),
    "mlp.c_fc.bias": (48,),
    "mlp.c_proj.weight": (48, 12),
    "mlp.c_proj.bias": (12,),
}


def shapes(**options):
    return {name: p.shape for name, p in GPT(GPTConfig(**{**SIZES, **options})).named_parameters()}


def test_parameters_have_gpt2s_names():
    expected = {"wte.weight": (11, 12), "wpe.weight": (7, 12)}
    for layer in range(2):
        expected |= {f"h.{layer}.{name}": shape for name, shape in BLOCK.items()}
    expected |= {"ln_f.weight": (12,), "ln_f.bias": (12,)}
    assert shapes() == expected
    assert list(shapes()) == list(expected)


def test_parameters_of_the_options():
    full = shapes()
    assert shapes(bias=False) == {n: s for n, s in full.items() if not n.endswith("bias")}
    without_ln_bias = {n: s for n, s in full.items() if "ln" not in n or "bias" not in n}
    assert shapes(norm="rms_norm") == without_ln_bias
    assert shapes(tie_weights=False) == full | {"lm_head.weight": (11, 12)}
    for position in ("rope", "sinusoidal", "none"):
        assert shapes(position=position) == {n: s for n, s in full.items() if "wpe" not in n}
    assert shapes(n_kv_head=1)["h.1.attn.c_attn.weight"] == (12, 12 + 2 * 4)
    assert shapes(activation="swiglu")["h.0.mlp.c_fc.weight"] == (12, 2 * 32)
    rounded_up = shapes(activation="swiglu", n_embd=15)  # 8/3 of it is 40
    assert rounded_up["h.0.mlp.c_fc.weight"] == (15, 2 * 64)
    assert shapes(activation="swiglu", n_inner=9)["h.0.mlp.c_proj.weight"] == (9, 12)
    assert shapes(qk_norm=True) == shapes(zero_init_residual=True) == full


@pytest.mark.parametrize("n_expert", [None, 2])
def test_initial_weights(n_expert):
    sizes = {"vocab_size": 500, "block_size": 300, "n_layer": 3, "n_head": 2, "n_embd": 128}
    model = GPT(GPTConfig(**sizes, tie_weights=False, n_expert=n_expert), rng=5)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.data.any(), name
        elif ".ln_" in name or "ln_f" in name:
            assert (p.data == 1).all(), name
        else:
            std = 0.02 / math.sqrt(2 * 3) if name.endswith("c_proj.weight") else 0.02
            assert abs(p.data.std() / std - 1) < 5 / math.sqrt(2 * p.size), name
            assert abs(p.data.mean()) < 5 * std / math.sqrt(p.size), name
        assert p.dtype == np.float32


def test_initial_weights_come_from_rng():
    def weights(rng):
        return GPT(GPTConfig(**SIZES), rng=rng).h[1].mlp.c_fc.weight.data

    np.testing.assert_array_equal(weights(3), weights(np.random.default_rng(3)))
    assert (weights(3) != weights(4)).all()


def test_zero_init_residual():
    """Every block begins as x -> x, so the model begins as embedding, norm, head."""
    options = {"zero_init_residual": True, "position": "none"}
    model = GPT(GPTConfig(**SIZES, **options), dtype="float64")
    ids, _ = small_batch()
    expected = F.layer_norm(model.wte(ids), model.ln_f.weight, model.ln_f.bias)
    expected = expected.data @ model.wte.weight.data.T
    np.testing.assert_allclose(model(ids).data, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("position", ["learned", "rope", "sinusoidal", "none"])
def test_one_dtype_throughout(dtype, position):
    model = small_gpt(dtype=dtype, position=position, activation="swiglu", dropout=0.1)
    ids, targets = small_batch()
    assert model(ids).dtype == dtype
    loss = model.loss(ids, targets, rng=1)
    loss.backward()
    assert {loss.dtype, *[p.grad.dtype for p in model.parameters()]} == {np.dtype(dtype)}


def test_freezing():
    model = small_gpt()
    frozen = [model.wte.weight, model.h[1].mlp.c_fc.weight]
    for p in frozen:
        p.requires_grad = False
    model.loss(*small_batch()).backward()
    assert [p for p in model.parameters() if p.grad is None] == frozen


# ---- gradients ----------------------------------------------------------------------------------

OPTIONS = {  # words in brackets stand for several fields: MEANINGS
    "activation": ["gelu_tanh", "gelu", "relu", "relu2", "silu", "swiglu", "geglu"],
    "position": ["learned", "rope", "sinusoidal", "none", "(llama3)"],
    "norm": ["layer_norm", "rms_norm"],
    "qk_norm": [False, True, "(weights)"],
    "window": [None, 2, "(sinks)", "(layer)"],
    "n_expert": [None, "(mixture)"],
    "head_dim": [None, 2],
    "qkv_bias": [None, True],
    "logit_softcap": [None, 2.0],
    "norm_eps": [1e-5, 0.1],
    "n_kv_head": [None, 1],
    "bias": [True, False],
    "tie_weights": [True, False],
    "dropout": [0.0, 0.3],
    "zero_init_residual": [False, True],
    "n_inner": [None, 7],
}
MEANINGS = {
    "(llama3)": {"position": "rope", "rope_scaling": LLAMA3, "rope_base": 10.0},
    "(weights)": {"qk_norm": True, "qk_norm_weight": True},
    "(sinks)": {"window": 2, "sinks": 1},
    "(layer)": {"window": 3, "window_layers": (1,)},
    "(mixture)": {"n_expert": 3, "balance_weight": 0.5},
}


def fields_of(choice: dict) -> dict:
    """{field of GPTConfig: value} from {option: value or a word for several fields}."""
    fields = [MEANINGS.get(value, {name: value}) for name, value in choice.items()]
    return functools.reduce(operator.or_, fields)


def pairwise(options: dict[str, list]) -> list[dict]:
    """A few configurations in which any two values of any two options meet.

    Each begins with a pair that has not met; then option after option takes the value that meets
    the most others for the first time.
    """
    missing = {
        frozenset([(a, x), (b, y)])
        for a, b in itertools.combinations(options, 2)
        for x in options[a]
        for y in options[b]
    }

    def meets(config, name, value):
        return sum(frozenset([(name, value), other]) in missing for other in config.items())

    chosen = []
    while missing:
        config = dict(min(missing, key=lambda pair: sorted(map(repr, pair))))
        for name in options:
            if name not in config:
                config[name] = max(options[name], key=functools.partial(meets, config, name))
        missing -= {frozenset(pair) for pair in itertools.combinations(config.items(), 2)}
        chosen.append({name: config[name] for name in options})
    return chosen


def gradcheck_parameters(model, f, rng) -> float:
    """The worst relative error of all gradients, f() being what the model computes."""
    parameters = dict(model.named_parameters())

    def f_of_parameters(*tensors):
        for name, tensor in zip(parameters, tensors, strict=True):
            replace_parameter(model, name, tensor)
        return f()

    labels = {name: name.replace(".", "_") for name in parameters}  # for GradientError
    f_of_parameters.__signature__ = inspect.Signature(
        [inspect.Parameter(label, inspect.Parameter.POSITIONAL_ONLY) for label in labels.values()]
    )
    # An expert may be left out by all tokens.
    idle = [label for name, label in labels.items() if ".experts." in name]
    arrays = [p.data for p in parameters.values()]
    return gradcheck(f_of_parameters, *arrays, rng=rng, allow_zero=idle)


CONFIGURATIONS = pairwise(OPTIONS)


@pytest.mark.parametrize("choice", CONFIGURATIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("directions", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_gradients_of_every_option(choice, directions, monkeypatch):
    """Each parameter along random directions, of signs, in which every entry shows.

    Of one layer, or of two where they differ.
    """
    module = importlib.import_module("tinygpt.gradcheck")
    monkeypatch.setattr(module, "EACH_ENTRY", 0)
    monkeypatch.setattr(module, "DIRECTIONS", directions)
    fields = fields_of(choice)
    model = small_gpt(**fields, n_layer=2 if fields.get("window_layers") else 1)
    assert {name for name, _ in model.named_parameters()} == set(model.state_dict())
    assert model.config.parameter_count == sum(p.size for p in model.parameters())
    ids, _ = small_batch()
    rng = CONFIGURATIONS.index(choice)  # other signs in each
    assert gradcheck_parameters(model, lambda: model(ids, rng=(3, 1)), rng) < 1e-6


def test_remat_keeps_less_and_changes_no_bit():
    ids, targets = small_batch()
    kept, losses, found = [], [], []
    for remat in (False, True):
        model = small_gpt(remat=remat, dropout=0.3)
        loss = model.loss(ids, targets, rng=(3, 1))
        kept.append(bytes_behind(loss) - sum(p.data.nbytes for p in model.parameters()))
        loss.backward()
        losses.append(loss.item())
        found.append(gradients(model))
    assert losses[0] == losses[1]
    for name, gradient in found[0].items():
        np.testing.assert_array_equal(gradient, found[1][name])
    assert kept[1] < 0.3 * kept[0]


def bytes_behind(y) -> int:
    """The bytes of all arrays that the graph behind y keeps alive."""
    nodes, backwards = [y._origin[0]], {}
    while nodes:
        node = nodes.pop()
        backwards[node] = node.backward
        nodes += [s[0] for s in node.sources if isinstance(s, tuple) and s[0] not in backwards]
    return saved_bytes(lambda: (None, list(backwards.values())))


@pytest.mark.parametrize("tie_weights", [True, False])
def test_loss_is_cross_entropy_of_the_logits(tie_weights):
    model = small_gpt(tie_weights=tie_weights, dropout=0.2)
    ids, targets = small_batch(ignored=True)
    loss = model.loss(ids, targets, rng=4)
    loss.backward()
    found = gradients(model)
    model.zero_grad()
    expected = F.cross_entropy(model(ids, rng=4), targets)
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-13 * expected.item()
    assert_same_gradients(found, gradients(model), 1e-12)


def test_ignored_targets_do_not_count():
    model = small_gpt()
    ids, targets = small_batch(ignored=True)
    logits = model(ids).data
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    counted = [-log_p[b, t, targets[b, t]] for b, t in np.argwhere(targets != -1)]
    assert 0 < len(counted) < targets.size
    np.testing.assert_allclose(model.loss(ids, targets).item(), np.mean(counted))


# ---- what the options mean (rope, n_kv_head, rms_norm, swiglu: against Llama, in the oracles) ----

FORMULAS = {
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu2": lambda x: np.where(x > 0, x, 0) ** 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("activation", FORMULAS)
def test_activation(activation):
    mlp = small_gpt(activation=activation).h[0].mlp
    x = np.random.default_rng(0).standard_normal((B, 5, 12))
    h = FORMULAS[activation](x @ mlp.c_fc.weight.data + mlp.c_fc.bias.data)
    expected = h @ mlp.c_proj.weight.data + mlp.c_proj.bias.data
    np.testing.assert_allclose(mlp(Tensor(x), None).data, expected, rtol=1e-12, atol=1e-12)


def test_swiglu():
    mlp = small_gpt(activation="swiglu", n_inner=9).h[0].mlp
    x = np.random.default_rng(0).standard_normal((B, 5, 12))
    h = x @ mlp.c_fc.weight.data + mlp.c_fc.bias.data
    h = FORMULAS["silu"](h[..., :9]) * h[..., 9:]
    expected = h @ mlp.c_proj.weight.data + mlp.c_proj.bias.data
    np.testing.assert_allclose(mlp(Tensor(x), None).data, expected, rtol=1e-12, atol=1e-12)


def test_sinusoidal_positions():
    """Vaswani et al. 2017, section 3.5, as printed there."""
    model = small_gpt(position="sinusoidal")
    seen = []
    model.h[0].ln_1.add_and_norm = lambda x, h: seen.append(x.data) or (x, x)
    model([[3, 3, 3]])
    added = seen[0][0] - model.wte.weight.data[3]
    for position in range(3):
        for i in range(6):
            angle = position / 10000 ** (2 * i / 12)
            np.testing.assert_allclose(added[position, 2 * i], math.sin(angle), atol=1e-12)
            np.testing.assert_allclose(added[position, 2 * i + 1], math.cos(angle), atol=1e-12)


@pytest.mark.parametrize("qk_norm", [True, False])
def test_with_qk_norm_the_size_of_queries_and_keys_does_not_matter(qk_norm):
    model = small_gpt(qk_norm=qk_norm)
    ids, _ = small_batch()
    before = model(ids).data
    for block in model.h:
        block.attn.c_attn.weight.data[:, : 2 * 12] *= 3
        block.attn.c_attn.bias.data[: 2 * 12] *= 3
    assert (abs(model(ids).data - before).max() < 1e-3) == qk_norm


# ---- what must be the same, and what must not ---------------------------------------------------


@pytest.mark.parametrize("position", ["learned", "rope", "sinusoidal", "none"])
def test_a_future_token_never_changes_earlier_logits(position):
    model = small_gpt(dtype="float32", position=position, n_kv_head=1, block_size=70)
    ids, _ = small_batch(shape=(B, 70))  # longer than a block of queries in attention
    before = model(ids).data
    for t in (1, 30, 64, 69):
        changed = ids.copy()
        changed[:, t:] = (ids[:, t:] + 1) % 11
        after = model(changed).data
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).all()


@pytest.mark.parametrize("position", ["learned", "rope", "sinusoidal"])
def test_the_order_of_tokens_matters(position):
    model = small_gpt(position=position, n_layer=1)
    ids = np.array([[1, 2, 3, 4]])
    logits, swapped = model(ids).data, model(ids[:, [1, 0, 2, 3]]).data
    assert abs(logits[:, -1] - swapped[:, -1]).max() > 1e-3


def test_without_positions_the_order_does_not_matter():
    model = small_gpt(position="none", n_layer=1)
    ids = np.array([[1, 2, 3, 4]])
    logits, swapped = model(ids).data, model(ids[:, [1, 0, 2, 3]]).data
    np.testing.assert_allclose(logits[:, -1], swapped[:, -1])


def test_dropout_is_on_exactly_when_an_rng_is_given():
    ids, targets = small_batch()
    model, without = small_gpt(dropout=0.3), small_gpt()
    np.testing.assert_array_equal(model(ids).data, without(ids).data)
    np.testing.assert_array_equal(without(ids, rng=1).data, without(ids).data)
    assert model.loss(ids, targets).item() == without.loss(ids, targets).item()

    dropped = model(ids, rng=(1, 2)).data
    assert (dropped != model(ids).data).all()
    np.testing.assert_array_equal(model(ids, rng=(1, 2)).data, dropped)
    assert (model(ids, rng=(1, 3)).data != dropped).all()
    rng = np.random.default_rng(0)
    assert (model(ids, rng=rng).data != model(ids, rng=rng).data).all()


def test_each_place_has_a_mask_of_its_own(monkeypatch):
    keys = []
    dropout, attention = F.dropout, F.scaled_dot_product_attention

    def spy_dropout(x, p, rng):
        keys.append(rng.words)
        return dropout(x, p, rng)

    def spy_attention(*inputs, rng, **options):
        keys.append(rng.words)
        return attention(*inputs, rng=rng, **options)

    monkeypatch.setattr(F, "dropout", spy_dropout)
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy_attention)
    small_gpt(dropout=0.3)(small_batch()[0], rng=(8, 9))
    assert len(keys) == 1 + 3 * SIZES["n_layer"]  # embedding; attention, its result, feed-forward
    assert len({(*key, 0, 0)[:4] for key in keys}) == len(keys)
    assert {key[:2] for key in keys} == {(8, 9)}


def test_a_row_does_not_depend_on_its_batch():
    model = small_gpt()
    ids, _ = small_batch()
    for row in range(B):
        np.testing.assert_allclose(model(ids[row : row + 1]).data[0], model(ids).data[row])


# ---- what comes in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 3], r"ids must have shape \(batch, time\), not \(3,\)"),
        ([[1, 11]], r"ids holds 11, which is not in 0 .. 10"),
        ([[1, -1]], r"ids holds -1"),
        ([[1.0, 2.0]], "ids must be integers, not float64"),
        (np.zeros((0, 3), int), "ids is empty"),
        ([[]], "ids is empty"),
        ([[0] * 8], "8 tokens do not fit in block_size=7"),
    ],
)
def test_ids_are_checked(ids, message):
    model = small_gpt()
    with pytest.raises(ValueError, match=message):
        model(ids)
    with pytest.raises(ValueError, match=message):
        model.loss(ids, np.zeros(np.shape(ids), int) if np.size(ids) else [[0]])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([[1, 11]], "targets holds 11"),
        ([[1, -2]], "targets holds -2"),
        ([[0.5, 1.0]], "targets must be integers"),
        ([[1], [2]], r"targets have shape \(2, 1\), ids have \(1, 2\)"),
    ],
)
def test_targets_are_checked(targets, message):
    with pytest.raises(ValueError, match=message):
        small_gpt().loss([[1, 2]], targets)


def test_lists_and_small_dtypes_are_fine():
    model = small_gpt()
    ids, targets = small_batch()
    for convert in (np.ndarray.tolist, lambda a: a.astype("uint16"), lambda a: a.astype("int8")):
        np.testing.assert_array_equal(model(convert(ids)).data, model(ids).data)
        assert model.loss(convert(ids), convert(targets)).item() == model.loss(ids, targets).item()


def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match='device must be "auto", "cpu" or "cuda", not \'tpu\''):
        GPT(GPTConfig(**SIZES), device="tpu")


# ---- save and load ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_save_and_load(tmp_path, dtype):
    model = small_gpt(dtype=dtype, n_kv_head=1, activation="swiglu", tie_weights=False)
    model.save(tmp_path / "model")
    loaded = GPT.load(tmp_path / "model")
    assert loaded.config == model.config
    assert loaded.wte.weight.dtype == dtype
    ids, _ = small_batch()
    np.testing.assert_array_equal(loaded(ids).data, model(ids).data)


def test_save_again(tmp_path):
    model = small_gpt()
    model.save(tmp_path)
    model.wte.weight.data += 1
    model.save(tmp_path)
    np.testing.assert_array_equal(GPT.load(tmp_path).wte.weight.data, model.wte.weight.data)


def test_load_from_nowhere(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        GPT.load(tmp_path)


def test_load_what_is_no_gpt(tmp_path):
    from tinygpt import checkpoint

    checkpoint.save(tmp_path, 0, {"model": {"w": np.ones(3)}}, {"config": {"n_layer": 2}})
    with pytest.raises(ValueError, match="does not hold a GPT"):
        GPT.load(tmp_path)


def test_a_cache_outside_no_grad_is_an_error():
    """It would cut keys and values off from their gradients without a word."""
    model = small_gpt()
    with pytest.raises(RuntimeError, match="no_grad"):
        model(np.array([[3]]), cache=KVCache(model.config, 1, model.wte.weight.data))
