"""tinygpt.graph: what a trace says, checked by hand, and what its pictures look like."""

import itertools
import re
import shutil
import subprocess
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from small_gpt import small_batch, small_gpt

import tinygpt
from tinygpt import AdamW, Tensor, graph
from tinygpt.graph.layout import SIDE, _apart, lay_out

SVG = "{http://www.w3.org/2000/svg}"


def leaf(*numbers):
    return Tensor(np.array(numbers), requires_grad=True)


def names(found):
    return [vertex.name for vertex in found.vertices]


def op(found, name):
    (vertex,) = (vertex for vertex in found.vertices if vertex.name == name)
    return vertex


def gpt_trace(**options):
    model = small_gpt(**options)
    loss = model.loss(*small_batch())
    return model, loss, graph.trace(loss, **dict(model.named_parameters()))


# ---- the trace ----------------------------------------------------------------------------------


def test_x_times_w_plus_b():
    x, w, b = (Tensor(number, requires_grad=True) for number in (2.0, 3.0, 4.0))
    found = graph.trace(x * w + b, x=x, w=w, b=b)
    assert names(found) == ["x", "w", "b", "multiply", "add"]
    assert [vertex.is_leaf for vertex in found.vertices] == [True, True, True, False, False]
    assert found.edges == [(0, 3), (1, 3), (3, 4), (2, 4)]
    assert [vertex.grad_norm for vertex in found.vertices] == [3, 2, 1, 1, 1]
    assert [vertex.shapes for vertex in found.vertices] == [[()]] * 5
    assert op(found, "multiply").saved == [
        graph.Saved("a", (), 8, "x"),
        graph.Saved("b", (), 8, "w"),
    ]
    assert op(found, "add").saved == []
    assert found.saved_bytes == 0  # x and w are there anyway


def test_shapes_norms_and_what_is_saved():
    x, w = leaf([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]), leaf(1.0, 2.0, 2.0)
    found = graph.trace((x.exp() * w).sum(), x=x, w=w)
    assert names(found) == ["x", "w", "exp", "multiply", "sum"]
    assert found.edges == [(0, 2), (2, 3), (1, 3), (3, 4)]
    assert op(found, "sum").grad_norm == 1
    assert op(found, "multiply").grad_norm == pytest.approx(np.sqrt(6))  # six ones
    assert op(found, "exp").grad_norm == pytest.approx(np.sqrt(2 * (1 + 4 + 4)))  # w, twice
    assert op(found, "x").grad_norm == pytest.approx(np.sqrt(18))  # times e^0
    assert op(found, "w").grad_norm == pytest.approx(np.sqrt(12))  # two ones, three times
    assert op(found, "multiply").shapes == [(2, 3)]
    assert op(found, "sum").shapes == [()]

    assert op(found, "exp").saved == [graph.Saved("y", (2, 3), 48, None)]
    assert op(found, "multiply").saved == [
        graph.Saved("a", (2, 3), 48, None),
        graph.Saved("b", (3,), 24, "w"),
    ]
    assert found.saved_bytes == 48  # y of exp and a of multiply are one array


def test_layer_norm_saves_what_its_docstring_says():
    x, w, b = leaf([1.0, 2.0, 4.0], [3.0, 3.0, 5.0]), leaf(1.0, 1.0, 1.0), leaf(0.0, 0.0, 0.0)
    found = graph.trace(tinygpt.functional.layer_norm(x, w, b).sum(), x=x, w=w, b=b)
    saved = op(found, "layer_norm").saved
    assert {s.name: s.shape for s in saved if s.leaf is None} == {"r_std": (2, 1), "x_hat": (2, 3)}
    assert {s.leaf for s in saved if s.leaf} == {"w", "b"}
    assert found.saved_bytes == 8 * (2 + 6)


def test_a_view_is_the_memory_that_it_shows():
    x, w = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0)
    y = x.exp()
    found = graph.trace((y.reshape(3, 1) * w.reshape(1, 2)).sum(), x=x, w=w)
    assert op(found, "multiply").saved == [
        graph.Saved("a", (3, 1), 24, None),
        graph.Saved("b", (1, 2), 16, "w"),
    ]
    assert found.saved_bytes == 24  # exp keeps y, multiply the same numbers in another shape


