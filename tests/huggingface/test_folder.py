"""Folders of Hugging Face, written by hand: what is read, what is written, what is refused.

transformers is not needed here. What these folders hold is said by this file, not by our table.
"""

import json
import shutil
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from small_gpt import SIZES, NoRandomNumbers, small_batch, small_gpt

from tinygpt import GPT, GPTConfig, safetensors, tokenizers
from tinygpt.huggingface import FAMILIES
from tinygpt.huggingface.fields import Config

GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 11,
    "n_positions": 7,
    "n_ctx": 7,
    "n_layer": 2,
    "n_head": 3,
    "n_embd": 12,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 11,
    "max_position_embeddings": 7,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "hidden_size": 12,
    "intermediate_size": 10,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
AS_LLAMA = {
    "position": "rope",
    "rope_base": 100.0,
    "norm": "rms_norm",
    "activation": "swiglu",
    "bias": False,
    "tie_weights": False,
    "n_kv_head": 1,
    "n_inner": 10,
}


def gpt2_tensors(model):
    """Theirs have our names and our layout."""
    return {f"transformer.{name}": array for name, array in model.state_dict().items()}


def llama_tensors(model):
    """Theirs are stored (out, in), and nothing is packed."""
    ours = model.state_dict()
    theirs = {
        "model.embed_tokens.weight": ours["wte.weight"],
        "model.norm.weight": ours["ln_f.weight"],
        "lm_head.weight": ours["lm_head.weight"],
    }
    for i in range(2):
        q, k, v = np.split(ours[f"h.{i}.attn.c_attn.weight"], [12, 16], axis=1)
        gate, up = np.split(ours[f"h.{i}.mlp.c_fc.weight"], 2, axis=1)
        named = {
            "self_attn.q_proj": q.T,
            "self_attn.k_proj": k.T,
            "self_attn.v_proj": v.T,
            "self_attn.o_proj": ours[f"h.{i}.attn.c_proj.weight"].T,
            "mlp.gate_proj": gate.T,
            "mlp.up_proj": up.T,
            "mlp.down_proj": ours[f"h.{i}.mlp.c_proj.weight"].T,
            "input_layernorm": ours[f"h.{i}.ln_1.weight"],
            "post_attention_layernorm": ours[f"h.{i}.ln_2.weight"],
        }
        theirs |= {f"model.layers.{i}.{name}.weight": array for name, array in named.items()}
    return theirs


