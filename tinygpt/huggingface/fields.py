"""How a setting in their config.json and one in our GPTConfig say the same, in both directions.

A field reads its keys out of a config.json and returns options for a GPTConfig; and it writes, from
a GPTConfig in which every size is spelt out, its keys for a config.json.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


class Config:
    """The table in a config.json, with errors that name the file, the key and its value."""

    def __init__(self, values: dict[str, Any], source: str):
        self.values = values
        self.source = source

    def error(self, key: str, problem: str) -> ValueError:
        return ValueError(f"{self.source}: {key} is {self.values.get(key)!r}; {problem}")

    def get(self, key: str, default: Any, kind: type | None = None) -> Any:
        """A value, or what transformers takes where the key is missing. null is a value too."""
        value = self.values.get(key, default)
        if kind is not None and not (value is None and default is None):
            self.check(key, value, kind)
        return value

    def check(self, key: str, value: Any, kind: type) -> None:
        right = isinstance(value, kind | int if kind is float else kind)
        if not right or (isinstance(value, bool) and kind is not bool):
            wanted = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
            raise ValueError(f"{self.source}: {key} is {value!r}, but should be {wanted}")


class Field:
    """One setting. keys: those of config.json that it understands."""

    keys: tuple[str, ...]

    def read(self, config: Config) -> dict[str, Any]:
        raise NotImplementedError

    def write(self, ours: Any) -> dict[str, Any]:
        raise NotImplementedError


@dataclass
class Same(Field):
    """A number or a flag that only has another name. `default`: where config.json is silent."""

    theirs: str
    ours: str
    kind: type
    default: Any
    null: bool = False  # whether null is a value: what our None is

    def __post_init__(self):
        self.keys = (self.theirs,)

    def read(self, config: Config) -> dict[str, Any]:
        if self.null and self.theirs in config.values and config.values[self.theirs] is None:
            return {self.ours: None}
        return {self.ours: config.get(self.theirs, self.default, self.kind)}

    def write(self, ours: Any) -> dict[str, Any]:
        return {self.theirs: getattr(ours, self.ours)}


@dataclass
class Choice(Field):
    """A word of theirs for a word of ours; the first that means the same is the one we write."""

    theirs: str
    ours: str
    words: dict[str, str]
    default: str

    def __post_init__(self):
        self.keys = (self.theirs,)

    def read(self, config: Config) -> dict[str, Any]:
        word = config.get(self.theirs, self.default)
        if not isinstance(word, str) or word not in self.words:
            raise config.error(self.theirs, f"supported: {', '.join(self.words)}")
        return {self.ours: self.words[word]}

    def write(self, ours: Any) -> dict[str, Any]:
        words = [theirs for theirs, word in self.words.items() if word == getattr(ours, self.ours)]
        return {self.theirs: (words or [self.default])[0]}


@dataclass
class Equal(Field):
    """Several settings of theirs where we have one: they must be equal."""

    theirs: tuple[str, ...]
    ours: str
    kind: type
    default: Any

    def __post_init__(self):
        self.keys = self.theirs

    def read(self, config: Config) -> dict[str, Any]:
        values = {key: config.get(key, self.default, self.kind) for key in self.theirs}
        first = values[self.theirs[0]]
        if any(value != first for value in values.values()):
            found = ", ".join(f"{key} = {value!r}" for key, value in values.items())
            raise ValueError(f"{config.source}: {found}; supported is one value for all of them")
        return {self.ours: first}

    def write(self, ours: Any) -> dict[str, Any]:
        return dict.fromkeys(self.theirs, getattr(ours, self.ours))


MAX_LAYERS = 10_000

LLAMA3 = {  # inside of rope_scaling
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_block_size",
}


@dataclass
class Rope(Field):
    """Frequencies of the rotary embedding, in the spelling of transformers 4 or 5.

    4: rope_theta beside rope_scaling, a table or null. 5: both in one table, rope_parameters. We
    write the older one, which both versions read.
    """

    base: float = 10000.0
    keys = ("rope_theta", "rope_scaling", "rope_parameters")

    def read(self, config: Config) -> dict[str, Any]:
        key = "rope_scaling" if config.values.get("rope_scaling") else "rope_parameters"
        table = config.values.get(key) or {}
        if not isinstance(table, dict):
            raise config.error(key, "expected a table")
        base = table.get("rope_theta", config.get("rope_theta", self.base))
        config.check("rope_theta", base, float)
        kind = table.get("rope_type", table.get("type", "default"))
        wanted = {"default": (), "linear": ("factor",), "llama3": ("factor", *LLAMA3)}
        if not isinstance(kind, str) or kind not in wanted:
            raise config.error(key, f"supported rope types: {', '.join(wanted)}")
        for name, value in table.items():
            known = name in ("rope_theta", "rope_type", "type", *wanted[kind])
            if not known and (name, value) != ("partial_rotary_factor", 1.0):
                raise config.error(key, f"{name} is not supported for the rope type {kind!r}")
        if kind == "default":
            return {"rope_base": float(base), "rope_scaling": None}
        scaling: dict[str, Any] = {"kind": kind, "factor": table.get("factor")}
        for theirs, ours in LLAMA3.items() if kind == "llama3" else ():
            scaling[ours] = table.get(theirs)
        if kind == "llama3" and "original_max_position_embeddings" not in table:
            scaling["original_block_size"] = config.values.get("max_position_embeddings")
        return {"rope_base": float(base), "rope_scaling": scaling}

    def write(self, ours: Any) -> dict[str, Any]:
        table = None
        if ours.rope_scaling is not None:
            scaling = asdict(ours.rope_scaling)
            table = {"rope_type": scaling["kind"], "factor": float(scaling["factor"])}
            if table["rope_type"] == "llama3":
                table |= {theirs: scaling[name] for theirs, name in LLAMA3.items()}
        return {"rope_theta": ours.rope_base, "rope_scaling": table}


@dataclass
class Window(Field):
    """Sliding windows in every layer (Mistral, Mixtral). null: none."""

    default: int | None
    keys = ("sliding_window",)

    def read(self, config: Config) -> dict[str, Any]:
        window = config.values.get("sliding_window", self.default)
        if window is not None:
            config.check("sliding_window", window, int)
        return {"window": window}

    def write(self, ours: Any) -> dict[str, Any]:
        return {"sliding_window": ours.window}


@dataclass
class LayerWindows(Field):
    """Sliding windows in some layers (Qwen): in those that layer_types says, else from
    max_window_layers on."""

    keys = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")

    def read(self, config: Config) -> dict[str, Any]:
        window = config.values.get("sliding_window", 4096)
        if not config.get("use_sliding_window", False, bool):
            window = None
        L = config.get("num_hidden_layers", 32, int)
        if L > MAX_LAYERS:
            raise config.error("num_hidden_layers", f"at most {MAX_LAYERS:,} are supported")
        first = config.get("max_window_layers", 28, int)
        types = config.values.get("layer_types")
        if types is None:
            types = ["sliding_attention" if i >= first else "full_attention" for i in range(L)]
        supported = ["full_attention", "sliding_attention"]
        if not isinstance(types, list) or any(kind not in supported for kind in types):
            raise config.error("layer_types", f"supported: a list of {' and '.join(supported)}")
        if len(types) != L:
            raise config.error("layer_types", f"expected one for each of {L} layers")
        if window is None and config.values.get("layer_types") and supported[1] in types:
            raise config.error("layer_types", "but there is no sliding_window in use")
        layers = [i for i, kind in enumerate(types) if kind == "sliding_attention"]
        if window is None or not layers:
            return {"window": None}
        config.check("sliding_window", window, int)
        return {"window": window, "window_layers": layers if len(layers) < L else None}

    def write(self, ours: Any) -> dict[str, Any]:
        sliding = [ours.window_of(i) is not None for i in range(ours.n_layer)]
        return {
            "use_sliding_window": any(sliding),
            "sliding_window": ours.window,
            "max_window_layers": sliding.index(True) if any(sliding) else ours.n_layer,
            "layer_types": [f"{'sliding' if yes else 'full'}_attention" for yes in sliding],
        }


class Balance(Field):
    """How much the loss minds an unequal load of the experts (Mixtral): transformers adds it when
    output_router_logits is true."""

    keys = ("output_router_logits", "router_aux_loss_coef")

    def read(self, config: Config) -> dict[str, Any]:
        weight = config.get("router_aux_loss_coef", 0.001, float)
        return {"balance_weight": weight if config.get(self.keys[0], False, bool) else 0.0}

    def write(self, ours: Any) -> dict[str, Any]:
        weight = ours.balance_weight
        return {"output_router_logits": weight > 0, "router_aux_loss_coef": weight}
