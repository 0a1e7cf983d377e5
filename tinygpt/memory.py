"""How much memory training takes: the peak of the resident set, from the configuration alone."""

from __future__ import annotations

from .backend import threads
from .gather import LARGE
from .gpt import GPTConfig
from .ops.linear_cross_entropy import PART
from .ops.scaled_dot_product_attention import BLOCK
from .parallel import micro_batch_count

FLOAT = 4  # bytes
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

    blocks = [saved_by_block(config, T, layer) for layer in range(L)]
    saved = sum(blocks)
    if config.remat:  # what enters each block, and one block that is computed again
        saved = FLOAT * L * C + max(blocks)
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


def saved_by_block(config: GPTConfig, T: int, layer: int) -> int:
    """Bytes that the forward pass of one block keeps for its backward, per token."""
    C, H, G, D = config.n_embd, config.n_head, config.kv_heads, config.head_size
    Q, K, window = H * D, G * D, config.window_of(layer)
    keys, copied = keys_met(T, window, config.sinks)
    wide = 1
    if window is not None and config.position == "rope" and 0 < config.sinks < T - window:
        wide = 2  # sinks are asked in features of their own

    numbers: float = 2 * (C + C + 1)  # two norms: x_hat, the result for the next dw, 1 / std
    numbers += Q + 2 * K  # q, k and v: one array, of which v is a view
    if config.qk_norm:
        numbers += Q + K + H + G  # x_hat of q and of k, 1 / rms
    if config.position == "rope" or config.qk_norm_weight:
        numbers += wide * (Q + K)  # q and k turned or weighted
    numbers += Q  # the result of attention, laid out for the next matrix
    if window is not None:
        numbers += Q + copied * (wide * K + K)  # its result block by block, and keys and values
    numbers += H * keys  # p, for the keys that a block of queries meets
    masks: float = 0
    if config.dropout:  # a byte for every number that may be dropped
        masks = H * (T if window is None else keys) + 2 * C
    return int(FLOAT * (numbers + saved_by_feed_forward(config)) + masks)


def keys_met(T: int, window: int | None, sinks: int) -> tuple[float, float]:
    """Per query, how many keys its block meets; per token, how many a block makes copies of."""
    met, copied = 0, 0
    for start in range(0, T, BLOCK):
        stop = min(start + BLOCK, T)
        begin = 0 if window is None else start - window + 1
        gap = begin > sinks
        keys = stop - begin + sinks if gap else stop
        met += keys * (stop - start)
        copied += keys if gap and sinks else 0
    return met / T, copied / T


def saved_by_feed_forward(config: GPTConfig) -> int:
    """Numbers per token: those of an MLP, or of the experts that a token takes."""
    mlp = (
        config.inner_size
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
    if config.n_expert is None:
        return mlp
    taken = 2 * config.n_embd + mlp  # for an expert: the row it gets, the row it gives
    taken += 5  # its weight; which expert, and where in the order, of 8 bytes each
    return config.n_expert + config.n_expert_per_token * taken  # softmax of the router's scores


def block_temporaries(config: GPTConfig) -> int:
    """Numbers per token that come and go in the backward of a block, at their most: in the
    activation dy, dx and one more, beside the gradient that goes around it. Of experts, one at a
    time does this for its share of the tokens, beside the gradients of all rows, in and out."""
    mlp = 2 * first_size(config) + config.inner_size
    if config.n_expert is None:
        return mlp + config.n_embd
    k = config.n_expert_per_token
    return mlp * k // config.n_expert + (2 * k + 1) * config.n_embd


def widest(config: GPTConfig) -> int:
    """Numbers in the largest matrix of a block, whose gradient is there before it is added."""
    return config.n_embd * max(first_size(config), qkv_size(config))


def first_size(config: GPTConfig) -> int:
    """Width of what the first matrix of an MLP gives: with a gate, it is two, side by side."""
    return (2 if config.gated else 1) * config.inner_size


def qkv_size(config: GPTConfig) -> int:
    return (config.n_head + 2 * config.kv_heads) * config.head_size


def small_parameters(config: GPTConfig) -> int:
    """Numbers in parameters below LARGE, whose gradients each thread sums up by itself."""
    C, experts = config.n_embd, config.n_expert or 1
    tables = [config.vocab_size * C] * (1 if config.tie_weights else 2)
    tables += [config.block_size * C] if config.position == "learned" else []
    block = [C * qkv_size(config), config.n_head * config.head_size * C]
    block += experts * [C * first_size(config), config.inner_size * C]
    block += [] if config.n_expert is None else [C * config.n_expert]
    matrices = config.n_layer * block
    return config.parameter_count - sum(n for n in tables + matrices if n >= LARGE)
