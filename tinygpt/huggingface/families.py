"""The table of families: what GPT-2, Llama and their kin call what we have."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .fields import Balance, Choice, Config, Equal, Field, LayerWindows, Rope, Same, Window
from .tensors import Table, gate, key, query, same, turned, up, value

# Keys of a config.json that change nothing in what a model computes.
HARMLESS = {
    # who wrote it
    "_name_or_path", "_commit_hash", "architectures", "transformers_version", "model_type",
    "transformers.js_config", "unsloth_version", "unsloth_fixed", "is_llama_config", "use_bfloat16",
    # how it was or shall be stored and run: dtypes are read from the weights themselves
    "dtype", "torch_dtype", "use_cache", "attn_implementation", "_attn_implementation",
    "_attn_implementation_autoset", "_flash_attn_2_enabled", "torchscript", "return_dict",
    "output_attentions", "output_hidden_states", "pretraining_tp", "reorder_and_upcast_attn",
    # how weights start, before training
    "initializer_range",
    # generation: which tokens begin, end and fill a text, and how it is sampled
    "bos_token_id", "eos_token_id", "pad_token_id", "task_specific_params",
    # heads for other tasks than the next token
    "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    "summary_first_dropout", "problem_type", "id2label", "label2id", "num_labels",
    # another name for n_positions, in GPT-2's own config
    "n_ctx",
}  # fmt: skip

# Keys that ask for what we do not have, unless they have one of these values.
REFUSED: dict[str, tuple] = {
    "quantization_config": (None,),
    "auto_map": (None,),  # code that the folder brings along
    "is_encoder_decoder": (False,),
    "is_decoder": (False,),  # it would make a bidirectional model causal; these all are
    "add_cross_attention": (False,),
    "pruned_heads": (None, {}),
    "partial_rotary_factor": (None, 1.0),
    "rope_interleaved": (False,),
    "attention_bias": (False,),  # for Qwen3, whose feed-forward layers never have any
    "attention_dropout": (0.0,),  # we have one rate for all places, or none
    "router_jitter_noise": (0.0,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}

# Tensors that some versions of transformers have saved beside the weights: tables made from the
# config, a causal mask and the frequencies of rope.
BUFFERS = r"h\.\d+\.attn\.(bias|masked_bias)|layers\.\d+\.self_attn\.rotary_emb\.inv_freq"

# Of our options, what matters in training alone.
TRAINING = ("dropout", "zero_init_residual", "remat")


@dataclass(frozen=True)
class Family:
    """How one model_type of transformers says what GPTConfig and our parameters say.

    constants: what all its models have. prefix: before the names of all tensors except the head's.
    """

    model_type: str
    architecture: str
    constants: dict[str, Any]
    fields: tuple[Field, ...]
    prefix: str
    tensors: Table

    def options(self, config: Config) -> dict[str, Any]:
        """What to give to GPTConfig. ValueError for whatever we would not compute alike."""
        options = dict(self.constants)
        known = set(HARMLESS)
        for field in self.fields:
            options |= field.read(config)
            known.update(field.keys)
        for name, found in config.values.items():
            if name in known:
                continue
            if name not in REFUSED:
                raise config.error(name, "what it asks for is unknown, so it is not supported")
            if not any(found == allowed for allowed in REFUSED[name]):
                supported = " or ".join(repr(allowed) for allowed in REFUSED[name])
                raise config.error(name, f"supported: {supported}, or nothing")
        return options

    def full_name(self, name: str) -> str:
        """The name of a tensor in a file: with the prefix, unless it is the head."""
        return name if name.startswith("lm_head.") else self.prefix + name

    def config(self, ours: Any) -> dict[str, Any]:
        """The config.json of a model of ours, spelt out."""
        written: dict[str, Any] = {
            "architectures": [self.architecture],
            "model_type": self.model_type,
        }
        for field in self.fields:
            written |= field.write(ours)
        return written


def spelt_out(config: Any) -> Any:
    """A GPTConfig with a number where it left one to be worked out, and with the defaults where a
    setting has no say: two that are equal compute the same."""
    default = type(config)
    said: dict[str, Any] = {
        "n_kv_head": config.kv_heads,
        "n_inner": config.inner_size,
        "head_dim": config.head_size,
        "qkv_bias": config.has_qkv_bias,
    }
    idle = list(TRAINING)
    if config.position != "rope":
        idle += ["rope_base"]
    if config.n_expert is None:
        idle += ["n_expert_per_token", "balance_weight"]
    layers = tuple(i for i in range(config.n_layer) if config.window_of(i) is not None)
    if not layers:
        idle += ["window", "window_layers", "sinks"]
    elif len(layers) == config.n_layer:
        idle += ["window_layers"]
    return dataclasses.replace(config, **said, **{name: getattr(default, name) for name in idle})


def family_of(config: Any) -> tuple[Family, dict[str, Any]]:
    """The family that has models such as `config`, a GPTConfig, and the config.json of this one.

    A family has it if what it writes, read again, is the same model. ValueError if none has.
    """
    wanted = dataclasses.asdict(spelt_out(config))
    spelt = dataclasses.replace(spelt_out(config), dropout=config.dropout)
    without: dict[str, list[str]] = {}  # what each family does not have
    for model_type, family in FAMILIES.items():
        written = family.config(spelt)
        try:
            read = type(config)(**family.options(Config(written, "config.json")))
        except ValueError:  # the family has a setting to which this model has no answer
            continue
        found = dataclasses.asdict(spelt_out(read))
        different = [f"{name}={wanted[name]!r}" for name in wanted if wanted[name] != found[name]]
        if not different:
            return family, written
        without[model_type] = different
    sentence = "transformers has no model like this one; save() keeps any model"
    if without:
        nearest = min(without, key=lambda model_type: len(without[model_type]))
        sentence += f"; the nearest, {nearest}, cannot have {', '.join(without[nearest])}"
    raise ValueError(sentence)


# ---- GPT-2 --------------------------------------------------------------------------------------

GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    constants={"position": "learned", "norm": "layer_norm", "bias": True},
    fields=(
        Same("vocab_size", "vocab_size", int, 50257),
        Same("n_positions", "block_size", int, 1024),
        Same("n_layer", "n_layer", int, 12),
        Same("n_head", "n_head", int, 12),
        Same("n_embd", "n_embd", int, 768),
        Same("n_inner", "n_inner", int, None),
        Same("layer_norm_epsilon", "norm_eps", float, 1e-5),
        Same("tie_word_embeddings", "tie_weights", bool, True),
        Choice(
            "activation_function",
            "activation",
            {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu",
             "relu": "relu", "relu2": "relu2", "silu": "silu", "swish": "silu"},
            "gelu_new",
        ),
        Equal(("resid_pdrop", "embd_pdrop", "attn_pdrop"), "dropout", float, 0.1),
    ),
    prefix="transformer.",
    tensors={  # stored (in, out), as ours, and with our names
        "wte": [("wte", same)],
        "wpe": [("wpe", same)],
        "h.{}.ln_1": [("h.{}.ln_1", same)],
        "h.{}.attn.c_attn": [("h.{}.attn.c_attn", same)],
        "h.{}.attn.c_proj": [("h.{}.attn.c_proj", same)],
        "h.{}.ln_2": [("h.{}.ln_2", same)],
        "h.{}.mlp.c_fc": [("h.{}.mlp.c_fc", same)],
        "h.{}.mlp.c_proj": [("h.{}.mlp.c_proj", same)],
        "ln_f": [("ln_f", same)],
        "lm_head": [("lm_head", same)],
    },
)  # fmt: skip

# ---- Llama and its kin --------------------------------------------------------------------------

LLAMA_CONSTANTS = {"position": "rope", "norm": "rms_norm", "bias": False}
GATED = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu_pytorch_tanh": "geglu",
    "gelu_new": "geglu",
}
BIASES = Equal(("attention_bias", "mlp_bias"), "bias", bool, False)
HEAD_DIM = Same("head_dim", "head_dim", int, None)

EMBEDDING_AND_HEAD: Table = {
    "wte": [("embed_tokens", same)],
    "ln_f": [("norm", same)],
    "lm_head": [("lm_head", same)],
}
ATTENTION: Table = {
    "h.{}.ln_1": [("layers.{}.input_layernorm", same)],
    "h.{}.attn.c_attn": [
        ("layers.{}.self_attn.q_proj", query),
        ("layers.{}.self_attn.k_proj", key),
        ("layers.{}.self_attn.v_proj", value),
    ],
    "h.{}.attn.c_proj": [("layers.{}.self_attn.o_proj", turned)],
    "h.{}.ln_2": [("layers.{}.post_attention_layernorm", same)],
}
QK_NORM: Table = {
    "h.{}.attn.q_norm": [("layers.{}.self_attn.q_norm", same)],
    "h.{}.attn.k_norm": [("layers.{}.self_attn.k_norm", same)],
}
MLP: Table = {
    "h.{}.mlp.c_fc": [("layers.{}.mlp.gate_proj", gate), ("layers.{}.mlp.up_proj", up)],
    "h.{}.mlp.c_proj": [("layers.{}.mlp.down_proj", turned)],
}
EXPERTS: Table = {
    "h.{}.mlp.router": [("layers.{}.block_sparse_moe.gate", turned)],
    "h.{}.mlp.experts.{}.c_fc": [
        ("layers.{}.block_sparse_moe.experts.{}.w1", gate),
        ("layers.{}.block_sparse_moe.experts.{}.w3", up),
    ],
    "h.{}.mlp.experts.{}.c_proj": [("layers.{}.block_sparse_moe.experts.{}.w2", turned)],
}


def sizes(vocab_size=32000, block_size=2048, n_inner=11008, n_kv_head=None, norm_eps=1e-6):
    """The fields that Llama and its kin share; the numbers are those of a config without them."""
    return (
        Same("vocab_size", "vocab_size", int, vocab_size),
        Same("max_position_embeddings", "block_size", int, block_size),
        Same("num_hidden_layers", "n_layer", int, 32),
        Same("num_attention_heads", "n_head", int, 32),
        Same("num_key_value_heads", "n_kv_head", int, n_kv_head, null=True),
        Same("hidden_size", "n_embd", int, 4096),
        Same("intermediate_size", "n_inner", int, n_inner),
        Same("rms_norm_eps", "norm_eps", float, norm_eps),
        Same("tie_word_embeddings", "tie_weights", bool, False),
        Choice("hidden_act", "activation", GATED, "silu"),
    )


LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    constants={"position": "rope", "norm": "rms_norm"},
    fields=(*sizes(), HEAD_DIM, BIASES, Rope()),
    prefix="model.",
    tensors=EMBEDDING_AND_HEAD | ATTENTION | MLP,
)

MISTRAL = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    constants=LLAMA_CONSTANTS,
    fields=(
        *sizes(block_size=131072, n_inner=14336, n_kv_head=8),
        HEAD_DIM,
        Rope(),
        Window(4096),
    ),
    prefix="model.",
    tensors=EMBEDDING_AND_HEAD | ATTENTION | MLP,
)

QWEN2 = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    constants=LLAMA_CONSTANTS | {"qkv_bias": True},
    fields=(
        *sizes(vocab_size=151936, block_size=32768, n_inner=22016, n_kv_head=32),
        Rope(),
        LayerWindows(),
    ),
    prefix="model.",
    tensors=EMBEDDING_AND_HEAD | ATTENTION | MLP,
)

QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    constants=LLAMA_CONSTANTS | {"qk_norm": True, "qk_norm_weight": True},
    fields=(
        *sizes(vocab_size=151936, block_size=32768, n_inner=22016, n_kv_head=32),
        Same("head_dim", "head_dim", int, 128),
        Rope(),
        LayerWindows(),
    ),
    prefix="model.",
    tensors=EMBEDDING_AND_HEAD | ATTENTION | QK_NORM | MLP,
)

MIXTRAL = Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    constants=LLAMA_CONSTANTS,
    fields=(
        *sizes(block_size=131072, n_inner=14336, n_kv_head=8, norm_eps=1e-5),
        HEAD_DIM,
        Rope(1000000.0),
        Window(None),
        Same("num_local_experts", "n_expert", int, 8),
        Same("num_experts_per_tok", "n_expert_per_token", int, 2),
        Balance(),
    ),
    prefix="model.",
    tensors=EMBEDDING_AND_HEAD | ATTENTION | EXPERTS,
)

# The first that has a model is the one it is exported as.
FAMILIES = {family.model_type: family for family in (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, MIXTRAL)}
