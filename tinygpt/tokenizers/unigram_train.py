"""Learning Unigram: start with every frequent substring, and take away what is needed least.

Again and again: estimate the probability of each piece from how often all segmentations of the
text, by their probability, use it (EM); then drop the quarter of the pieces without which the text
loses least. Kudo 2018, arXiv:1804.10959, section 3.2.

All words of one length are dealt with at once, in arrays.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .words import progress_bar

LONGEST = 16  # characters of a piece
LONGEST_WORD = 24  # a longer word is cut for training only: products of so many probabilities
# are still above the smallest float, 1e-308
SEEDS = 1_000_000  # pieces to start with, at most
KEPT = 0.75  # of the pieces in each round
LEAST = 0.5  # expected occurrences below which a piece goes at once
NONE = -1  # in Group.ids: no piece


class Group(NamedTuple):
    """All words of one length L: counts (n,), and ids (L, LONGEST, n), the piece that starts at a
    place and has a length of one more than the second index."""

    length: int
    counts: np.ndarray
    ids: np.ndarray


def learn_pieces(
    words: Mapping[str, int], n_pieces: int, n_before: int = 0, progress: bool = False
) -> list[tuple[str, float]]:
    """n_pieces of (piece, logarithm of its probability), the most probable first.

    words: how often each occurs. All their characters are among the pieces.
    n_before: how many tokens there are besides, for the error messages.
    """
    words = in_lengths(words)
    letters = sorted({letter for word in words for letter in word})
    if n_pieces < max(1, len(letters)):
        raise ValueError(
            f"vocab_size={n_pieces + n_before} is too small: {n_before} tokens that are always "
            f"there and {len(letters)} characters make {n_before + max(1, len(letters))}"
        )
    pieces, scores = seeds(words, letters)
    if len(pieces) < n_pieces:
        raise ValueError(
            f"vocab_size={n_pieces + n_before} is more than this text has pieces for; "
            f"try vocab_size={n_before + len(pieces)}, or more text"
        )

    groups = in_groups(words, pieces)
    own = in_groups(dict.fromkeys(pieces, 1), pieces)
    keep_letters = np.array([len(piece) == 1 for piece in pieces])
    rounds = max(1, math.ceil(math.log(len(pieces) / n_pieces) / -math.log(KEPT)))
    with progress_bar(progress, "learning pieces", rounds, " rounds") as bar:
        while True:
            for _ in range(2):
                expected = expected_counts(groups, scores)
                scores = maximized(expected, keep_letters)
            if len(pieces) <= n_pieces:
                break
            target = max(n_pieces, int(KEPT * len(pieces)))
            kept = most_needed(own, scores, keep_letters, expected, target)
            groups = [with_pieces(group, kept, len(pieces)) for group in groups]
            own = [only_pieces(with_pieces(group, kept, len(pieces))) for group in own]
            pieces = [pieces[i] for i in kept]
            keep_letters, scores = keep_letters[kept], scores[kept]
            bar.update()
    ranked = sorted(range(len(pieces)), key=lambda i: (-scores[i], pieces[i]))
    return [(pieces[i], float(scores[i])) for i in ranked]


def in_lengths(words: Mapping[str, int]) -> dict[str, int]:
    """The words with those that are too long cut, in an order that depends on nothing else."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(0, len(word), LONGEST_WORD):
            counts[word[start : start + LONGEST_WORD]] += count
    return dict(sorted(counts.items()))


def seeds(words: Mapping[str, int], letters: list[str]) -> tuple[list[str], np.ndarray]:
    """The characters, and the substrings seen twice or more that cover most of the text."""
    counts: defaultdict[str, int] = defaultdict(int)
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + LONGEST) + 1):
                counts[word[start:end]] += count
    longer = [piece for piece, count in counts.items() if count > 1 and len(piece) > 1]
    longer.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    pieces = letters + longer[:SEEDS]
    cover = np.array([counts[piece] * len(piece) for piece in pieces], np.float64)
    return pieces, np.log(cover / cover.sum())


