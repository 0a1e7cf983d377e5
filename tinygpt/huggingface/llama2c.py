"""The .bin files of llama2.c: Llama's architecture in float32, weights one after the other.

A header of seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len), then
the tensors of ORDER, each for all layers before the next one begins. In the first format, version
0, a negative vocab_size says that there is a head of its own. Version 1 begins with "ak42" as a
number, then the version, the header, and a byte that says whether the head is the embedding; its
weights begin at byte 256. Karpathy 2023, github.com/karpathy/llama2.c, export.py.

Rope there turns neighbours, features 2i and 2i + 1 of a head; ours turns i and i + D/2.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..nn import Module, make_room
from ..safetensors import read_blocks
from .tensors import View, gate, key, query, same, turned, up, value

MAGIC = 0x616B3432


def neighbours(view: View) -> View:
    """The part that `view` gives, (heads D, C), in the order of llama2.c: (heads, D/2, 2, C)."""

    def reordered(w: np.ndarray, c: Any) -> np.ndarray:
        part = view(w, c).reshape(-1, 2, c.head_size // 2, c.n_embd)
        return part.transpose(0, 2, 1, 3)

    return reordered


ATTENTION: list[tuple[str, View]] = [
    ("h.{}.attn.c_attn", neighbours(query)),
    ("h.{}.attn.c_attn", neighbours(key)),
    ("h.{}.attn.c_attn", value),
    ("h.{}.attn.c_proj", turned),
]
MLP: list[tuple[str, View]] = [
    ("h.{}.mlp.c_fc", gate),
    ("h.{}.mlp.c_proj", turned),
    ("h.{}.mlp.c_fc", up),
]
LN_1, LN_2, LN_F = ("h.{}.ln_1", same), ("h.{}.ln_2", same), ("ln_f", same)
WTE, HEAD = ("wte", same), ("lm_head", same)
ANGLES = ("", same)  # cos and sin of every position, which we work out ourselves

ORDER: dict[int, list[tuple[str, View]]] = {
    0: [WTE, LN_1, *ATTENTION, LN_2, *MLP, LN_F, ANGLES, HEAD],
    1: [LN_1, LN_2, LN_F, WTE, *ATTENTION, *MLP, HEAD],
}


class Llama2c:
    """A .bin file, opened: options are for GPTConfig, the weights are still on disk.

    ValueError, naming the file, where it is none, or not of the length that its header asks for.
    """

    dtype = np.dtype("float32")

    def __init__(self, file: str | os.PathLike):
        self.file = Path(file)
        if not self.file.is_file():
            raise ValueError(f"there is no file {self.file}")
        with open(self.file, "rb") as stream:
            header = stream.read(256)
        if len(header) < 28:
            raise ValueError(f"{self.file}: {len(header)} bytes are no model of llama2.c")
        self.version, at = 0, 0
        if struct.unpack_from("<I", header)[0] == MAGIC:
            self.version, at = struct.unpack_from("<i", header, 4)[0], 8
        if self.version not in ORDER or (self.version == 1 and len(header) < 256):
            raise ValueError(
                f"{self.file} is of version {self.version}; supported: the float32 formats, "
                "0 and 1 (export.py --version 1)"
            )
        C, inner, L, H, G, V, T = struct.unpack_from("<7i", header, at)
        tied = bool(header[at + 28]) if self.version == 1 else V > 0
        self._start = 256 if self.version == 1 else 28
        if min(C, inner, L, H, G, abs(V), T) < 1 or (self.version == 1 and V < 0):
            raise ValueError(
                f"{self.file}: the header holds impossible sizes: {C, inner, L, H, G, V, T}"
            )
        self.options = {
            "vocab_size": abs(V), "block_size": T, "n_layer": L, "n_head": H, "n_embd": C,
            "n_kv_head": G, "n_inner": inner, "bias": False, "tie_weights": tied,
            "position": "rope", "norm": "rms_norm", "norm_eps": 1e-5, "activation": "swiglu",
        }  # fmt: skip
        kv = C // H * G
        layer = 2 * C + 2 * C * C + 2 * C * kv + 3 * C * inner
        numbers = L * layer + C + abs(V) * C * (1 if tied else 2)
        self._angles = T * (C // H) if self.version == 0 else 0
        self.size = numbers + self._angles
        expected = self._start + 4 * self.size
        found = self.file.stat().st_size
        if found != expected:
            raise ValueError(
                f"{self.file} has {found:,} bytes; going by the sizes in its header, expected "
                f"{expected:,}"
            )

    def load(self, model: Module, config: Any) -> None:
        """Fill a model of `config` that NoWeights made."""
        make_room(model)
        arrays = {name: p.data for name, p in model.named_parameters()}
        with open(self.file, "rb") as stream:
            stream.seek(self._start)
            for pattern, view in ORDER[self.version]:
                if pattern == ANGLES[0]:
                    stream.seek(4 * self._angles, os.SEEK_CUR)
                for layer in range(config.n_layer) if "{}" in pattern else (0,):
                    array = arrays.get(pattern.format(layer) + ".weight")
                    if array is not None:  # there is no head where it is tied
                        part = view(array, config)
                        for rows, block in read_blocks(stream, "F32", part.shape):
                            part[rows] = block
