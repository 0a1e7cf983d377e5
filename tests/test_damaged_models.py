"""A saved model that was damaged, mixed up or edited: a sentence, never a wrong model."""

import json
import random
import shutil
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest

from tinygpt import GPT, GPTConfig, checkpoint, tokenizers

TEXT = "to be, or not to be\n"
CONFIGS = {
    "gpt2": {},
    "rope": {"position": "rope", "norm": "rms_norm", "activation": "swiglu", "n_kv_head": 1},
    "sinusoidal": {"position": "sinusoidal", "tie_weights": False, "bias": False, "n_inner": 7},
}
ROOM = 20e6  # bytes that a load may take at most; the model and its files have a few thousand


def save(folder, rng, **options):
    tokenizer = tokenizers.Char.train(TEXT)
    config = GPTConfig(tokenizer.vocab_size, 8, n_layer=2, n_head=2, n_embd=8, **options)
    model = GPT(config, rng)
    model.save(folder, tokenizer)
    return model, tokenizer


def load(folder):
    """What `python -m tinygpt generate` loads: the model and its tokenizer."""
    _, meta, _ = checkpoint.load(folder, groups=())
    tokenizer = tokenizers.from_dict(meta["tokenizer"], source=str(folder))
    return GPT.load(folder), tokenizer


# ---- accidents ----------------------------------------------------------------------------------


def flip(folder, rng):
    file = any_file(folder, rng)
    raw = bytearray(file.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    file.write_bytes(raw)


def cut(folder, rng):
    file = any_file(folder, rng)
    raw = file.read_bytes()
    file.write_bytes(raw[: rng.randrange(len(raw))])


def lengthen(folder, rng):
    file = any_file(folder, rng)
    extra = rng.choice([b"\0", b"}", rng.randbytes(100), file.read_bytes()])
    file.write_bytes(file.read_bytes() + extra)


def swap(folder, rng):
    a, b = folder.iterdir()
    a.rename(folder / "c")
    b.rename(a)
    (folder / "c").rename(b)


def lose(folder, rng):
    any_file(folder, rng).unlink()


def mix(folder, rng):
    """A file of another model of the same shape, under the same name."""
    other = folder.with_name("other")
    name = rng.choice([file.name for file in folder.iterdir()])
    (folder / name).write_bytes((other / name).read_bytes())


def edit(folder, rng):
    """A value of checkpoint.json replaced by another: its sha256 no longer fits."""
    path = folder / "checkpoint.json"
    contents = json.loads(path.read_text(encoding="utf-8"))
    replace_a_value(contents, rng)
    path.write_text(json.dumps(contents, indent=2), encoding="utf-8")


def any_file(folder, rng):
    return rng.choice(sorted(folder.iterdir()))


VALUES = [None, True, False, -1, 0, 1, 3, 10**9, 10**30, 0.5, 1e300, "", "x", [], {}, [1], {"a": 1}]


def replace_a_value(contents, rng):
    """Somewhere in JSON data, give a value another, or take it away."""
    places = []

    def walk(value):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(contents)
    table, key = rng.choice(places)
    if rng.random() < 0.2:
        del table[key]
    else:
        table[key] = rng.choice(VALUES)


ACCIDENTS = [flip, cut, lengthen, swap, lose, mix, edit]


def assert_same(loaded, saved):
    (model, tokenizer), (expected, expected_tokenizer) = loaded, saved
    assert model.config == expected.config
    assert tokenizer.characters == expected_tokenizer.characters
    for name, w in expected.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], w)


def damage_and_load(tmp_path, times, seed):
    """After each accident: a ValueError that names the folder, or the very model that was saved."""
    rng = random.Random(seed)
    options = rng.choice(list(CONFIGS.values()))
    good, folder = tmp_path / "good", tmp_path / "model"
    saved = save(good, 0, **options)
    save(tmp_path / "other", 1, **options)
    refused = 0
    for _ in range(times):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        accident = rng.choice(ACCIDENTS)
        accident(folder, rng)
        try:
            assert_same(load(folder), saved)
        except ValueError as error:
            refused += 1
            assert str(folder) in str(error), accident  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert refused > 0.7 * times


def test_damaged_models(tmp_path):
    damage_and_load(tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_thousands_of_damaged_models(tmp_path, seed):
    damage_and_load(tmp_path, 1000, seed)


# ---- forgeries ----------------------------------------------------------------------------------


def load_forged(folder, model, meta):
    """These weights beside settings that say something else, with a sha256 that fits: a ValueError,
    or a model of these weights; and room is made for no more than they need."""
    checkpoint.save(folder, 0, {"model": model.state_dict()}, meta)
    tracemalloc.start()
    try:
        loaded = GPT.load(folder)
        for name, w in loaded.state_dict().items():
            np.testing.assert_array_equal(w, model.state_dict()[name])
        loaded(np.zeros((1, 1), int))
    except ValueError as error:
        return str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < ROOM, meta
    return None


SIZES = ["vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_kv_head", "n_inner"]


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_the_weights_do_not_have(tmp_path, options, name):
    model, _ = save(tmp_path / "good", 0, **options)
    for size in (1, 4, 6, 10**5, 10**9, 10**30):
        config = {**asdict(model.config), name: size}
        error = load_forged(tmp_path / "forged", model, {"config": config, "tokenizer": None})
        if name == "block_size" and model.config.position != "learned":
            continue  # no weight depends on it
        if name != "n_head" or size > 8:
            assert error is not None or config == asdict(model.config)


def load_forgeries(tmp_path, times, seed):
    rng = random.Random(seed)
    model, _ = save(tmp_path / "good", 0, **rng.choice(list(CONFIGS.values())))
    refused = 0
    for _ in range(times):
        meta = {"config": asdict(model.config), "tokenizer": None}
        replace_a_value(meta, rng)
        error = load_forged(tmp_path / "forged", model, meta)
        if error is not None:
            refused += 1
            assert str(tmp_path) in error
    assert refused > times / 3


def test_forged_models(tmp_path):
    load_forgeries(tmp_path, 40, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_thousands_of_forged_models(tmp_path, seed):
    load_forgeries(tmp_path, 500, seed)