def test_an_input_used_twice_is_kept_once():
    x = leaf(1.0, 2.0)
    found = graph.trace((x * x).sum(), x=x)
    assert found.edges == [(0, 1), (0, 1), (1, 2)]
    assert len(op(found, "multiply").saved) == 1
    assert op(found, "x").grad_norm == pytest.approx(np.sqrt(4 + 16))


def test_constants_are_left_out():
    x = leaf(1.0, 2.0)
    found = graph.trace((3.0 * x + np.ones(2)).sum(), x=x)
    assert names(found) == ["x", "multiply", "add", "sum"]
    assert found.edges == [(0, 1), (1, 2), (2, 3)]


def test_an_op_with_several_results():
    x = leaf(1.0, 2.0, 3.0)
    left, right = tinygpt.functional.split(x, sizes=(1, 2))
    found = graph.trace((left * right).sum(), x=x)
    assert op(found, "split").shapes == [(1,), (2,)]
    # d/dleft = 2 + 3, d/dright = 1, 1
    assert op(found, "split").grad_norm == pytest.approx(np.sqrt(25 + 1 + 1))
    assert found.edges == [(0, 1), (1, 2), (1, 2), (2, 3)]


def test_a_gradient_may_be_given():
    x = leaf(1.0, 2.0)
    found = graph.trace(2.0 * x, [3.0, 4.0], x=x)
    assert [vertex.grad_norm for vertex in found.vertices] == [10, 5]


def test_a_leaf_alone_and_leaves_without_a_name():
    assert names(graph.trace(leaf(1.0))) == ["leaf"]
    assert names(graph.trace((leaf(1.0) + leaf(2.0)).sum())) == ["leaf", "leaf", "add", "sum"]


def test_an_op_of_ones_own_and_closures_within_closures():
    def cube(x):
        powers = [x, (x * x, "a word")]

        def countdown(n):  # mentions itself, and later is never given a value
            return countdown(n - 1) if n else powers[1][0]

        def backward(dy):
            if dy is None:
                return later
            return (3 * dy * countdown(2),)

        if x is None:
            later = 1
        return x * x * x, backward

    x = leaf(1.0, 2.0)
    found = graph.trace(tinygpt.apply(cube, x).sum(), x=x)
    assert names(found) == ["x", "cube", "sum"]
    assert op(found, "cube").saved == [
        graph.Saved("powers[0]", (2,), 16, "x"),
        graph.Saved("powers[1][0]", (2,), 16, None),
    ]
    assert op(found, "x").grad_norm == pytest.approx(np.sqrt(9 + 144))


def test_nothing_is_changed():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.grad = np.array([7.0, 7.0])
    loss = (x.exp() * w).sum()
    first = graph.trace(loss, x=x, w=w)
    assert graph.trace(loss, x=x, w=w) == first
    assert x.grad is None
    assert w.grad.tolist() == [7, 7]
    loss.backward()
    np.testing.assert_allclose(x.grad, np.exp(x.data) * w.data)
    np.testing.assert_allclose(w.grad, 7 + np.exp(x.data))


def test_what_is_wrong_gets_a_sentence():
    x = leaf(1.0, 2.0)
    with pytest.raises(TypeError, match="the loss should be a Tensor, not float"):
        graph.trace(3.0)
    with pytest.raises(TypeError, match="x should be a Tensor, not ndarray"):
        graph.trace(x.sum(), x=x.data)
    with pytest.raises(RuntimeError, match="requires_grad"):
        graph.trace(Tensor(1.0))
    y = 2.0 * x
    with pytest.raises(ValueError, match="one number"):
        graph.trace(y)
    y.sum().backward()  # not spoilt by the attempt
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="freed"):
        graph.trace(y, [1.0, 1.0])


