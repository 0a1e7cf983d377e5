"""A recorded step: played again with other numbers in memory, it gives the bits of ordinary training."""

import numpy as np
import pytest
from twin_checks import stored_as

from tinygpt import GPT, AdamW, GPTConfig, accumulate_gradients
from tinygpt.backend import to_numpy
from tinygpt.kernels import LossScale, precision
from tinygpt.optim import warmup_cosine
from tinygpt.recorded_step import RecordedStep

CONFIGS = {
    "GPT-2": {"dropout": 0.2},
    "nanoGPT's": {"dropout": 0.2, "bias": False, "activation": "gelu"},
    "as Llama": {
        "position": "rope", "norm": "rms_norm", "activation": "swiglu", "n_kv_head": 1,
        "bias": False, "tie_weights": False,
    },
}  # fmt: skip
STEPS = 5


def train(name, dtype, recorded):
    """The losses and norms of all steps, and the weights and moments at the end."""
    model = GPT(GPTConfig(61, 20, n_layer=1, n_head=2, n_embd=64, **CONFIGS[name]), device="cuda")
    optimizer = AdamW(model.parameters(), lr=1e-2)
    scale = LossScale(optimizer.data) if dtype == "float16" else None
    step = RecordedStep(model, optimizer, 0.1, scale)
    batches = np.random.default_rng(0).integers(0, 61, (STEPS, 2, 3, 19))
    batches[:, 1, 0, :5] = -1
    seen = []
    for i, (ids, targets) in enumerate(batches):
        rng, lr_scale = (7, i), warmup_cosine(i, STEPS, 2)
        if recorded:
            loss, norm = step(ids, targets, rng, lr_scale)
        else:
            value = None if scale is None else scale.value
            loss = accumulate_gradients(model.loss, ids, targets, rng, 1, value)
            norm = optimizer.clip_grad_norm(0.1, scale)
            optimizer.step(lr_scale)
            optimizer.zero_grad()
        seen.append((to_numpy(loss).copy(), to_numpy(norm).copy()))
    assert optimizer.steps == STEPS
    return seen, [to_numpy(a) for a in (optimizer.data, optimizer.exp_avg, optimizer.exp_avg_sq)]


def assert_same_bits(cuda, name, dtype):
    if dtype == "bfloat16":
        stored_as(dtype)
    with cuda.running(order=1), precision(dtype):
        (seen, ends), (other, other_ends) = (train(name, dtype, r) for r in (False, True))
    np.testing.assert_array_equal(other, seen)
    for a, e in zip(other_ends, ends, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("nanoGPT's", "bfloat16"), ("GPT-2", "float32"), ("GPT-2", "float16"), ("as Llama", "tf32")],
)
def test_the_bits_of_ordinary_training(cuda, name, dtype):
    assert_same_bits(cuda, name, dtype)
