"""Draw the graph of a GPT's loss: the ops that ran, what each keeps, which gradients came back."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..gpt import GPT, GPTConfig
from ..graph import to_dot, to_svg, trace
from .model_folder import open_weights

FORMATS = {".svg": to_svg, ".dot": to_dot}
B, T = 2, 6  # sequences and tokens


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", nargs="?", metavar="DIR", help="a folder with a model (default: a new small one)")
    add("--n-layer", type=int, help="of the new one (default: 1)")
    add("--out", default="graph.svg", metavar="FILE", help=".svg or .dot (default: graph.svg)")


def run(options: argparse.Namespace) -> int:
    """Forward and backward on random tokens, and the picture of it."""
    out = Path(options.out)
    if out.suffix not in FORMATS:
        raise ValueError(f"--out should end in {' or '.join(FORMATS)}, and {out} does not")
    if options.model is None:
        n_layer = 1 if options.n_layer is None else options.n_layer
        model = GPT(GPTConfig(vocab_size=65, block_size=8, n_layer=n_layer, n_head=4, n_embd=32))
    elif options.n_layer is None:
        model = open_weights(options.model)
    else:
        raise ValueError(f"the model in {options.model} has its layers; leave --n-layer out")

    shape = (2, B, min(T, model.config.block_size))
    ids, targets = np.random.default_rng(0).integers(model.config.vocab_size, size=shape)
    graph = trace(model.loss(ids, targets), **dict(model.named_parameters()))
    out.write_text(FORMATS[out.suffix](graph), encoding="utf-8")
    leaves = sum(vertex.is_leaf for vertex in graph.vertices)
    print(
        f"{out}: {len(graph.vertices) - leaves} ops and {leaves} parameters; "
        f"what backward keeps takes {graph.saved_bytes:,} bytes"
    )
    return 0