def write(folder, config, tensors=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tensors is not None:
        safetensors.save(folder / "model.safetensors", tensors)
    return folder


def write_shards(folder, config, shards):
    """shards: {file: tensors}"""
    write(folder, config)
    where = {}
    for file, tensors in shards.items():
        safetensors.save(folder / file, tensors)
        where |= dict.fromkeys(tensors, file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def save_bfloat16(file, tensors):
    """The upper halves of float32 numbers; NumPy has no such dtype, so neither has our writer."""
    header, data = {}, b""
    for name, array in tensors.items():
        bits = (array.astype("float32").view("uint32") >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(bits)]
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
        data += bits
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def assert_same_model(found, expected, dtype="float64"):
    assert set(found.state_dict()) == set(expected.state_dict())
    for name, array in expected.state_dict().items():
        assert found.state_dict()[name].dtype == dtype
        np.testing.assert_array_equal(found.state_dict()[name], array.astype(dtype), name)


@pytest.fixture
def gpt2(tmp_path):
    return write(tmp_path / "gpt2", GPT2, gpt2_tensors(small_gpt()))


@pytest.fixture
def llama(tmp_path):
    return write(tmp_path / "llama", LLAMA, llama_tensors(small_gpt(**AS_LLAMA)))


# ---- what is read -------------------------------------------------------------------------------


def test_gpt2(gpt2):
    ours = GPT.from_pretrained(gpt2)
    assert_same_model(ours, small_gpt())
    assert ours.config == GPTConfig(**SIZES)
    ids, _ = small_batch()
    np.testing.assert_array_equal(ours(ids).data, small_gpt()(ids).data)


def test_llama(llama):
    ours = GPT.from_pretrained(str(llama))
    assert_same_model(ours, small_gpt(**AS_LLAMA))
    ids, _ = small_batch()
    np.testing.assert_array_equal(ours(ids).data, small_gpt(**AS_LLAMA)(ids).data)


def test_without_prefix_and_with_buffers_as_in_the_first_files_of_gpt2(tmp_path):
    tensors = small_gpt().state_dict()
    for i in range(2):
        tensors |= {f"h.{i}.attn.bias": np.ones((1, 1, 7, 7), "uint8")}
        tensors |= {f"h.{i}.attn.masked_bias": np.array(-1e4)}
    assert_same_model(GPT.from_pretrained(write(tmp_path, GPT2, tensors)), small_gpt())


def test_frequencies_that_older_files_hold_are_worked_out_again(tmp_path):
    tensors = llama_tensors(small_gpt(**AS_LLAMA))
    tensors |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(2) for i in range(2)}
    ours = GPT.from_pretrained(write(tmp_path, LLAMA, tensors))
    assert_same_model(ours, small_gpt(**AS_LLAMA))


def test_a_tied_head_may_stand_in_the_file(tmp_path):
    tensors = gpt2_tensors(small_gpt())
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    assert_same_model(GPT.from_pretrained(write(tmp_path, GPT2, tensors)), small_gpt())


@pytest.mark.parametrize("stored", ["float16", "float32", "float64"])
def test_dtypes(tmp_path, stored):
    tensors = {name: a.astype(stored) for name, a in gpt2_tensors(small_gpt()).items()}
    ours = GPT.from_pretrained(write(tmp_path, GPT2, tensors))
    for name, array in ours.state_dict().items():
        assert array.dtype == ("float64" if stored == "float64" else "float32")
        np.testing.assert_array_equal(array, tensors[f"transformer.{name}"])


def test_bfloat16_there_and_back(tmp_path):
    write(tmp_path / "bf16", LLAMA)
    tensors = llama_tensors(small_gpt(**AS_LLAMA))
    save_bfloat16(tmp_path / "bf16/model.safetensors", tensors)
    ours = GPT.from_pretrained(tmp_path / "bf16")
    ours.export(tmp_path / "exported")
    exported = safetensors.load(tmp_path / "exported/model.safetensors")
    for name, array in tensors.items():
        bits = array.astype("float32").view("uint32") & 0xFFFF0000
        assert exported[name].dtype == "float32"
        np.testing.assert_array_equal(exported[name].view("uint32"), bits)


def test_shards(tmp_path):
    tensors = llama_tensors(small_gpt(**AS_LLAMA))
    names = list(tensors)
    shards = {
        "model-00001-of-00002.safetensors": {name: tensors[name] for name in names[::2]},
        "model-00002-of-00002.safetensors": {name: tensors[name] for name in names[1::2]},
    }
    ours = GPT.from_pretrained(write_shards(tmp_path, LLAMA, shards))
    assert_same_model(ours, small_gpt(**AS_LLAMA))


def test_blocks_that_do_not_divide_a_tensor(llama, monkeypatch):
    monkeypatch.setattr(safetensors, "BLOCK", 5 * 12 * 8)
    assert_same_model(GPT.from_pretrained(llama), small_gpt(**AS_LLAMA))


PEAK = """
import re, sys
from tinygpt import GPT

def peak():  # bytes; getrusage's peak would be that of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])

before = peak()
model = GPT.from_pretrained(sys.argv[1])
print((peak() - before) / sum(p.data.nbytes for p in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is asked of Linux's /proc")
@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_peak_memory_is_that_of_the_model(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(np.random, "default_rng", lambda seed: NoRandomNumbers())
    sizes = {"vocab_size": 20_000, "n_embd": 512, "n_layer": 2, "n_inner": 2048}
    config = GPTConfig(
        **sizes, n_head=8, block_size=64, position="rope", norm="rms_norm", activation="swiglu",
        bias=False, tie_weights=False,
    )  # fmt: skip
    model = GPT(config)
    model.export(tmp_path)
    if stored == "bfloat16":
        tensors = safetensors.load(tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").unlink()
        halves = [list(tensors)[::2], list(tensors)[1::2]]
        for i, names in enumerate(halves):
            save_bfloat16(tmp_path / f"{i}.safetensors", {n: tensors[n] for n in names})
        where = {name: f"{i}.safetensors" for i, names in enumerate(halves) for name in names}
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert 0.9 < float(result.stdout) < 1.3


# ---- published configs --------------------------------------------------------------------------

# As on huggingface.co, with what changes nothing left in.
PUBLISHED = {
    "openai-community/gpt2": (
        {"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
         "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256,
         "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
         "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
         "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1,
         "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
         "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
         "vocab_size": 50257},
        124_439_808, {"dropout": 0.1},
    ),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 1,
         "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
         "intermediate_size": 5632, "max_position_embeddings": 2048, "model_type": "llama",
         "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4,
         "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
         "transformers_version": "4.35.0", "vocab_size": 32000},
        1_100_048_384, {"norm_eps": 1e-5},
    ),
    "HuggingFaceTB/SmolLM2-135M": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576,
         "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
         "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
         "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30,
         "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
         "rope_interleaved": False, "rope_scaling": None, "rope_theta": 100000,
         "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
         "transformers_version": "4.40.1", "vocab_size": 49152},
        134_515_008, {"rope_base": 100000.0, "tie_weights": True},
    ),
    "meta-llama/Llama-3.1-8B": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu",
         "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
         "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
         "pretraining_tp": 1, "rms_norm_eps": 1e-05,
         "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 8192, "rope_type": "llama3"},
         "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
         "transformers_version": "4.43.0.dev0", "use_cache": True, "vocab_size": 128256},
        8_030_261_248, {"block_size": 131072},
    ),
    "mistralai/Mistral-7B-v0.1": (
        {"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
         "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
         "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
         "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16",
         "transformers_version": "4.34.0.dev0", "use_cache": True, "vocab_size": 32000},
        7_241_732_096, {"window": 4096},
    ),
    "Qwen/Qwen2.5-0.5B": (
        {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
         "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896,
         "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 32768,
         "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
         "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
         "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
         "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": True,
         "use_sliding_window": False, "vocab_size": 151936},
        494_032_768, {"window": None, "norm_eps": 1e-6},
    ),
    "Qwen/Qwen3-0.6B": (
        {"architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
         "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
         "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
         "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
         "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
         "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
         "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
         "vocab_size": 151936},
        596_049_920, {"head_dim": 128, "qk_norm_weight": True},
    ),
    "mistralai/Mixtral-8x7B-v0.1": (
        {"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
         "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
         "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mixtral",
         "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32,
         "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": False,
         "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
         "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
         "transformers_version": "4.36.0.dev0", "use_cache": True, "vocab_size": 32000},
        46_702_792_704, {"n_expert": 8, "balance_weight": 0.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs(name):
    """The number of parameters is the one that the model's page gives."""
    values, parameters, options = PUBLISHED[name]
    family = FAMILIES[values["model_type"]]
    config = GPTConfig(**family.options(Config(values, name)))
    assert config.parameter_count == parameters
    assert {name: getattr(config, name) for name in options} == options


def test_the_layers_in_which_qwen_slides():
    def window_layers(**said):
        values = LLAMA | SLIDING | {"num_hidden_layers": 3, "sliding_window": 2} | said
        options = FAMILIES["qwen2"].options(Config(values, "config.json"))
        return options["window"], options.get("window_layers")

    assert window_layers(max_window_layers=0) == (2, None)
    assert window_layers(max_window_layers=1) == (2, [1, 2])
    assert window_layers(max_window_layers=3) == (None, None)
    assert window_layers(use_sliding_window=False) == (None, None)
    types = ["sliding_attention", "full_attention", "full_attention"]
    assert window_layers(layer_types=types) == (2, [0])


# ---- what is refused ----------------------------------------------------------------------------


def config_of(base, **changes):
    return {key: value for key, value in (base | changes).items() if value != "gone"}


QWEN = {"model_type": "qwen2"}
SLIDING = QWEN | {"use_sliding_window": True, "max_window_layers": 0}
BAD_CONFIGS = [
    (GPT2, {"model_type": "bert"}, "model_type is 'bert'; supported: gpt2, llama"),
    (GPT2, {"model_type": "gone"}, "model_type is None; supported"),
    (GPT2, {"activation_function": "mish"}, "activation_function is 'mish'; supported: gelu_new"),
    (GPT2, {"n_layer": "2"}, "n_layer is '2', but should be a whole number"),
    (GPT2, {"n_layer": True}, "n_layer is True, but should be a whole number"),
    (GPT2, {"n_head": 5}, "n_embd=12 is not a multiple of n_head=5"),
    (GPT2, {"tie_word_embeddings": 1}, "tie_word_embeddings is 1, but should be true or false"),
    (GPT2, {"attn_pdrop": 0.3}, "resid_pdrop = 0.0, embd_pdrop = 0.0, attn_pdrop = 0.3; supported"),
    (GPT2, {"scale_attn_weights": False}, "scale_attn_weights is False; supported: True"),
    (GPT2, {"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}; supported"),
    (GPT2, {"auto_map": {"AutoModel": "x.Y"}}, "auto_map is .*supported: None"),
    (GPT2, {"frobnicate": 3}, "frobnicate is 3; what it asks for is unknown"),
    (LLAMA, {"hidden_act": "relu"}, "hidden_act is 'relu'; supported: silu"),
    (LLAMA, {"rms_norm_eps": None}, "rms_norm_eps is None, but should be a number"),
    (LLAMA, {"rms_norm_eps": -1.0}, "norm_eps must be above 0, not -1.0"),
    (LLAMA, {"attention_bias": True}, "attention_bias = True, mlp_bias = False; supported"),
    (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling is .*'dynamic'"),
    (LLAMA, {"rope_scaling": {"type": "linear"}}, "rope_scaling's factor must be .*not None"),
    (LLAMA, {"rope_scaling": {"rope_type": "default", "beta": 2}}, "beta is not supported"),
    (LLAMA, {"rope_scaling": [2.0]}, "rope_scaling is .2.0.; expected a table"),
    (LLAMA, {"rope_theta": "big"}, "rope_theta is 'big', but should be a number"),
    (LLAMA, {"rope_interleaved": True}, "rope_interleaved is True; supported: False"),
    (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; supported"),
    (LLAMA, {"sliding_window": 8}, "sliding_window is 8; what it asks for is unknown"),
    (LLAMA, {"attention_dropout": 0.1}, "attention_dropout is 0.1; supported: 0.0"),
    (LLAMA, QWEN | {"layer_types": ["full_attention"]}, "layer_types is .* each of 2 layers"),
    (LLAMA, QWEN | {"layer_types": 5}, "layer_types is 5; supported: a list of full_attention"),
    (LLAMA, QWEN | {"layer_types": [[], []]}, "layer_types is .*supported: a list"),
    (LLAMA, QWEN | {"layer_types": ["sliding_attention"] * 2}, "there is no sliding_window in use"),
    (LLAMA, QWEN | {"layer_types": ["linear_attention"] * 2}, "supported: a list of full_att"),
    (LLAMA, QWEN | {"num_hidden_layers": 10**15}, "num_hidden_layers is 1000.* at most 10,000"),
    (LLAMA, SLIDING | {"sliding_window": "4"}, "sliding_window is '4'"),
    # a config that contradicts the weights
    (GPT2, {"n_embd": 15}, r"transformer.wte.weight has shape \(11, 12\); .* expected \(11, 15\)"),
    (GPT2, {"vocab_size": 10}, r"transformer.wte.weight has shape \(11, 12\)"),
    (GPT2, {"n_positions": 8}, r"wpe.weight has shape \(7, 12\); .* expected \(8, 12\)"),
    (GPT2, {"n_layer": 1}, r"transformer.h.1.ln_1.weight, of shape \(12,\), is not expected"),
    (GPT2, {"n_layer": 3}, "config.json says that there are 3 layers, .* tensors of 2"),
    (GPT2, {"n_layer": 10**15}, "layers, .* tensors of 2"),
    (GPT2, {"n_positions": 10**15}, "asks for .* parameters, but the weights beside it are"),
    (GPT2, {"n_inner": 10**12}, "asks for .* parameters, but the weights beside it are"),
    (GPT2, {"n_embd": 3 * 10**12}, r"transformer.wte.weight has shape \(11, 12\)"),
    (GPT2, {"tie_word_embeddings": False}, r"lm_head.weight is missing; .* shape \(11, 12\)"),
    (LLAMA, {"num_key_value_heads": 3}, r"k_proj.weight has shape \(4, 12\); .*\(12, 12\)"),
    (LLAMA, {"intermediate_size": 9}, r"gate_proj.weight has shape \(10, 12\); .*\(9, 12\)"),
    (LLAMA, {"tie_word_embeddings": True}, "lm_head.weight is not the embedding"),
    (LLAMA, {"model_type": "qwen2"}, r"q_proj.bias is missing; .* expected with shape \(12,\)"),
    (LLAMA, {"model_type": "qwen3", "head_dim": 4}, "q_norm.weight is missing"),
    (LLAMA, {"attention_bias": True, "mlp_bias": True}, "q_proj.bias is missing"),
]


@pytest.mark.parametrize(("base", "changes", "message"), BAD_CONFIGS)
def test_a_config_that_does_not_fit_is_one_sentence(tmp_path, base, changes, message):
    tensors = gpt2_tensors(small_gpt()) if base is GPT2 else llama_tensors(small_gpt(**AS_LLAMA))
    write(tmp_path, config_of(base, **changes), tensors)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as caught:
        GPT.from_pretrained(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def change(tensors, name, array):
    return tensors | {name: array}


def rename(tensors, old, new):
    return {new if name == old else name: array for name, array in tensors.items()}


LN_F = "transformer.ln_f.weight"
BAD_TENSORS = {
    "missing": (
        lambda t: {name: a for name, a in t.items() if name != LN_F},
        r"model.safetensors: transformer.ln_f.weight is missing; .* expected with shape \(12,\)",
    ),
    "extra": (
        lambda t: change(t, "transformer.h.0.extra.weight", np.zeros(3)),
        r"transformer.h.0.extra.weight, of shape \(3,\), is not expected",
    ),
    "renamed": (
        lambda t: rename(t, LN_F, "transformer.final.weight"),
        "transformer.ln_f.weight is missing",
    ),
    "shape": (
        lambda t: change(t, LN_F, np.zeros((12, 1))),
        r"transformer.ln_f.weight has shape \(12, 1\); .* expected \(12,\)",
    ),
    "turned": (
        lambda t: change(t, "transformer.h.1.mlp.c_fc.weight", np.zeros((48, 12))),
        r"h.1.mlp.c_fc.weight has shape \(48, 12\); .* expected \(12, 48\)",
    ),
    "integers": (
        lambda t: change(t, LN_F, np.zeros(12, "int8")),
        "transformer.ln_f.weight has dtype I8; expected one of F64, F32, F16, BF16",
    ),
    "twice": (lambda t: change(t, "ln_f.weight", np.zeros(12)), "ln_f.weight is there twice"),
    "another head": (
        lambda t: change(t, "lm_head.weight", np.zeros((11, 12))),
        "lm_head.weight is not the embedding",
    ),
    "nothing": (lambda t: {}, "transformer.wte.weight is missing"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_wrong_tensors_are_one_sentence(tmp_path, damage, message):
    write(tmp_path, GPT2, damage(gpt2_tensors(small_gpt())))
    with pytest.raises(ValueError, match=message) as caught:
        GPT.from_pretrained(tmp_path)
    assert str(tmp_path / "model.safetensors") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_cut(gpt2):
    file = gpt2 / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"model.safetensors is not sound|not a sound safetensors"):
        GPT.from_pretrained(gpt2)


def test_tensors_that_overlap(tmp_path):
    write(tmp_path, GPT2)
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"a": entry, "b": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match="model.safetensors .* array 'b' overlaps"):
        GPT.from_pretrained(tmp_path)


def two_shards(folder):
    tensors = gpt2_tensors(small_gpt())
    first = {name: tensors.pop(name) for name in list(tensors)[:9]}
    return write_shards(folder, GPT2, {"a.safetensors": first, "b.safetensors": tensors})


def test_a_missing_shard(tmp_path):
    (two_shards(tmp_path) / "b.safetensors").unlink()
    with pytest.raises(ValueError, match="b.safetensors is missing; .* tensors in it, such as tr"):
        GPT.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m | {LN_F: "a.safetensors"}, "a.safetensors: .*ln_f.weight is missing, but exp"),
        (lambda m: m | {LN_F: "../b.safetensors"}, "'../b.safetensors' is not the name of a file"),
        (lambda m: m | {LN_F: 3}, "weight_map should be a table of file names"),
        (lambda m: list(m), "weight_map should be a table of file names"),
        (
            lambda m: {name: file for name, file in m.items() if name != LN_F},
            "b.safetensors: transformer.ln_f.weight is there, not expected",
        ),
    ],
)
def test_an_index_that_does_not_fit(tmp_path, edit, message):
    file = two_shards(tmp_path) / "model.safetensors.index.json"
    wanted = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
    file.write_text(json.dumps({"weight_map": edit(wanted)}), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        GPT.from_pretrained(tmp_path)


def test_a_pickle_is_refused(gpt2):
    (gpt2 / "model.safetensors").rename(gpt2 / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin is a pickle.*save_pretrained"):
        GPT.from_pretrained(gpt2)


def test_a_folder_without_weights_or_config(gpt2):
    (gpt2 / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="model.safetensors is missing, and so is"):
        GPT.from_pretrained(gpt2)
    (gpt2 / "config.json").write_text('{"model_type": "gpt2", "model_type": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="config.json cannot be read: the key 'model_type'"):
        GPT.from_pretrained(gpt2)
    (gpt2 / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="config.json cannot be read: it should hold a table"):
        GPT.from_pretrained(gpt2)
    (gpt2 / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json is missing"):
        GPT.from_pretrained(gpt2)


def test_a_folder_of_our_own_is_told_its_reader(tmp_path):
    small_gpt().save(tmp_path)
    with pytest.raises(ValueError, match="config.json is missing; .* which GPT.load reads"):
        GPT.from_pretrained(tmp_path)


# ---- tokenizer ----------------------------------------------------------------------------------


def test_the_tokenizer_comes_along(tmp_path):
    tokenizer = tokenizers.Char.train("to be or not")  # 8 different ones; the model knows 11
    model = small_gpt()
    model.export(tmp_path, tokenizer)
    found = tokenizers.load(tmp_path / "tokenizer.json")
    assert found.decode(found.encode("not to be")) == "not to be"
    assert_same_model(GPT.from_pretrained(tmp_path), model)


def test_a_tokenizer_with_more_tokens_than_the_model(tmp_path):
    tokenizer = tokenizers.Char.train("abcdefghijkl")
    with pytest.raises(ValueError, match="tokenizer has 12 tokens, .* vocab_size = 11"):
        small_gpt().export(tmp_path / "new", tokenizer)
    assert not (tmp_path / "new").exists()
    small_gpt().export(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match="tokenizer.json has 12 tokens, .* vocab_size = 11"):
        GPT.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ['{"model": {}}', '{"model": {"vocab": {"a": "b"}}}', "{}", "{"])
def test_a_broken_tokenizer(gpt2, text):
    (gpt2 / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="tokenizer.json"):
        GPT.from_pretrained(gpt2)


# ---- names on the hub ---------------------------------------------------------------------------


def test_a_name_without_huggingface_hub(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ValueError, match=r"no folder some/model; .* pip install \"tinygpt\[hub\]\""
    ):
        GPT.from_pretrained("some/model")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="file is a file; give the folder"):
        GPT.from_pretrained(tmp_path / "file")


def test_a_name_with_huggingface_hub(monkeypatch, gpt2):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name != "some/gpt2":
            raise OSError("404\nand more")
        return str(gpt2)

    hub = SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert_same_model(GPT.from_pretrained("some/gpt2"), small_gpt())
    assert [name for name, _ in asked] == ["some/gpt2"]
    assert not any("py" in pattern or "bin" in pattern for pattern in asked[0][1])
    with pytest.raises(ValueError, match="gave no model of that name: 404$"):
        GPT.from_pretrained("some/other")


# ---- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_export_writes_what_was_read(request, tmp_path, name):
    folder = request.getfixturevalue(name)
    GPT.from_pretrained(folder).export(tmp_path / "exported")
    before = safetensors.load(folder / "model.safetensors")
    after = safetensors.load(tmp_path / "exported/model.safetensors")
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in before.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in after.items()
    }
    written = json.loads((tmp_path / "exported/config.json").read_text(encoding="utf-8"))
    base = GPT2 if name == "gpt2" else LLAMA
    assert {key: written[key] for key in base if key != "n_ctx"} == {
        key: value for key, value in base.items() if key != "n_ctx"
    }
    assert written["torch_dtype"] == "float64"


@pytest.mark.parametrize(
    ("options", "model_type"),
    [
        ({}, "gpt2"),
        ({"dropout": 0.2, "remat": True, "zero_init_residual": True}, "gpt2"),
        ({"n_inner": 9, "activation": "gelu", "norm_eps": 1e-3, "tie_weights": False}, "gpt2"),
        (AS_LLAMA, "llama"),
        (AS_LLAMA | {"bias": True, "head_dim": 6, "tie_weights": True}, "llama"),
        (AS_LLAMA | {"activation": "geglu"}, "llama"),
        (AS_LLAMA | {"rope_scaling": {"kind": "linear", "factor": 2.0}}, "llama"),
        (AS_LLAMA | {"window": 3}, "mistral"),
        (AS_LLAMA | {"window": 3, "window_layers": (0, 1)}, "mistral"),
        (AS_LLAMA | {"window": 3, "window_layers": ()}, "llama"),
        (AS_LLAMA | {"qkv_bias": True}, "qwen2"),
        (AS_LLAMA | {"qkv_bias": True, "window": 3}, "qwen2"),
        (AS_LLAMA | {"window": 3, "window_layers": (0,), "qkv_bias": True}, "qwen2"),
        (AS_LLAMA | {"qk_norm": True, "qk_norm_weight": True, "head_dim": 6}, "qwen3"),
        (AS_LLAMA | {"n_expert": 3, "n_expert_per_token": 1}, "mixtral"),
        (AS_LLAMA | {"n_expert": 12, "balance_weight": 0.0, "window": 3}, "mixtral"),
    ],
)
def test_export_finds_the_family(tmp_path, options, model_type):
    model = small_gpt(**options)
    model.export(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == model_type
    again = GPT.from_pretrained(tmp_path)
    assert_same_model(again, model)
    ids, _ = small_batch()
    np.testing.assert_array_equal(again(ids).data, model(ids).data)
    assert again.config.dropout == options.get("dropout", 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": False}, "nearest, gpt2, cannot have bias=False"),
        ({"position": "rope"}, "nearest, gpt2, cannot have position='rope'"),
        ({"position": "sinusoidal"}, "nearest, gpt2, cannot have position='sinusoidal'"),
        (AS_LLAMA | {"activation": "relu2"}, "nearest, llama, cannot have activation='relu2'"),
        (AS_LLAMA | {"logit_softcap": 3.0}, "nearest, llama, cannot have logit_softcap=3.0"),
        (AS_LLAMA | {"qk_norm": True}, "nearest, llama, cannot have qk_norm=True"),
        (AS_LLAMA | {"window": 4, "sinks": 2}, "nearest, mistral, cannot have sinks=2"),
    ],
)
def test_a_model_that_no_family_has(tmp_path, options, message):
    with pytest.raises(ValueError, match="save.. keeps any model; the " + message):
        small_gpt(**options).export(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_not_finite_is_not_written(tmp_path):
    model = small_gpt()
    model.h[1].ln_2.bias.data[3] = np.nan
    with pytest.raises(ValueError, match="h.1.ln_2.bias holds a NaN or an infinity"):
        model.export(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_export_over_an_older_one(tmp_path):
    small_gpt(seed=3).export(tmp_path)
    small_gpt().export(tmp_path)
    assert_same_model(GPT.from_pretrained(tmp_path), small_gpt())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_loaded_model_does_not_depend_on_its_file(gpt2):
    model = GPT.from_pretrained(gpt2)
    shutil.rmtree(gpt2)
    assert_same_model(model, small_gpt())
    model.wte.weight.data += 1  # it may be trained
