"""Places for the boxes of a graph: in rows, each box below all that lead to it.

In the manner of Sugiyama, Tagawa & Toda 1981, "Methods for visual understanding of hierarchical
system structures": rows by the longest path; a line that passes a row takes a place in it, as a
thin box would; then all move towards the middle of their neighbours, their barycentre.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Edges = Sequence[tuple[int, int]]  # (from, to), as numbers of boxes, from < to
Point = tuple[float, float]

SIDE, BELOW = 24.0, 44.0  # between two boxes of a row; between two rows
LINE = 6.0  # the place that a line takes where it passes a row
SWEEPS = 60  # down and up; nothing moves any more after about that many
STRONG, LONG = 3.0, 8.0  # how much straighter a line should be: between ops, past rows


@dataclass
class Layout:
    """boxes: (left, top, width, height) of each. lines: for each edge its points, in pairs: within
    a pair it goes straight down (past the boxes of a row), between pairs it may bend."""

    boxes: list[tuple[float, float, float, float]]
    lines: list[list[Point]]
    width: float
    height: float


def lay_out(sizes: Sequence[tuple[float, float]], edges: Edges) -> Layout:
    """sizes: (width, height) of each box."""
    row_of = _rows(len(sizes), edges)
    rows, chains = _with_passing_lines(row_of, edges)
    widths = [width for width, _ in sizes]
    widths += [LINE] * (sum(map(len, rows)) - len(sizes))
    x = _columns(rows, chains, widths)

    left = min(middle - width / 2 for middle, width in zip(x, widths, strict=True))
    x = [middle - left for middle in x]
    heights = [max(sizes[i][1] for i in row if i < len(sizes)) for row in rows]
    tops = [sum(heights[:r]) + r * BELOW for r in range(len(rows))]
    boxes = [
        (x[i] - width / 2, tops[row] + (heights[row] - height) / 2, width, height)
        for i, ((width, height), row) in enumerate(zip(sizes, row_of, strict=True))
    ]

    lines = []
    for edge, chain in enumerate(chains):
        (_, top, _, height), (_, end, _, _) = boxes[chain[0]], boxes[chain[-1]]
        start, row = top + height, row_of[chain[0]]
        enters = _entry(edge, chains, x, boxes[chain[-1]])
        line = [(x[chain[0]], start), (x[chain[0]], tops[row] + heights[row])]
        for i in chain[1:-1]:
            row += 1
            line += [(x[i], tops[row]), (x[i], tops[row] + heights[row])]
        lines.append([*line, (enters, tops[row + 1]), (enters, end)])

    width = max(middle + width / 2 for middle, width in zip(x, widths, strict=True))
    return Layout(boxes, lines, width, tops[-1] + heights[-1])


def _rows(count: int, edges: Edges) -> list[int]:
    """The row of each box: one more than the lowest of those that lead to it. A box that nothing
    leads to comes right above the first that it leads to."""
    row = [0] * count
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        row[end] = max(row[end], row[start] + 1)
    for i in set(range(count)) - {end for _, end in edges}:
        row[i] = min((row[end] - 1 for start, end in edges if start == i), default=0)
    return row


def _with_passing_lines(row_of: list[int], edges: Edges) -> tuple[list[list[int]], list[list[int]]]:
    """What is in each row; and for each edge the chain of what it goes through: a box, its place in
    each row that it passes, a box. Places have the numbers that follow those of the boxes."""
    rows: list[list[int]] = [[] for _ in range(max(row_of) + 1)]
    for i, row in enumerate(row_of):
        rows[row].append(i)
    chains, new = [], itertools.count(len(row_of))
    for start, end in edges:
        places = []
        for row in range(row_of[start] + 1, row_of[end]):
            places.append(next(new))
            rows[row].append(places[-1])
        chains.append([start, *places, end])
    return rows, chains


def _columns(rows: list[list[int]], chains: list[list[int]], widths: list[float]) -> list[float]:
    """The middle of each box and place, from left to right."""
    led_to = {chain[-1] for chain in chains}
    pulls: list[list[tuple[int, float]]] = [[] for _ in widths]  # (neighbour, how strong)
    for chain in chains:
        strength = LONG if len(chain) > 2 else STRONG if chain[0] in led_to else 1.0
        for upper, lower in itertools.pairwise(chain):
            pulls[lower].append((upper, strength))
            pulls[upper].append((lower, strength))
    weights = [sum(strength for _, strength in pull) or 1.0 for pull in pulls]

    x = [0.0] * len(widths)
    for _ in range(SWEEPS):
        for row in [*rows, *reversed(rows)]:
            wanted = {i: sum(x[j] * strength for j, strength in pulls[i]) / weights[i] for i in row}
            order = sorted(row, key=wanted.__getitem__)
            places = _apart(*zip(*((wanted[i], widths[i], weights[i]) for i in order), strict=True))
            for i, place in zip(order, places, strict=True):
                x[i] = place
    return x


def _apart(
    wanted: Sequence[float], widths: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """Middles as near as can be to those wanted, in the same order and without overlap.

    Least squares: those that would overlap stand side by side, around their weighted mean.
    """
    offsets, right = [], 0.0  # of each from the first, were all side by side
    for width in widths:
        offsets.append(right + width / 2)
        right += width + SIDE
    groups: list[tuple[float, float, int]] = []  # side by side: where, weight, how many
    for middle, offset, weight in zip(wanted, offsets, weights, strict=True):
        where, count = middle - offset, 1
        while groups and groups[-1][0] >= where:
            other, more, members = groups.pop()
            where = (where * weight + other * more) / (weight + more)
            weight, count = weight + more, count + members
        groups.append((where, weight, count))
    starts = [where for where, _, count in groups for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _entry(edge: int, chains: list[list[int]], x: list[float], box: tuple) -> float:
    """Where on the top of its box an edge ends: all that end there share the width."""
    end = chains[edge][-1]
    ending = [e for e, chain in enumerate(chains) if chain[-1] == end]
    ending.sort(key=lambda e: x[chains[e][-2]])
    left, _, width, _ = box
    return left + width * (ending.index(edge) + 1) / (len(ending) + 1)
