"""A GPT small enough to check to the last digit, and far from its initial weights."""

from __future__ import annotations

import numpy as np

from tinygpt import GPT, GPTConfig, Tensor

B, T = 2, 5  # with H = 3, D = 4, V = 11: all different, so that a wrong reshape cannot fit
SIZES = {"vocab_size": 11, "block_size": 7, "n_layer": 2, "n_head": 3, "n_embd": 12}


def small_gpt(seed: int = 0, dtype: str = "float64", **options) -> GPT:
    """A GPT of SIZES (or as `options` say) whose every parameter is moved by numbers of size O(1).

    At their initial values gains are 1, biases 0 and weights tiny: much that is wrong fits there.
    """
    model = GPT(GPTConfig(**{**SIZES, **options}), rng=seed, dtype=dtype)
    rng = np.random.default_rng(seed + 1)
    for _, p in model.named_parameters():
        p.data += (0.4 * rng.standard_normal(p.shape)).astype(dtype)
    return model


class NoRandomNumbers:
    """In the place of a generator, for 124 million random numbers take two seconds."""

    def normal(self, mean: float, std: float, shape: tuple) -> np.ndarray:
        return np.broadcast_to(np.float16(std), shape)


def small_batch(seed: int = 0, shape: tuple[int, int] = (B, T), ignored: bool = False):
    """ids and targets; with `ignored`, some targets are -1."""
    rng = np.random.default_rng(seed)
    ids, targets = rng.integers(0, SIZES["vocab_size"], (2, *shape))
    if ignored:
        targets[rng.random(shape) < 0.4] = -1
        targets[0, 0] = 3  # one counts, whatever was drawn
    return ids, targets


def replace_parameter(model: GPT, name: str, tensor: Tensor) -> None:
    """Put `tensor` where the parameter `name`, such as h.0.attn.c_attn.weight, is now."""
    *path, last = name.split(".")
    module = model
    for part in path:
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    setattr(module, last, tensor)


def gradients(model: GPT) -> dict[str, np.ndarray]:
    """{name: a copy of its gradient}, once every parameter has one."""
    return {name: p.grad.copy() for name, p in model.named_parameters()}


def relative_error(x, expected) -> float:
    """The largest difference, over the largest number expected; shapes must agree."""
    x, expected = np.asarray(x), np.asarray(expected)
    assert x.shape == expected.shape, (x.shape, expected.shape)
    return float(np.abs(x - expected).max() / np.abs(expected).max())


def assert_same_gradients(found: dict, expected: dict, tolerance: float) -> None:
    """Compare by name, each relative to its own largest entry; name the worst."""
    assert set(found) == set(expected)
    errors = {name: relative_error(found[name], expected[name]) for name in expected}
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] < tolerance, (worst, errors[worst])
