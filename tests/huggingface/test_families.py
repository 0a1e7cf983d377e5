"""Every family against transformers: logits, gradients, generation, and the way back."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpt import assert_same_gradients, gradients, relative_error

from tinygpt import GPT, GPTConfig, safetensors, tokenizers
from tinygpt.huggingface import FAMILIES
from tinygpt.huggingface.tensors import parts
from tinygpt.sampling import Sampling

transformers = pytest.importorskip("transformers", reason="no outside check without transformers")

from huggingface_models import gradients_of, load, logits_of, make  # noqa: E402

B, T, L = 2, 7, 2
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 8,
}
LINEAR = {"rope_type": "linear", "factor": 2.5}


# ---- configurations -----------------------------------------------------------------------------


@st.composite
def gpt2(draw):
    n_head, head_dim = draw(st.sampled_from([(1, 3), (2, 5), (3, 4)]))
    return {
        "vocab_size": draw(st.integers(5, 13)),
        "n_positions": draw(st.sampled_from([T, 12])),
        "n_embd": n_head * head_dim,
        "n_layer": L,
        "n_head": n_head,
        "n_inner": draw(st.sampled_from([None, 9])),
        "activation_function": draw(st.sampled_from(["gelu_new", "gelu", "relu", "silu"])),
        "layer_norm_epsilon": draw(st.sampled_from([1e-5, 1e-3])),
        "tie_word_embeddings": draw(st.booleans()),
    }


def llama_like(draw, head_dim=True, inner=10):
    groups, repeated, D = draw(
        st.sampled_from([(1, 1, 4), (1, 3, 2), (2, 1, 6), (2, 2, 4), (3, 2, 2)])
    )
    n_head = groups * repeated
    options = {
        "vocab_size": draw(st.integers(5, 13)),
        "hidden_size": n_head * D,
        "intermediate_size": inner,
        "num_hidden_layers": L,
        "num_attention_heads": n_head,
        "num_key_value_heads": groups,
        "max_position_embeddings": draw(st.sampled_from([T, 12])),
        "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-3])),
        "tie_word_embeddings": draw(st.booleans()),
        "rope_parameters": {
            "rope_theta": draw(st.sampled_from([100.0, 1e6])),
            **draw(st.sampled_from([{"rope_type": "default"}, LINEAR, LLAMA3])),
        },
    }
    if head_dim:
        options["head_dim"] = draw(st.sampled_from([D, D + 2]))
    return options


@st.composite
def llama(draw):
    biases = draw(st.booleans())
    gate = draw(st.sampled_from(["silu", "gelu_pytorch_tanh"]))
    return llama_like(draw) | {
        "attention_bias": biases,
        "mlp_bias": biases,
        "hidden_act": gate,
    }


@st.composite
def mistral(draw):
    return llama_like(draw) | {"sliding_window": draw(st.sampled_from([None, 1, 3, T, 4096]))}


def qwen(draw, head_dim):
    options = llama_like(draw, head_dim)
    window = draw(st.sampled_from([None, 2, 4]))
    return options | {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": draw(st.integers(0, L)),
    }


@st.composite
def qwen2(draw):
    return qwen(draw, head_dim=False)


@st.composite
def qwen3(draw):
    return qwen(draw, head_dim=True)


@st.composite
def mixtral(draw):
    experts = draw(st.integers(1, 4))
    return llama_like(draw, inner=5) | {
        "num_local_experts": experts,
        "num_experts_per_tok": draw(st.integers(1, experts)),
        "sliding_window": draw(st.sampled_from([None, 3])),
    }


CONFIGS = {
    "gpt2": gpt2(),
    "llama": llama(),
    "mistral": mistral(),
    "qwen2": qwen2(),
    "qwen3": qwen3(),
    "mixtral": mixtral(),
}
families = pytest.mark.parametrize("model_type", CONFIGS)


def test_no_family_is_left_out():
    assert set(CONFIGS) == set(FAMILIES)


# ---- agreement ----------------------------------------------------------------------------------


def tokens(options, seed=0, shape=(B, T)):
    return np.random.default_rng(seed).integers(0, options["vocab_size"], (2, *shape))


def check(model_type, options):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        check_float64(make(model_type, **options), folder / "a", tokens(options))
        check_float32(make(model_type, dtype="float32", **options), folder / "b", tokens(options))


def check_float64(theirs, folder, batch):
    ids, targets = batch
    theirs.save_pretrained(folder)
    ours = GPT.from_pretrained(folder)
    assert ours.wte.weight.dtype == "float64"

    expected = logits_of(theirs, ids)
    assert relative_error(ours(ids).data, expected) < 1e-12
    ours.loss(ids, targets).backward()
    family = FAMILIES[theirs.config.model_type]
    named = parts(family.tensors, gradients(ours), ours.config)
    found = {family.full_name(name): gradient for name, gradient in named.items()}
    assert_gradients_agree(found, gradients_of(theirs, ids, targets))

    check_generation(ours, theirs, ids[:, :3])
    check_export(ours, folder, expected, ids)


def assert_gradients_agree(found, expected):
    """A key's bias has a gradient of 0: without rope always, with it where a token sees but one."""
    zero = [name for name, dw in expected.items() if np.abs(dw).max() < 1e-12]
    assert all(np.abs(found[name]).max() < 1e-12 for name in zero)
    assert_same_gradients(
        {name: dw for name, dw in found.items() if name not in zero},
        {name: dw for name, dw in expected.items() if name not in zero},
        1e-9,
    )


