"""How much memory training takes: the peak of the resident set, from the configuration alone."""

from __future__ import annotations

from .backend import threads
from .gather import LARGE
from .gpt import GPTConfig
from .ops.linear_cross_entropy import PART
from .ops.scaled_dot_product_attention import BLOCK
from .parallel import micro_batch_count

FLOAT = 4  # bytes
GATED = ("swiglu", "geglu")  # their first matrix is two, side by side
INTERPRETER = 35_000_000  # Python, NumPy, tinygpt, and what OpenBLAS copies parts of matrices into


def training_memory(
    config: GPTConfig, batch_size: int, block_size: int | None = None, moments: int = 2
) -> dict[str, int]:
    """{what: bytes}, which add up to the peak of training in float32 on a CPU with
    accumulate_gradients, on threads() threads.

    block_size: tokens in a sequence (None: config.block_size). moments: arrays as large as the
    weights that the optimizer keeps: 2 for AdamW and Muon, 1 for SGD.

    The peak comes early in the backward pass, when nearly all that the forward pass saved is there.
    """
    T = block_size or config.block_size
    pieces = micro_batch_count(batch_size, T)
    running = min(threads(), pieces)
    tokens = -(-batch_size // pieces) * T  # in a piece; each thread has one at a time
    C, V, L = config.n_embd, config.vocab_size, config.n_layer

    block = saved_by_block(config, T)
    saved = L * block
    if config.remat:  # what enters each block, and one block that is computed again
        saved = FLOAT * L * C + block + FLOAT * block_temporaries(config)
    ends = FLOAT * 2 * C + (C if config.dropout else 0)  # the last norm; the first dropout
    head = FLOAT * (V + C) * tokens + FLOAT * min(V, PART) * C  # logits, dx, a part of dw
    # Once the head's logits are freed, the blocks use their memory.
    temporaries = max(head, FLOAT * block_temporaries(config) * tokens + FLOAT * widest(config))

    P = FLOAT * config.parameter_count
    return {
        "interpreter and libraries": INTERPRETER,
        "weights": P,
        "gradients": P,
        "moments of the optimizer": moments * P,
        "gradients of small parameters, by thread": FLOAT * running * small_parameters(config),
        "activations": running * tokens * (saved + ends),
        "logits and temporaries": running * temporaries,
    }


def saved_by_block(config: GPTConfig, T: int) -> int:
    """Bytes that the forward pass of one block keeps for its backward, per token."""
    C, K, inner = config.n_embd, config.kv_heads * config.head_size, config.inner_size
    keys = sum(min(start + BLOCK, T) * min(BLOCK, T - start) for start in range(0, T, BLOCK)) / T

    numbers: float = 2 * (C + C)  # two norms: x_hat, and the result, for the next dw
    numbers += C + 2 * K  # q, k and v: one array, of which v is a view
    if config.qk_norm:
        numbers += C + K  # x_hat of q and of k
    if config.position == "rope":
        numbers += K  # k turned; q turned is freed once it is scaled
    numbers += C + C  # attention: scaled q, and its result, laid out as the next matrix reads it
    numbers += config.n_head * (keys + 1)  # e^scores, for the keys that a block of queries meets
    numbers += (
        inner
        * {
            "gelu": 3,  # x, P(x), and the result, which the next matrix needs for dw
            "gelu_tanh": 3,  # x, the gate, the result
            "relu": 1,  # the result
            "relu2": 2,  # max(x, 0), the result
            "silu": 2,  # the sigmoid, the result
            "swiglu": 5,  # gate and up: one array; the sigmoid, silu(gate), the product
            "geglu": 5,  # the same with gelu_tanh's gate
        }[config.activation]
    )
    masks = 0
    if config.dropout:  # a byte for every number that may be dropped
        masks = config.n_head * T + 2 * C
    return int(FLOAT * numbers) + masks


def block_temporaries(config: GPTConfig) -> int:
    """Numbers per token that come and go in the backward of a block, at their most: in the
    activation dy, dx and one more, beside the gradient that goes around it."""
    up = (2 if config.activation in GATED else 1) * config.inner_size
    return 2 * up + config.inner_size + config.n_embd


def widest(config: GPTConfig) -> int:
    """Numbers in the largest matrix of a block, whose gradient is there before it is added."""
    up = (2 if config.activation in GATED else 1) * config.inner_size
    return config.n_embd * max(up, config.n_embd + 2 * config.kv_heads * config.head_size)


def small_parameters(config: GPTConfig) -> int:
    """Numbers in parameters below LARGE, whose gradients each thread sums up by itself."""
    C, inner = config.n_embd, config.inner_size
    qkv = C + 2 * config.kv_heads * config.head_size
    up = 2 * inner if config.activation in GATED else inner
    tables = [config.vocab_size * C] * (1 if config.tie_weights else 2)
    tables += [config.block_size * C] if config.position == "learned" else []
    matrices = config.n_layer * [C * qkv, C * C, C * up, inner * C]
    return config.parameter_count - sum(n for n in tables + matrices if n >= LARGE)
