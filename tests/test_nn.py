"""Modules: names, saving and loading parameters, and checking ids at the edge."""

import numpy as np
import pytest

from tinygpt import Tensor, gradcheck, nn
from tinygpt.nn import check_ids
from tinygpt.rng import NoWeights

RNG = np.random.default_rng(0)


class Tree(nn.Module):
    """Parameters of its own, modules, a list of modules, and what is neither."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.scale = nn.Parameter(np.ones(2, "float32"))
        self.layers = [nn.Linear(3, 4, rng), nn.Linear(4, 2, rng, bias=False)]
        self.norm = nn.LayerNorm(2)
        self.note = "not a parameter"
        self.constant = Tensor(np.ones(2))
        self.numbers = [1, 2]


NAMES = [
    "scale",
    "layers.0.weight",
    "layers.0.bias",
    "layers.1.weight",
    "norm.weight",
    "norm.bias",
]


def test_names():
    tree = Tree()
    assert [name for name, _ in tree.named_parameters()] == NAMES
    assert list(tree.state_dict()) == NAMES
    assert [p for _, p in tree.named_parameters()] == tree.parameters()
    assert all(p.requires_grad for p in tree.parameters())


def test_a_module_that_computes_nothing():
    with pytest.raises(NotImplementedError, match="Tree does not say what it computes"):
        Tree()(1)


def test_zero_grad():
    tree = Tree()
    (tree.scale * 2).sum().backward()
    assert tree.scale.grad is not None
    tree.zero_grad()
    assert tree.scale.grad is None


# ---- state_dict ---------------------------------------------------------------------------------


def test_state_dict_round_trip():
    source, tree = Tree(), Tree()
    for p in source.parameters():
        p.data += RNG.standard_normal(p.shape).astype("float32")
    places = [p.data for p in tree.parameters()]
    tree.load_state_dict(source.state_dict())
    for p, q, place in zip(tree.parameters(), source.parameters(), places, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        assert p.data is place  # written into: an optimizer may hold it
        assert not np.shares_memory(p.data, q.data)
    tree.load_state_dict({name: a.astype("float64") for name, a in source.state_dict().items()})
    assert tree.scale.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.bias"), r"missing \['norm.bias'\]"),
        (lambda s: s.update(lm_head=np.ones(2)), r"not in the model \['lm_head'\]"),
        (
            lambda s: s.update({"norm.weight": np.ones((2, 1))}),
            r"norm.weight has shape \(2, 1\), not \(2,\)",
        ),
        (lambda s: s.update({"layers.0.weight": np.ones((4, 3))}), "layers.0.weight has shape"),
    ],
)
def test_what_does_not_fit_changes_nothing(change, message):
    tree = Tree()
    before = {name: a.copy() for name, a in tree.state_dict().items()}
    state = {name: a + 1 for name, a in tree.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        tree.load_state_dict(state)
    for name, a in tree.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


# ---- layers -------------------------------------------------------------------------------------


def test_linear():
    layer = nn.Linear(3, 4, RNG, dtype="float64")
    assert layer.weight.shape == (3, 4)
    layer.bias.data[...] = RNG.standard_normal(4)
    x = RNG.standard_normal((2, 5, 3))
    np.testing.assert_allclose(layer(Tensor(x)).data, x @ layer.weight.data + layer.bias.data)
    assert gradcheck(layer, x) < 1e-6
    assert nn.Linear(3, 4, RNG, bias=False).bias is None
    assert 0.9 < nn.Linear(100, 100, RNG, std=0.5).weight.data.std() / 0.5 < 1.1


def test_embedding():
    layer = nn.Embedding(5, 3, RNG)
    ids = np.array([[4, 0], [4, 1]])
    np.testing.assert_array_equal(layer(ids).data, layer.weight.data[ids])
    assert layer.weight.is_table
    assert not nn.Linear(5, 3, RNG).weight.is_table


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(bias):
    layer = nn.LayerNorm(4, bias, eps=1e-3, dtype="float64")
    x = RNG.standard_normal((2, 4))
    centred = x - x.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(layer(Tensor(x)).data, expected)
    assert gradcheck(layer, x) < 1e-6


def test_rms_norm():
    layer = nn.RMSNorm(4, eps=1e-3, dtype="float64")
    x = RNG.standard_normal((2, 4))
    expected = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(layer(Tensor(x)).data, expected)
    assert gradcheck(layer, x) < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(dtype):
    layers = [
        nn.Linear(3, 4, RNG, dtype=dtype),
        nn.Embedding(3, 4, RNG, dtype=dtype),
        nn.LayerNorm(4, dtype=dtype),
        nn.RMSNorm(4, dtype=dtype),
    ]
    assert {p.dtype for layer in layers for p in layer.parameters()} == {np.dtype(dtype)}


# ---- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64"])
def test_ids_become_int64(dtype):
    ids = check_ids("ids", np.array([[0, 4]], dtype), 5)
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, [[0, 4]])
    np.testing.assert_array_equal(check_ids("ids", [[0, 4]], 5), [[0, 4]])
    assert check_ids("ids", np.array([200, 3], dtype), 50257)[0] == 200  # 50257 fits no uint8


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, -1], r"ids holds -1, which is not in 0 .. 4"),
        ([0, 5, 9], r"ids holds 5, which is not in 0 .. 4"),
        (np.array([255], "uint8"), "ids holds 255"),
        ([0.0, 1.0], "ids must be integers, not float64"),
        ([True], "ids must be integers, not bool"),
        (np.zeros((2, 0), int), r"ids is empty: its shape is \(2, 0\)"),
        (np.array(["a"]), "ids must be integers"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        check_ids("ids", ids, 5)


def test_ignored_ids():
    np.testing.assert_array_equal(check_ids("targets", [[-1, 4]], 5, ignored=-1), [[-1, 4]])
    for bad in (-2, 5):
        with pytest.raises(ValueError, match=f"targets holds {bad}"):
            check_ids("targets", [-1, bad], 5, ignored=-1)


# ---- weights about to be loaded -----------------------------------------------------------------


def test_weights_that_take_no_memory():
    layer = nn.Linear(1 << 20, 1 << 20, NoWeights(), bias=False, dtype="float64")  # 8 TB
    assert (layer.weight.shape, layer.weight.dtype) == ((1 << 20, 1 << 20), "float64")
    assert not layer.weight.data.flags.writeable
    assert layer.weight.data.strides == (0, 0)


def test_make_room_for_them():
    layer = nn.Linear(3, 4, NoWeights(), dtype="float32")
    bias = layer.bias.data
    nn.make_room(layer)
    layer.weight.data[...] = 2
    assert (layer.weight.shape, layer.weight.dtype) == ((3, 4), "float32")
    assert layer.bias.data is bias
