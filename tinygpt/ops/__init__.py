"""The ops. Each takes arrays and returns its result and the function that carries a gradient back.

    y, backward = ops.matmul(a, b)
    da, db = backward(dy)               # dy = dL/dy  ->  dL/da, dL/db

`backward` returns a tuple with one entry per array argument, in order; None for an argument that
has no gradient (ids, targets, masks). README.md in this folder lists the ops in reading order.
"""

from .arithmetic import add, divide, multiply, negative, power, subtract
from .cross_entropy import cross_entropy
from .dispatch import combine, dispatch
from .dropout import dropout
from .embedding import embedding
from .gelu import gelu, gelu_tanh
from .layer_norm import layer_norm
from .linear import linear
from .linear_cross_entropy import linear_cross_entropy
from .log_softmax import log_softmax
from .matmul import matmul
from .pointwise import exp, log, relu, relu2, sigmoid, silu, softcap, tanh
from .reductions import max, mean, sum
from .residual import add_layer_norm, add_rms_norm
from .rms_norm import rms_norm
from .rope import rope
from .scaled_dot_product_attention import scaled_dot_product_attention
from .shapes import concatenate, index, reshape, split, transpose, where
from .sliding_window_attention import sliding_window_attention
from .softmax import softmax

__all__ = [
    "add",
    "add_layer_norm",
    "add_rms_norm",
    "combine",
    "concatenate",
    "cross_entropy",
    "dispatch",
    "divide",
    "dropout",
    "embedding",
    "exp",
    "gelu",
    "gelu_tanh",
    "index",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "mean",
    "multiply",
    "negative",
    "power",
    "relu",
    "relu2",
    "reshape",
    "rms_norm",
    "rope",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "sliding_window_attention",
    "softcap",
    "softmax",
    "split",
    "subtract",
    "sum",
    "tanh",
    "transpose",
    "where",
]