@pytest.mark.parametrize("options", [{}, {"tie_weights": False, "norm": "rms_norm", "bias": False}])
def test_a_gpt(options):
    model, loss, found = gpt_trace(**options)
    parameters = dict(model.named_parameters())
    loss.backward()
    norms = {vertex.name: vertex.grad_norm for vertex in found.vertices if vertex.is_leaf}
    assert set(norms) == set(parameters)
    for name, p in parameters.items():
        assert norms[name] == pytest.approx(np.linalg.norm(p.grad)), name

    ran = Counter(vertex.name for vertex in found.vertices if not vertex.is_leaf)
    assert ran["linear"] == 4 * model.config.n_layer
    assert ran["scaled_dot_product_attention"] == model.config.n_layer
    assert found.vertices[-1].name == "linear_cross_entropy"
    assert found.vertices[-1].grad_norm == 1
    ends = {end for _, end in found.edges}
    assert ends == {i for i, vertex in enumerate(found.vertices) if not vertex.is_leaf}
    assert all(start < end for start, end in found.edges)


def test_parameters_in_the_flat_buffer_of_an_optimizer_are_leaves_still():
    model, _, before = gpt_trace()
    AdamW(model.parameters())
    found = graph.trace(model.loss(*small_batch()), **dict(model.named_parameters()))
    assert found == before


def test_remat_keeps_its_input_only():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    found = graph.trace(tinygpt.remat(lambda x: (x * w).exp(), 2.0 * x).sum(), x=x, w=w)
    assert names(found) == ["x", "multiply", "remat", "sum"]
    assert op(found, "remat").saved == [
        graph.Saved("arrays[0]", (2,), 16, None),
        graph.Saved("w", (2,), 16, "w"),
    ]
    assert found.saved_bytes == 16
    assert w.grad is None


# ---- the layout ---------------------------------------------------------------------------------


def test_those_that_would_overlap_stand_side_by_side():
    half = (10 + SIDE) / 2
    assert _apart([0, 0], [10, 10], [1, 1]) == [-half, half]
    assert _apart([0, 0], [10, 10], [3, 1]) == pytest.approx([-half / 2, 1.5 * half])
    assert _apart([-500, 500], [10, 10], [1, 1]) == [-500, 500]
    assert _apart([0, 0, 500], [10, 10, 10], [1, 1, 1]) == [-half, half, 500]


def random_graph(seed, count=40):
    rng = np.random.default_rng(seed)
    sizes = [tuple(size) for size in rng.uniform(20, 200, (count, 2))]
    edges = [(int(rng.integers(end)), end) for end in range(1, count) for _ in range(2)]
    return sizes, edges


def overlap(one, other):
    (x, y, w, h), (x2, y2, w2, h2) = one, other
    return x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h


@pytest.mark.parametrize("seed", range(5))
def test_nothing_overlaps_and_no_line_crosses_a_box(seed):
    sizes, edges = random_graph(seed)
    layout = lay_out(sizes, edges)
    assert [box[2:] for box in layout.boxes] == sizes
    for one, other in itertools.combinations(layout.boxes, 2):
        assert not overlap(one, other)
    for x, y, w, h in layout.boxes:
        assert x > -1e-9
        assert y >= 0
        assert x + w <= layout.width + 1e-9
        assert y + h <= layout.height + 1e-9

    for (start, end), line in zip(edges, layout.lines, strict=True):
        (x, y, w, h), (x2, y2, w2, _) = layout.boxes[start], layout.boxes[end]
        assert line[0] == pytest.approx((x + w / 2, y + h))
        assert line[-1][1] == y2
        assert x2 < line[-1][0] < x2 + w2
        assert len(line) % 2 == 0
        for i, ((x, y), (to_x, to_y)) in enumerate(itertools.pairwise(line)):
            assert y <= to_y
            if i % 2 == 0:  # straight down
                assert x == to_x
                assert not any(overlap((x, y, 0, to_y - y), box) for box in layout.boxes)
            else:  # between two rows, where there is no box
                assert not any(overlap((-1e9, y, 2e9, to_y - y), box) for box in layout.boxes)