def check_generation(ours, theirs, ids):
    """Token for token what a plain loop over the reference's logits gives."""
    new = ours.config.block_size - ids.shape[1]
    for how in ({"temperature": 0}, {"temperature": 0.9, "top_k": 4, "top_p": 0.95}):
        expected = ids
        draws = np.random.default_rng(5).spawn(len(ids))
        for _ in range(new):
            logits = logits_of(theirs, expected)[:, -1]
            token = [
                Sampling(**how).draw(z, row, draw.random())
                for z, row, draw in zip(logits, expected, draws, strict=True)
            ]
            expected = np.column_stack([expected, token])
        np.testing.assert_array_equal(ours.generate(ids, new, rng=5, **how), expected)


def check_export(ours, folder, expected, ids):
    """The same bytes in every tensor, and the same logits from transformers."""
    exported = folder.with_name("exported")
    ours.export(exported)
    before = safetensors.load(folder / "model.safetensors")
    after = safetensors.load(exported / "model.safetensors")
    assert set(before) == set(after)
    for name, array in before.items():
        assert (array.dtype, array.shape) == (after[name].dtype, after[name].shape)
        assert array.tobytes() == after[name].tobytes(), name
    np.testing.assert_array_equal(logits_of(load(exported), ids), expected)


def check_float32(theirs, folder, batch):
    theirs.save_pretrained(folder)
    ours = GPT.from_pretrained(folder)
    assert ours.wte.weight.dtype == "float32"
    logits = ours(batch[0]).data
    assert logits.dtype == "float32"
    assert relative_error(logits, logits_of(theirs, batch[0])) < 1e-5


@families
def test_agrees_with_transformers(model_type):
    run(model_type, 3)


QWEN = {
    "vocab_size": 9,
    "hidden_size": 12,
    "intermediate_size": 10,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": T,
    "use_sliding_window": True,
    "sliding_window": 2,
}


@pytest.mark.parametrize("layers", [{"max_window_layers": 1}, {"layer_types": [0, 1, 0]}])
def test_windows_in_some_layers(layers):
    kinds = ["full_attention", "sliding_attention"]
    if "layer_types" in layers:
        layers = {"layer_types": [kinds[i] for i in layers["layer_types"]]}
    check("qwen2", QWEN | layers)


@pytest.mark.slow
@families
def test_agrees_with_transformers_in_many_configurations(model_type):
    run(model_type, 200)


def test_the_tokenizer_is_one_of_transformers(tmp_path):
    text = "To be, or not to be: that is the question.\n"
    tokenizer = tokenizers.BPE.train(text, 270, special_tokens=["<|endoftext|>"])
    config = GPTConfig(tokenizer.vocab_size, T, n_layer=1, n_head=1, n_embd=4)
    GPT(config).export(tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(text)["input_ids"] == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text)) == text


def run(model_type, examples):
    @settings(max_examples=examples)
    @given(CONFIGS[model_type])
    def agrees(options):
        check(model_type, options)

    agrees()
