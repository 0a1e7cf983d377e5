"""A graph as a picture: SVG for a browser, DOT for Graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from .layout import Point, lay_out
from .trace import Graph, Vertex

SIZE = 12  # of the letters, in pixels
LETTER, LINE = 0.61 * SIZE, 1.35 * SIZE  # the width of a letter, all are alike; a line's height
MARGIN = 8
COLOURS = {False: "#e3edf9", True: "#fff3c4"}  # ops, leaves
CAPTION = (
    "Blue: an op and the shape of its result. Yellow: a leaf, such as a parameter.",
    "gradient: the norm of what came back to it, against the arrows.",
    "keeps: the arrays that its backward mentions; a leaf's is there anyway.",
)


def to_dot(graph: Graph) -> str:
    """The graph in Graphviz's language: dot -Tpdf graph.dot -o graph.pdf."""
    lines = ["digraph {", '  node [shape=box, style=filled, fontname="monospace", fontsize=10];']
    for i, vertex in enumerate(graph.vertices):
        text = "".join(_for_dot(line) + r"\l" for line in _about(vertex))  # \l: on the left
        lines.append(f'  v{i} [label="{text}", fillcolor="{COLOURS[vertex.is_leaf]}"];')
    lines += [f"  v{start} -> v{end};" for start, end in graph.edges]
    return "\n".join([*lines, "}", ""])


def to_svg(graph: Graph) -> str:
    """The graph as a picture, laid out by layout.py."""
    texts = [_about(vertex) for vertex in graph.vertices]
    sizes = [(_width(text) + 2 * MARGIN, len(text) * LINE + 2 * MARGIN) for text in texts]
    layout = lay_out(sizes, graph.edges)
    left, top = MARGIN, len(CAPTION) * LINE + 3 * MARGIN
    width = max(layout.width, _width(CAPTION)) + 2 * MARGIN
    height = top + layout.height + MARGIN

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" style="background: white" '
        f'font-family="monospace" font-size="{SIZE}">',
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 1 8 4 0 7" fill="#666"/></marker>',
        _text(CAPTION, left, MARGIN),
    ]
    for points in layout.lines:
        path = _path([(x + left, y + top) for x, y in points])
        parts.append(f'<path d="{path}" fill="none" stroke="#666" marker-end="url(#tip)"/>')
    for vertex, text, (x, y, w, h) in zip(graph.vertices, texts, layout.boxes, strict=True):
        x, y = x + left, y + top
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="4" '
            f'fill="{COLOURS[vertex.is_leaf]}" stroke="#888"/>'
        )
        parts.append(_text(text, x + MARGIN, y + MARGIN))
    return "\n".join([*parts, "</svg>", ""])


def _about(vertex: Vertex) -> list[str]:
    """The lines of text in a box."""
    lines = [
        vertex.name,
        "shape " + ", ".join(map(str, vertex.shapes)),
        f"gradient {vertex.grad_norm:.3g}",
    ]
    for saved in vertex.saved:
        size = f"{saved.nbytes:,} bytes" if saved.leaf is None else "of a leaf"
        lines.append(f"keeps {saved.name} {saved.shape} {size}")
    return lines


def _for_dot(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")


def _for_svg(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _width(text: Sequence[str]) -> float:
    return max(map(len, text)) * LETTER


def _text(lines: Sequence[str], left: float, top: float) -> str:
    spans = [
        f'<tspan x="{left:.1f}" y="{top + (i + 0.8) * LINE:.1f}">{_for_svg(line)}</tspan>'
        for i, line in enumerate(lines)
    ]
    return f"<text>{''.join(spans)}</text>"


def _path(points: Sequence[Point]) -> str:
    """Straight down within a pair of points, an S from a pair to the next."""
    (x, y), *_ = points
    path = f"M{x:.1f} {y:.1f}"
    for i, (to_x, to_y) in enumerate(points[1:]):
        if i % 2 == 0:
            path += f"V{to_y:.1f}"
        else:
            middle = (y + to_y) / 2
            path += f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    return path
