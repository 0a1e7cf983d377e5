"""split, windows, Loader: every token where it should be, and the same again after a resume."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygpt.data import Loader, split, windows

# ---- split --------------------------------------------------------------------------------------


def test_split_of_tinyshakespeare():
    tokens = np.arange(1_115_394, dtype=np.uint16)
    train, validation = split(tokens)
    assert (len(train), len(validation)) == (1_003_854, 111_540)
    assert np.shares_memory(train, tokens)


@given(st.text("ab 中\n", min_size=2), st.floats(0.001, 0.999))
@settings(deadline=None, max_examples=60)
def test_split_puts_validation_last_and_loses_nothing(text, fraction):
    train, validation = split(text, fraction)
    assert train + validation == text
    assert len(text) * fraction <= len(validation) < len(text) * fraction + 1


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_wants_a_fraction(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        split("text", fraction)


# ---- windows ------------------------------------------------------------------------------------


def test_windows_by_hand():
    ids, targets = windows(np.array([5, 7, 2, 9, 4, 1]), 2)
    assert ids.tolist() == [[5, 7], [2, 9], [4, 0]]
    assert targets.tolist() == [[7, 2], [9, 4], [1, -1]]


@given(st.integers(2, 60), st.integers(1, 70), st.sampled_from([np.uint16, np.uint32, np.int64]))
@settings(deadline=None, max_examples=60)
def test_every_token_but_the_first_is_a_target_once(n, block_size, dtype):
    tokens = np.arange(100, 100 + n, dtype=dtype)
    ids, targets = windows(tokens, block_size)
    assert ids.shape == targets.shape == (-(-(n - 1) // block_size), block_size)
    assert ids.dtype == targets.dtype == np.int64
    real = targets != -1
    assert targets[real].tolist() == tokens[1:].tolist()
    assert ids[real].tolist() == tokens[:-1].tolist()
    assert not ids[~real].any()
    assert real.sum(axis=1).min() >= 1  # no window is only padding


def test_windows_of_too_little():
    for tokens in ([], [3]):
        with pytest.raises(
            ValueError, match=f"there are {len(tokens)} tokens, and 2 are the least"
        ):
            windows(np.array(tokens, np.int64), 4)
    with pytest.raises(ValueError, match="block_size must be 1 or more, not 0"):
        windows(np.arange(5), 0)


# ---- Loader -------------------------------------------------------------------------------------


def epoch_of(loader):
    """The windows that are left of the loader's epoch, and the first of the next one.

    Each by its first token. batch_size must be 1.
    """
    epoch, firsts = loader.epoch, []
    while True:
        ids, _ = next(loader)
        if loader.epoch != epoch:
            return firsts, int(ids[0, 0])
        firsts.append(int(ids[0, 0]))


sizes = st.tuples(st.integers(2, 80), st.integers(1, 20)).filter(lambda sizes: sizes[0] > sizes[1])


@given(sizes, st.integers(1, 9), st.integers(0, 2**70))
@settings(deadline=None, max_examples=60)
def test_batches_are_windows_of_the_text(sizes, batch_size, seed):
    n, block_size = sizes
    tokens = np.arange(n, dtype=np.uint16) + 1000
    for ids, targets in itertools.islice(Loader(tokens, block_size, batch_size, seed), 5):
        assert ids.shape == targets.shape == (batch_size, block_size)
        assert ids.dtype == targets.dtype == np.int64
        assert ids.flags.c_contiguous
        assert targets.flags.c_contiguous
        np.testing.assert_array_equal(ids, ids[:, :1] + np.arange(block_size))
        np.testing.assert_array_equal(targets, ids + 1)
        assert ids.min() >= 1000
        assert targets.max() < 1000 + n


@given(sizes, st.integers(0, 100))
@settings(deadline=None, max_examples=60)
def test_an_epoch_takes_every_window_once(sizes, seed):
    n, block_size = sizes
    loader = Loader(np.arange(n), block_size, 1, seed)
    firsts, following = epoch_of(loader)
    firsts.sort()
    offset = firsts[0]
    assert 0 <= offset < block_size
    assert firsts == list(range(offset, n - block_size, block_size))
    assert 0 <= following < n - block_size


def test_offsets_and_orders_differ_from_epoch_to_epoch():
    loader = Loader(np.arange(1000), 10, 1)
    first, following = epoch_of(loader)
    second, _ = epoch_of(loader)
    second.insert(0, following)
    assert {f % 10 for f in first} != {f % 10 for f in second}
    assert first != sorted(first)
    assert np.argsort(first[:98]).tolist() != np.argsort(second[:98]).tolist()


def test_in_time_windows_begin_everywhere():
    for n in (23, 8):
        loader = Loader(np.arange(n), 5, 1)
        begins = {int(next(loader)[0][0, 0]) for _ in range(500)}
        assert begins == set(range(n - 5))


def test_a_text_of_one_window():
    loader = Loader(np.arange(6), 5, 3)
    ids, targets = next(loader)
    assert ids.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert targets.tolist() == [[1, 2, 3, 4, 5]] * 3
    assert (loader.epoch, loader.position) == (2, 1)


def test_batch_size_does_not_change_the_order():
    def row(batch_size):
        loader = Loader(np.arange(100), 7, batch_size, seed=3)
        return np.concatenate([next(loader)[0] for _ in range(60 // batch_size)])

    for batch_size in (2, 5, 12, 60):
        np.testing.assert_array_equal(row(batch_size), row(1))


def test_seeds_give_different_orders():
    orders = {tuple(epoch_of(Loader(np.arange(1000), 10, 1, seed))[0]) for seed in range(20)}
    assert len(orders) == 20
    # one seed's second epoch is not another seed's first
    loader = Loader(np.arange(1000), 10, 1, 0)
    _, following = epoch_of(loader)
    second = (following, *epoch_of(loader)[0])
    assert second not in orders
    assert second != tuple(epoch_of(Loader(np.arange(1000), 10, 1, 2**32))[0])


@given(sizes, st.integers(1, 9), st.integers(0, 40), st.integers(0, 10))
@settings(deadline=None, max_examples=60)
def test_a_restored_loader_goes_on_with_the_same_batches(sizes, batch_size, before, seed):
    n, block_size = sizes
    tokens = np.arange(n, dtype=np.uint16)
    loader = Loader(tokens, block_size, batch_size, seed)
    for _ in range(before):
        next(loader)
    state = json.loads(json.dumps(loader.state_dict(), allow_nan=False))

    other = Loader(tokens, block_size, batch_size, seed)
    next(other)
    other.load_state_dict(state)
    assert other.state_dict() == state
    for _ in range(10):
        for ours, theirs in zip(next(loader), next(other), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_what_next_returns_is_the_callers_to_change():
    tokens = np.arange(50)
    ids, targets = next(Loader(tokens, 7, 3))
    ids[:] = -5
    targets[:] = -6
    assert tokens.tolist() == list(range(50))


def test_tokens_on_disk(tmp_path):
    tokens = np.arange(500, dtype=np.uint16)
    tokens.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", np.uint16, mode="r")
    for ours, theirs in zip(next(Loader(tokens, 8, 5)), next(Loader(mapped, 8, 5)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert type(theirs) is np.ndarray
    assert windows(mapped, 8)[0].shape == (63, 8)


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 8])
def test_a_text_shorter_than_a_block(n):
    message = f"there are {n} tokens, and block_size=8 needs 9 or more; try a longer text or a smal"
    with pytest.raises(ValueError, match=message):
        Loader(np.arange(n), 8, 2)
    Loader(np.arange(9), 8, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("some text", 2, 2), TypeError, "encode it with a tokenizer"),
        ((np.zeros(50), 2, 2), TypeError, r"float64 with shape \(50,\)"),
        ((np.zeros((5, 5), int), 2, 2), TypeError, r"shape \(5, 5\)"),
        ((np.zeros(50, bool), 2, 2), TypeError, "bool"),
        ((np.arange(50), 0, 2), ValueError, "block_size must be 1 or more, not 0"),
        ((np.arange(50), 2, -1), ValueError, "batch_size must be 1 or more, not -1"),
        ((np.arange(50), 2.0, 2), TypeError, "float"),
        ((np.arange(50), 2, 2, -1), ValueError, "seed must be 0 or more, not -1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Loader(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 49}, "had tokens 49, this one has 50"),
        ({"block_size": 4}, "had block_size 4, this one has 5"),
        ({"seed": 1}, "had seed 1, this one has 0"),
        ({"epoch": -1}, "epoch in a loader's state must be a whole number, not -1"),
        ({"position": 1.5}, "position in a loader's state must be a whole number, not 1.5"),
        ({"position": True}, "position"),
        ({"position": 10}, "position 10 in a loader's state is beyond the 9 windows of epoch 0"),
        ({"more": 1}, "a loader's state has epoch, position, seed, block_size, tokens"),
    ],
)
def test_a_state_that_does_not_belong_here(change, message):
    loader = Loader(np.arange(50), 5, 3)
    before = loader.state_dict()
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict({**before, **change})
    assert loader.state_dict() == before
    expected, _ = next(Loader(np.arange(50), 5, 3))
    np.testing.assert_array_equal(next(loader)[0], expected)


def test_a_state_that_is_none():
    for state in ({}, {"epoch": 1}, [], None):
        with pytest.raises(ValueError, match="a loader's state has"):
            Loader(np.arange(50), 5, 3).load_state_dict(state)


def test_a_batch_beyond_memory_fails_at_once():
    with pytest.raises(MemoryError):
        next(Loader(np.arange(100), block_size=8, batch_size=10**13))