def in_groups(words: Mapping[str, int], pieces: list[str]) -> list[Group]:
    """The words by their length, with the pieces that stand in them."""
    ids = {piece: i for i, piece in enumerate(pieces)}
    by_length: defaultdict[int, list[str]] = defaultdict(list)
    for word in words:
        by_length[len(word)].append(word)
    groups = []
    for length, members in sorted(by_length.items()):
        table = np.full((length, LONGEST, len(members)), NONE, np.int32)
        for start in range(length):
            for size in range(min(LONGEST, length - start)):
                end = start + size + 1
                table[start, size] = [ids.get(word[start:end], NONE) for word in members]
        groups.append(Group(length, np.array([words[word] for word in members], float), table))
    return groups


def with_pieces(group: Group, kept: np.ndarray, n_pieces: int) -> Group:
    """The same words when of n_pieces only these are left, in a new numbering."""
    new_ids = np.full(n_pieces + 1, NONE, np.int32)
    new_ids[kept] = np.arange(len(kept))
    return group._replace(ids=new_ids[group.ids])  # NONE, the last, stays NONE


def steps(group: Group):
    """Every (start, end, ids of the pieces from start to end), by rising end."""
    for end in range(1, group.length + 1):
        for start in range(max(0, end - LONGEST), end):
            yield start, end, group.ids[start, end - start - 1]


def expected_counts(groups: list[Group], scores: np.ndarray) -> np.ndarray:
    """How often each piece is used, over all segmentations of every word by their probability."""
    p = np.append(np.exp(scores), 0.0)  # at NONE, the last
    counts = np.zeros(len(p))
    for group in groups:
        forward = np.zeros((group.length + 1, len(group.counts)))  # sum over all ways to get here
        backward = np.zeros_like(forward)  # ... and from here to the end
        forward[0] = backward[-1] = 1.0
        everything = list(steps(group))
        for start, end, ids in everything:
            forward[end] += forward[start] * p[ids]
        for start, end, ids in sorted(everything, key=lambda step: -step[0]):
            backward[start] += p[ids] * backward[end]
        weights = group.counts / forward[-1]
        used = [forward[start] * p[ids] * backward[end] * weights for start, end, ids in everything]
        every_id = np.concatenate([ids for _, _, ids in everything])
        counts += np.bincount(every_id % len(p), np.concatenate(used), len(p))
    return counts[:-1]


def most_needed(
    own: list[Group], scores: np.ndarray, keep: np.ndarray, expected: np.ndarray, target: int
) -> np.ndarray:
    """The pieces, `target` of them in rising order, without which the text would lose most.

    Without a piece, every use of it falls to the best other way to write it. own: the pieces
    themselves as words. Those in `keep` stay whatever they are worth.
    """
    loss = np.where(keep, np.inf, 0.0)
    padded = np.append(scores, -np.inf)
    for group in own:
        best = np.full((group.length + 1, len(group.counts)), -np.inf)
        best[0] = 0.0
        for start, end, ids in steps(group):
            if end - start < group.length:
                best[end] = np.maximum(best[end], best[start] + padded[ids])
        piece = group.ids[0, group.length - 1]
        if group.length > 1:
            loss[piece] = expected[piece] * (scores[piece] - best[-1])
    loss[(expected < LEAST) & ~keep] = -np.inf
    return np.sort(np.lexsort((np.arange(len(loss)), -loss))[:target])


def only_pieces(group: Group) -> Group:
    """The words that are pieces themselves still."""
    kept = group.ids[0, group.length - 1] != NONE
    return Group(group.length, group.counts[kept], group.ids[:, :, kept])


def maximized(expected: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Scores from counts. The digamma function instead of the logarithm favours few pieces."""
    counts = np.maximum(expected, np.where(keep, LEAST, 1e-9))
    return digamma(counts) - digamma(counts.sum())


def digamma(x: np.ndarray | float) -> np.ndarray:
    """The derivative of log gamma: the recurrence up to 12, then the asymptotic series."""
    x = np.array(x, float)
    result = np.zeros_like(x)
    for _ in range(12):
        small = x < 12
        result -= np.where(small, 1 / np.where(small, x, 1.0), 0.0)
        x = np.where(small, x + 1, x)
    r = 1 / (x * x)
    return result + np.log(x) - 0.5 / x - r * (1 / 12 - r * (1 / 120 - r / 252))
