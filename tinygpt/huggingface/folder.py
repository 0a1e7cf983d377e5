"""A folder of Hugging Face: config.json, weights in safetensors, tokenizer.json.

config.json                      sizes and settings, by the names of its family
model.safetensors                the weights; or, in several files,
model.safetensors.index.json     {"weight_map": {tensor: file}} and
model-00001-of-00002.safetensors ...
tokenizer.json                   what tinygpt.tokenizers.load reads
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .. import safetensors
from ..nn import Module, make_room
from ..tokenizers.formats import tokenizer_json
from .families import BUFFERS, FAMILIES, Family, family_of
from .fields import Config
from .tensors import parts

INDEX = "model.safetensors.index.json"
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float32", "BF16": "float32"}
MAX_JSON = 100_000_000  # bytes

Place: TypeAlias = tuple[safetensors.Reader, str]  # a file, and a tensor's name there


class Folder:
    """A model in a folder, opened: its weights are still on disk.

    options: what to give to GPTConfig. dtype: of the model, float64 if a weight has it, else
    float32, to which float16 and bfloat16 are widened. size: how many numbers the files hold.

    ValueError, naming the file and what is wrong in it, for whatever is missing, damaged, or asks
    for what we do not have.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        if not self.config_file.is_file():
            own = (self.path / "checkpoint.json").is_file()
            hint = "; this is tinygpt's own format, which GPT.load reads" if own else ""
            raise ValueError(f"{self.config_file} is missing{hint}")
        config = Config(read_json(self.config_file), str(self.config_file))
        model_type = config.values.get("model_type")
        if not isinstance(model_type, str) or model_type not in FAMILIES:
            raise config.error("model_type", f"supported: {', '.join(FAMILIES)}")
        self.family = FAMILIES[model_type]
        self.options = self.family.options(config)

        self.weights_file, readers = open_weights(self.path)
        self._places = find_tensors(readers, self.family)
        self.size = sum(math.prod(r.arrays[name][1]) for r, name in self._places.values())
        self._check_sizes()
        self.dtype = dtype_of(self._places)
        check_tokenizer(self.path / "tokenizer.json", self.options["vocab_size"])

    def load(self, model: Module, config: Any) -> None:
        """Fill a model of `config` that NoWeights made; nothing is allocated if that cannot be."""
        arrays = {name: p.data for name, p in model.named_parameters()}
        expected = parts(self.family.tensors, arrays, config)
        self._check({name: part.shape for name, part in expected.items()})
        self._check_nothing_is_left(expected)
        make_room(model)
        arrays = {name: p.data for name, p in model.named_parameters()}
        for theirs, part in parts(self.family.tensors, arrays, config).items():
            reader, name = self._places[theirs]
            reader.read(name, part)
        if config.tie_weights:
            self._check_head(arrays["wte.weight"])

    def _check_sizes(self) -> None:
        """The embedding and the number of layers: before anything is made of these sizes."""
        sizes = self.options["vocab_size"], self.options["n_embd"]
        self._check({self.family.tensors["wte"][0][0] + ".weight": sizes})
        numbered = (re.match(r"\w+\.(\d+)\.", name) for name in self._places)
        layers = {match[1] for match in numbered if match}
        n_layer = self.options["n_layer"]
        if n_layer > len(layers):
            raise ValueError(
                f"{self.config_file} says that there are {n_layer} layers, but in "
                f"{self.weights_file} there are tensors of {len(layers)}"
            )

    def _check(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """These tensors, of the names in the table, are there, and of these shapes."""
        for theirs, expected in shapes.items():
            if theirs not in self._places:
                raise ValueError(
                    f"{self.weights_file}: {self.family.full_name(theirs)} is missing; going by "
                    f"{self.config_file.name}, expected with shape {expected}"
                )
            reader, name = self._places[theirs]
            _, found = reader.arrays[name]
            if found != expected:
                raise ValueError(
                    f"{reader.file}: {name} has shape {found}; going by {self.config_file.name}, "
                    f"expected {expected}"
                )

    def _check_nothing_is_left(self, expected: Collection[str]) -> None:
        for theirs, (reader, name) in self._places.items():
            tied_head = theirs == "lm_head.weight" and self.options["tie_weights"]
            if theirs not in expected and not tied_head:
                raise ValueError(
                    f"{reader.file}: {name}, of shape {reader.arrays[name][1]}, is not expected, "
                    f"going by {self.config_file.name}"
                )

    def _check_head(self, embedding: np.ndarray) -> None:
        """A head that is the embedding may stand in the file too, but then it must be that."""
        if "lm_head.weight" not in self._places:
            return
        reader, name = self._places["lm_head.weight"]
        same = reader.arrays[name][1] == embedding.shape and all(
            np.array_equal(embedding[rows], block) for rows, block in reader.blocks(name)
        )
        if not same:
            raise ValueError(
                f"{reader.file}: {name} is not the embedding, but {self.config_file} expects that "
                "(tie_word_embeddings is true, or is so where it is missing)"
            )


def read_json(file: Path) -> dict[str, Any]:
    """The table in a JSON file. ValueError, naming the file, where there is none."""
    try:
        if file.stat().st_size > MAX_JSON:
            raise ValueError(f"it is larger than {MAX_JSON:,} bytes")
        table = safetensors.strict_json(file.read_bytes())
        if not isinstance(table, dict):
            raise ValueError("it should hold a table")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    return table


# ---- weights ------------------------------------------------------------------------------------


def open_weights(folder: Path) -> tuple[Path, list[safetensors.Reader]]:
    """-> (the file that stands for all weights, the files that hold them)"""
    single = folder / "model.safetensors"
    if single.is_file():
        return single, [safetensors.Reader(single)]
    if (folder / INDEX).is_file():
        return folder / INDEX, open_shards(folder / INDEX)
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise ValueError(
            f"{pickles[0]} is a pickle, which can run anything when it is opened, so it is not; "
            "convert it where transformers and torch are installed: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise ValueError(f"{single} is missing, and so is {INDEX}")


def open_shards(index: Path) -> list[safetensors.Reader]:
    """The files that an index names, which must hold the tensors that it says, and no others."""
    wanted = read_json(index).get("weight_map")
    if not isinstance(wanted, dict) or not all(isinstance(f, str) for f in wanted.values()):
        raise ValueError(f"{index}: weight_map should be a table of file names")
    readers = []
    for name in sorted(set(wanted.values())):
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ValueError(f"{index}: {name!r} is not the name of a file beside it")
        expected = {tensor for tensor, file in wanted.items() if file == name}
        shard = index.with_name(name)
        if not shard.is_file():
            raise ValueError(
                f"{shard} is missing; {index.name} expects {len(expected)} tensors in it, such as "
                f"{min(expected)}"
            )
        reader = safetensors.Reader(shard)
        for tensor in sorted(expected ^ set(reader.arrays)):
            problem = "is missing, but expected" if tensor in expected else "is there, not expected"
            raise ValueError(f"{shard}: {tensor} {problem}, going by {index.name}")
        readers.append(reader)
    return readers


def find_tensors(readers: list[safetensors.Reader], family: Family) -> dict[str, Place]:
    """{name of a tensor, without the family's prefix: where it is}. Some files leave it out."""
    found: dict[str, Place] = {}
    for reader in readers:
        for name in reader.arrays:
            short = name.removeprefix(family.prefix)
            if re.fullmatch(BUFFERS, short):
                continue
            if short in found:
                other = found[short]
                raise ValueError(
                    f"{reader.file}: {name} is there twice, as {other[1]} in {other[0].file} too"
                )
            found[short] = reader, name
    return found


def dtype_of(places: dict[str, Place]) -> np.dtype:
    dtypes = {"float32"}
    for reader, name in places.values():
        dtype, _ = reader.arrays[name]
        if dtype not in FLOATS:
            raise ValueError(
                f"{reader.file}: {name} has dtype {dtype}; expected one of {', '.join(FLOATS)}"
            )
        dtypes.add(FLOATS[dtype])
    return np.result_type(*dtypes)


# ---- tokenizer ----------------------------------------------------------------------------------


def check_tokenizer(file: Path, vocab_size: int) -> None:
    """ValueError if a tokenizer.json, where there is one, has ids that the model does not know.

    The model may know more: many a vocabulary is filled up to a round number.
    """
    if not file.is_file():
        return
    table = read_json(file)
    try:
        vocabulary = table["model"]["vocab"]
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else range(len(vocabulary))
        ids = [*ids, *[token["id"] for token in table.get("added_tokens") or ()]]
        size = max(ids, default=-1) + 1
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} is not a tokenizer.json: it has no vocabulary") from None
    if size > vocab_size:
        raise ValueError(
            f"{file} has {size:,} tokens, but the model beside it knows vocab_size = "
            f"{vocab_size:,}: they do not belong together"
        )


# ---- export -------------------------------------------------------------------------------------


def export(
    folder: str | os.PathLike, config: Any, arrays: dict[str, np.ndarray], tokenizer: Any = None
) -> None:
    """Write a model of `config`, a GPTConfig, with the parameters `arrays`, and its tokenizer."""
    family, written = family_of(config)
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, but the model knows vocab_size = "
            f"{config.vocab_size:,}"
        )
    tensors = {}
    for theirs, part in parts(family.tensors, arrays, config).items():
        if not np.isfinite(part).all():
            raise ValueError(f"{theirs} holds a NaN or an infinity; nothing was written")
        tensors[family.full_name(theirs)] = part
    dtype = str(arrays["wte.weight"].dtype)

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / "model.safetensors", tensors, {"format": "pt"})
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    tokenizer_json.write(folder / "config.json", written | tokens | {"torch_dtype": dtype})
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer.json")
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
        tokenizer_json.write(folder / "tokenizer_config.json", settings)
