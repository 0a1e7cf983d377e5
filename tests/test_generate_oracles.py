"""Generation beside transformers': the same tokens, prompt by prompt and in batches."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from huggingface_models import float64, make  # noqa: E402

from tinygpt import GPT  # noqa: E402

FAMILIES = {
    "gpt2": {"vocab_size": 37, "n_positions": 40, "n_embd": 12, "n_layer": 2, "n_head": 3},
    "llama": {
        "vocab_size": 37, "max_position_embeddings": 40, "hidden_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 20,
    },
    "mistral": {
        "vocab_size": 37, "max_position_embeddings": 40, "hidden_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 20,
        "sliding_window": 5,
    },
}  # fmt: skip
CHOICES = {
    "greedy": {},
    "penalised": {"repetition_penalty": 1.4},
    "rewarded": {"repetition_penalty": 0.7},
}
PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]
PAD = 0


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small wait for their threads more than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    theirs = make(request.param, **FAMILIES[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return theirs, GPT.from_pretrained(folder)


def their_greedy(model, prompts, n, **options):
    """Prompts filled up on the left, as transformers has it; without that in the result."""
    T = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (T - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (T - len(row)) + [1] * len(row) for row in prompts])
    with torch.no_grad(), float64():
        found = model.generate(
            ids, attention_mask=mask, max_new_tokens=n, do_sample=False, pad_token_id=PAD, **options
        )
    return [row[T - len(prompt) :] for row, prompt in zip(found.numpy(), prompts, strict=True)]


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_greedy(pair, choice):
    theirs, ours = pair
    found = ours.generate(PROMPTS, 12, temperature=0, **choice)
    for prompt, row in zip(PROMPTS, found, strict=True):
        np.testing.assert_array_equal(row, their_greedy(theirs, [prompt], 12, **choice)[0])
    assert len(np.unique(np.concatenate(found))) > 3


def test_a_batch_of_unequal_prompts(pair):
    theirs, ours = pair
    found = ours.generate(PROMPTS, 12, temperature=0)
    for row, expected in zip(found, their_greedy(theirs, PROMPTS, 12), strict=True):
        np.testing.assert_array_equal(row, expected)


def test_sampling_by_a_loop_over_their_logits(pair):
    """Temperature, top_k, top_p and min_p, with the draws that a row makes: in our own order."""
    theirs, ours = pair
    options = {"temperature": 0.9, "top_k": 20, "top_p": 0.95, "min_p": 0.02}
    found = ours.generate([PROMPTS[0]], 12, rng=3, **options)[0]

    from transformers import generation

    warpers = [
        generation.TemperatureLogitsWarper(0.9),
        generation.TopKLogitsWarper(20),
        generation.TopPLogitsWarper(0.95),
        generation.MinPLogitsWarper(0.02),
    ]
    draws = np.random.default_rng(3).spawn(1)[0]
    ids = list(PROMPTS[0])
    for _ in range(12):
        with torch.no_grad(), float64():
            scores = theirs(torch.tensor([ids])).logits[:, -1]
        for warper in warpers:
            scores = warper(None, scores)
        p = scores.softmax(-1)[0].numpy()
        ids.append(int(np.searchsorted(np.cumsum(p), draws.random() * p.sum(), side="right")))
    assert found.tolist() == ids
