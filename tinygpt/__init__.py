"""A GPT you can read to the bottom: NumPy, every backward pass by hand, and fast."""

from . import data, functional, graph, nn, ops, tokenizers
from .gpt import GPT, GPTConfig
from .gradcheck import GradientError, gradcheck
from .kernels import plain
from .optim import SGD, AdamW, Muon
from .parallel import accumulate_gradients, evaluate
from .tensor import Tensor, apply, no_grad
from .vjp import remat, vjp

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