def test_what_leads_to_a_box_is_above_it_and_a_leaf_right_above():
    sizes = [(10.0, 10.0)] * 5
    # 0 -> 1 -> 2 -> 3, and a leaf 4 numbered first in a real graph, here by its own edge
    layout = lay_out(sizes, [(0, 2), (2, 3), (3, 4), (1, 4)])
    tops = [box[1] for box in layout.boxes]
    assert tops[0] < tops[2] < tops[3] < tops[4]
    assert tops[1] == tops[3]


# ---- the pictures -------------------------------------------------------------------------------


def numbers(element, *attributes):
    return tuple(float(element.get(name)) for name in attributes)


@pytest.mark.parametrize("options", [{}, {"n_layer": 1}, {"activation": "swiglu", "n_kv_head": 1}])
def test_the_svg_has_a_box_for_each_vertex_and_none_overlap(options):
    _, _, found = gpt_trace(**options)
    root = ElementTree.fromstring(graph.to_svg(found))
    assert root.tag == SVG + "svg"
    boxes = [numbers(rect, "x", "y", "width", "height") for rect in root.iter(SVG + "rect")]
    assert len(boxes) == len(found.vertices)
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one, other)
    arrows = [path for path in root.iter(SVG + "path") if path.get("marker-end")]
    assert len(arrows) == len(found.edges)

    width, height = numbers(root, "width", "height")
    caption, *texts = root.iter(SVG + "text")
    top = max(numbers(line, "y")[0] for line in caption)
    for (x, y, w, h), text, vertex in zip(boxes, texts, found.vertices, strict=True):
        assert x >= 0
        assert x + w <= width
        assert y > top
        assert y + h <= height
        assert text[0].text == vertex.name
        for line in text:
            left, base = numbers(line, "x", "y")
            assert x < left
            assert left + 0.602 * 12 * len(line.text) < x + w  # a monospaced letter, 12 pixels high
            assert y < base < y + h


def test_a_box_says_it_all():
    x, w = leaf([1.0, 2.0]), leaf(3.0, 4.0)
    root = ElementTree.fromstring(graph.to_svg(graph.trace((x.exp() * w).sum(), x=x, w=w)))
    texts = [[line.text for line in text] for text in root.iter(SVG + "text")]
    assert texts[1] == ["x", "shape (1, 2)", "gradient 30.7"]  # 3 e, 4 e^2
    assert texts[4] == [
        "multiply",
        "shape (1, 2)",
        "gradient 1.41",
        "keeps a (1, 2) 16 bytes",
        "keeps b (2,) of a leaf",
    ]


def test_dot_has_a_line_for_each_vertex_and_each_edge():
    _, _, found = gpt_trace()
    first, _, *lines, last = graph.to_dot(found).splitlines()
    assert (first, last) == ("digraph {", "}")
    vertices = [re.fullmatch(r'  v(\d+) \[label="(.*)", fillcolor="#\w{6}"\];', x) for x in lines]
    vertices = [match for match in vertices if match]
    assert [int(match[1]) for match in vertices] == list(range(len(found.vertices)))
    assert [match[2].split(r"\l")[0] for match in vertices] == names(found)
    edges = [re.fullmatch(r"  v(\d+) -> v(\d+);", x) for x in lines[len(vertices) :]]
    assert [(int(match[1]), int(match[2])) for match in edges] == found.edges


def test_odd_names_are_escaped():
    x = leaf(1.0)
    found = graph.trace(x.sum(), **{'<a & "b\\">': x})
    root = ElementTree.fromstring(graph.to_svg(found))
    assert '<a & "b\\">' in [line.text for line in root.iter(SVG + "tspan")]
    assert r'label="<a & \"b\\\">\lshape' in graph.to_dot(found)


def test_graphviz_reads_the_dot():
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("Graphviz is not installed")
    _, _, found = gpt_trace()
    found.vertices[0].name = 'a "quoted\\ name'
    result = subprocess.run(
        [dot, "-Tplain"], input=graph.to_dot(found), capture_output=True, text=True, check=True
    )
    kinds = Counter(line.split()[0] for line in result.stdout.splitlines())
    assert kinds["node"] == len(found.vertices)
    assert kinds["edge"] == len(found.edges)
    assert result.stderr == ""
