"""The stairs: who may import whom, and what `import tinygpt` costs nobody who does not need it."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import tinygpt

ROOT = Path(tinygpt.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
all_files = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))

# A part of tinygpt imports parts on its own step or below.
STAIRS = {
    "ops": 0,
    "backend": 1,
    "rng": 1,
    "sampling": 1,
    "text_stream": 1,
    "safetensors": 1,
    "kernels": 2,
    "tensor": 3,
    "gather": 2,
    "backward_options": 2,
    "vjp": 3,
    "functional": 4,
    "gradcheck": 4,
    "graph": 4,
    "nn": 5,
    "generate": 5,
    "score": 5,
    "checkpoint": 5,
    "huggingface": 5,
    "optim": 6,
    "gpt": 6,
    "parallel": 7,
    "memory": 8,
    "recorded_step": 8,
    "cases": 7,
    "__init__": 8,
    "commands": 9,
    "__main__": 10,
}
# Those who stand beside the stairs, and all that they may import from tinygpt.
BESIDE = {"tokenizers": {"tokenizers"}, "data": {"data", "backend"}}

# Who may import what from outside. Everyone may import NumPy and the standard library.
OUTSIDE = {
    "backend": {"cupy", "cupyx", "threadpoolctl"},
    "kernels": {"cuda", "ml_dtypes"},
    "huggingface": {"huggingface_hub"},
    "tokenizers": {"regex", "tqdm"},
    "commands": {"tqdm", "matplotlib", "jinja2"},
}


def part_of(file):
    """tinygpt/ops/softmax.py is of the part `ops`, tinygpt/gpt/model.py of `gpt`."""
    return file.relative_to(ROOT).with_suffix("").parts[0]


@functools.cache
def parse(file):
    return ast.parse(file.read_text(encoding="utf-8"))


PARTS = {part_of(file) for file in FILES}


def imports(file, tree=None):
    """Full names of what a file imports, anywhere in it: tinygpt.ops.softmax, numpy, ..."""
    package = ("tinygpt", *file.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree or parse(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            for alias in node.names:
                yield ".".join([*start, *filter(None, [node.module]), alias.name])


@functools.cache
def own_parts(file, tree=None):
    """The parts of tinygpt that a file imports; `from tinygpt import GPT` is of __init__."""
    names = [f"{name}.__init__".split(".") for name in imports(file, tree)]
    return {part if part in PARTS else "__init__" for top, part, *_ in names if top == "tinygpt"}


def climbs(file, tree=None):
    """The parts that a file imports although they stand higher."""
    part, imported = part_of(file), own_parts(file, tree)
    if part in BESIDE:
        return imported - BESIDE[part]
    return {other for other in imported if STAIRS.get(other, 0) > STAIRS[part]}


@all_files
def test_imports_go_down_the_stairs(file):
    assert part_of(file) in STAIRS | BESIDE, (
        "give the new part its step in STAIRS and in the design"
    )
    assert climbs(file) == set()


def test_parts_on_one_step_do_not_import_each_other_in_a_circle():
    below = {}
    for file in FILES:
        below.setdefault(part_of(file), set()).update(own_parts(file) - {part_of(file)})
    while below:
        ready = [part for part, imported in below.items() if not imported & below.keys()]
        assert ready, f"a circle among {sorted(below)}"
        for part in ready:
            del below[part]


@all_files
def test_imports_from_outside(file):
    names = {name.split(".")[0] for name in imports(file)}
    outside = names - sys.stdlib_module_names - {"tinygpt", "numpy"}
    assert outside <= OUTSIDE.get(part_of(file), set())


@pytest.mark.parametrize("file", sorted((ROOT / "ops").glob("*.py")), ids=lambda f: f.name)
def test_an_op_needs_numpy_math_and_few_helpers(file):
    helpers = {"tinygpt.ops.broadcast.unbroadcast", "tinygpt.ops.dropout.keep_mask"}
    if file.name == "sliding_window_attention.py":  # which is attention, block by block
        attention = "tinygpt.ops.scaled_dot_product_attention"
        helpers = {f"{attention}.BLOCK", f"{attention}.scaled_dot_product_attention"}
    if file.name == "residual.py":  # a sum, and a norm
        ops = ("arithmetic.add", "layer_norm.layer_norm", "rms_norm.rms_norm")
        helpers = {f"tinygpt.ops.{op}" for op in ops}
    if file.name != "__init__.py":
        assert set(imports(file)) <= {"numpy", "math"} | helpers


@all_files
def test_only_the_backend_reads_the_environment(file):
    names = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(parse(file))}
    assert part_of(file) == "backend" or not names & {"environ", "getenv", "environb"}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("ops/softmax.py", "from ..tensor import Tensor"),
        ("tensor.py", "from . import functional"),
        ("nn.py", "from .gpt import GPT"),
        ("nn.py", "def f():\n    import tinygpt.optim"),
        ("gpt/model.py", "from tinygpt import GPT"),
        ("backend.py", "from tinygpt.tensor import Tensor"),
        ("tokenizers/bpe.py", "from tinygpt import backend"),
        ("data/text.py", "from ..tensor import Tensor"),
    ],
)
def test_an_import_that_climbs_is_noticed(path, line):
    assert climbs(ROOT / path, ast.parse(line))


def test_import_tinygpt_brings_only_what_it_needs():
    code = "import sys, tinygpt; print(*sys.modules); tinygpt.data, tinygpt.graph.trace"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(result.stdout.split())
    assert "tinygpt.ops.matmul" in modules
    heavy = {"torch", "cupy", "matplotlib", "tqdm", "regex", "scipy", "transformers", "hypothesis"}
    assert heavy & {name.split(".")[0] for name in modules} == set()
    assert {"tinygpt.data", "tinygpt.graph", "tinygpt.tokenizers"} & modules == set()


def test_parts_that_are_imported_at_first_use():
    assert {"data", "graph", "tokenizers"} <= set(dir(tinygpt))
    assert tinygpt.tokenizers.Char.__module__ == "tinygpt.tokenizers.char"
    with pytest.raises(AttributeError, match="'tinygpt' has no attribute 'tokenizer'"):
        tinygpt.tokenizer  # noqa: B018
