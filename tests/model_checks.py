"""What parts of the model are held to, as functions that planted bugs can turn red."""

import importlib

import numpy as np
from small_gpt import SIZES, B, T, replace_parameter, small_batch, small_gpt

from tinygpt import GPTConfig, Tensor, gradcheck, no_grad

MIXTURE = {"n_expert": 4, "n_expert_per_token": 2, "n_inner": 5, "activation": "swiglu"}


def states(shape=(B, T, 12), seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- mixture of experts -------------------------------------------------------------------------


def by_hand(mlp, x, k):
    """y and the imbalance of a Mixture, one token at a time."""
    y, taken, probabilities = np.zeros_like(x), [], []
    for b, t in np.ndindex(x.shape[:2]):
        scores = x[b, t] @ mlp.router.weight.data
        p = np.exp(scores) / np.exp(scores).sum()
        experts = sorted(range(len(p)), key=lambda e: -p[e])[:k]
        for e in experts:
            result = mlp.experts[e](Tensor(x[b : b + 1, t : t + 1]), None).data[0, 0]
            y[b, t] += p[e] / p[experts].sum() * result
        taken += experts
        probabilities.append(p)
    f = np.bincount(taken, minlength=len(p)) / len(probabilities)
    return y, len(p) * np.sum(f * np.mean(probabilities, axis=0))


def mixture(_, n_expert=4, k=2):
    mlp = small_gpt(**MIXTURE | {"n_expert": n_expert, "n_expert_per_token": k}).h[0].mlp
    y, imbalance = mlp(Tensor(states()), None)
    expected, expected_imbalance = by_hand(mlp, states(), k)
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(imbalance.data, expected_imbalance, rtol=1e-12)


def mixture_gradients(_, names=("h.0.mlp.router.weight", "h.0.ln_2.weight")):
    """Of the loss with its balance: f, a count, stays where it is, and P moves."""
    model = small_gpt(**MIXTURE, n_layer=1, balance_weight=3.0)
    ids, targets = small_batch()
    parameters = dict(model.named_parameters())
    for name in names or parameters:
        p = parameters[name]

        def loss(w, name=name):
            replace_parameter(model, name, w)
            return model.loss(ids, targets)

        gradcheck(loss, p.data, allow_zero=["w"] if ".experts." in name else [])
        replace_parameter(model, name, p)


# ---- positions ----------------------------------------------------------------------------------


def llama3_scaling(_):
    """A pair that comes round 8, 5/2 and 1/2 times in 64 tokens; 1 to 4 is the crossing."""
    scaling = importlib.import_module("tinygpt.gpt.config").RopeScaling("llama3", 8.0, 1.0, 4.0, 64)
    frequencies = 2 * np.pi / 64 * np.array([8, 2.5, 0.5])
    expected = frequencies * [1, (1 + 1 / 8) / 2, 1 / 8]
    np.testing.assert_allclose(scaling(frequencies), expected, rtol=1e-15)


def sinks(_, sinks=2, window=4):
    """Token by token with a cache of sinks + window places, and all at once."""
    text = 15
    model = importlib.import_module("tinygpt.gpt.model")
    config = GPTConfig(
        **SIZES | {"block_size": text, "n_layer": 1}, window=window, sinks=sinks, position="rope"
    )
    attention = model.Attention(config, np.random.default_rng(0), 0.02, "float64")
    rng = np.random.default_rng(1)
    for p in attention.parameters():
        p.data += 0.4 * rng.standard_normal(p.shape)
        p.requires_grad = False
    x = rng.standard_normal((1, text, 12))

    def attend(start, stop, cache=None):
        turn = model.position_tables(config, (start,), stop - start, "float64")
        y = attention(Tensor(x[:, start:stop]), turn, None, cache, 0).data
        if cache is not None:
            cache.advance(stop - start)
        return y

    cache = model.KVCache(config, 1, x)
    steps = [attend(t, t + 1, cache) for t in range(text)]
    assert cache.arrays.shape[-2] == min(text, sinks + window)
    np.testing.assert_allclose(np.concatenate(steps, axis=1), attend(0, text), rtol=1e-11)

    # StreamingLLM: what is held stands side by side, at positions 0, 1, 2, ...
    plain = GPTConfig(**SIZES | {"block_size": text, "n_layer": 1}, position="rope")
    beside = model.Attention(plain, np.random.default_rng(0), 0.02, "float64")
    beside.load_state_dict(attention.state_dict())
    for t in range(text):
        held = [s for s in range(t + 1) if s < sinks or s > t - window]
        turn = model.position_tables(plain, (0,), len(held), "float64")
        y = beside(Tensor(x[:, held]), turn, None, None, 0).data[:, -1]
        np.testing.assert_allclose(steps[t][:, 0], y, rtol=1e-10, atol=1e-12)


def growing(_):
    """A text in pieces through a cache with room for all of it: the logits of one pass."""
    model = small_gpt()
    ids = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (2, 6))
    cache = importlib.import_module("tinygpt.gpt.cache").KVCache(model.config, 2, np.zeros(1))
    with no_grad():
        pieces = [model(piece, cache=cache).data for piece in np.split(ids, [2, 3, 4], axis=1)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), model(ids).data, rtol=1e-11)


def rolling(_, **options):
    """Three rows of a text, each in pieces of its own, then together: the logits of one pass."""
    options = options or {"position": "rope", "window": 3, "sinks": 2}
    model = small_gpt(**options)
    ids = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (3, 41))
    cache = importlib.import_module("tinygpt.gpt.cache").KVCache(model.config, 3, np.zeros(1))
    expected, room = model(ids).data, options["window"] + options.get("sinks", 0)
    assert cache.arrays.shape[-2] == room

    def feed(rows, count):
        """The next tokens of these rows."""
        some = cache.rows(rows)
        places = some.lengths[:, None] + np.arange(count)
        with no_grad():
            found = model(np.take_along_axis(ids[rows], places, axis=1), cache=some).data
        wanted = np.take_along_axis(expected[rows], places[..., None], axis=1)
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-11)

    for b, pieces in enumerate([(1,), (2, 1, 4, 1, 7, 3, 1, 1), (9, 6, 1)]):
        for count in pieces:
            feed(slice(b, b + 1), count)
    for _ in range(21):
        feed(slice(0, 3), 1)
    assert cache.lengths.tolist() == [22, 41, 37]
