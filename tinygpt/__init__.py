"""A GPT you can read to the bottom: NumPy, every backward pass by hand, and fast."""

import importlib
from typing import TYPE_CHECKING

from . import functional, nn, ops
from .gpt import GPT, GPTConfig
from .gradcheck import GradientError, gradcheck
from .kernels import plain
from .optim import SGD, AdamW, Muon
from .parallel import accumulate_gradients, evaluate
from .tensor import Tensor, apply, no_grad
from .vjp import remat, vjp

if TYPE_CHECKING:
    from . import data, graph, tokenizers

__version__ = "0.1.0"

__all__ = [
    "GPT",
    "GPTConfig",
    "SGD",
    "AdamW",
    "GradientError",
    "Muon",
    "Tensor",
    "accumulate_gradients",
    "apply",
    "data",
    "evaluate",
    "functional",
    "gradcheck",
    "graph",
    "nn",
    "no_grad",
    "ops",
    "plain",
    "remat",
    "tokenizers",
    "vjp",
]

LATER = {"data", "graph", "tokenizers"}  # imported at first use: a third of the time of all


def __getattr__(name: str):
    if name in LATER:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LATER})
