"""Read and write safetensors, the file format in which the field keeps its weights.

    8 bytes   n, the length of the header, little-endian
    n bytes   the header: {"wte": {"dtype": "F32", "shape": [65, 128], "data_offsets": [0, 33280]},
                           "wpe": {"dtype": "F32", "shape": [64, 128], "data_offsets": [33280, ...
    the rest  the arrays' bytes, little-endian, in C order, without gaps; offsets count from here

Besides arrays the header may hold "__metadata__", a table of strings. Nothing in a file is
executed, and nothing it says is believed unchecked: what is not exactly the above is a ValueError.
Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: read as bits, handed out as float32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}

MAX_HEADER = 100_000_000  # bytes; the reference implementation's limit
MAX_DIMENSIONS = 64  # NumPy's limit
BLOCK = 1 << 22  # bytes that a Reader takes from disk at once

# ---- write --------------------------------------------------------------------------------------


def save(
    file: str | os.PathLike,
    arrays: dict[str, np.ndarray],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write arrays to `file`, under their names.

    The same arrays in the same order give the same bytes. The file appears complete and on disk, or
    not at all: an older one of its name is replaced in one step, so arrays that `load` mapped from
    it stay valid. (Windows does not replace a mapped file; let go of its arrays first.)

    Errors as `serialize`; OSError where the file cannot be written.
    """
    file = Path(file)
    chunks = serialize(arrays, metadata)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def serialize(
    arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file: its header, then one piece per array.

    Wide items come first, so that every array starts at a multiple of its item's size. All is
    checked before this returns: TypeError for what is not a NumPy array or not a string,
    ValueError for a dtype that the format does not have.
    """
    header: dict[str, Any] = {}
    if metadata is not None:
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError(f"metadata must map strings to strings, not {key!r} to {value!r}")
        header["__metadata__"] = metadata

    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise TypeError(
                f"expected names and NumPy arrays, got {name!r}: {type(array).__name__}; "
                "tinygpt.backend.to_numpy brings an array from a GPU"
            )
        if name == "__metadata__":
            raise ValueError("an array cannot be named '__metadata__'; the format uses that name")
        if _little_endian(array) not in NAMES:
            raise ValueError(
                f"array {name!r} has dtype {array.dtype}, which safetensors does not have; "
                f"convert it to one of {', '.join(map(str, NAMES))}"
            )
        header[name] = {"dtype": NAMES[_little_endian(array)], "shape": list(array.shape)}

    # The sort is stable: ties keep their order.
    in_file = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    begin = 0
    for name in in_file:
        end = begin + arrays[name].nbytes
        header[name]["data_offsets"] = [begin, end]
        begin = end

    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays start at a multiple of 8
    prefix = len(text).to_bytes(8, "little")
    return itertools.chain([prefix + text], (_to_bytes(arrays[name]) for name in in_file))


def _little_endian(array: np.ndarray) -> np.dtype:
    return array.dtype.newbyteorder("<")


def _to_bytes(array: np.ndarray) -> memoryview:
    """An array's bytes as the file wants them (copied only where they lie differently)."""
    return np.ascontiguousarray(array, _little_endian(array)).reshape(-1).view(np.uint8).data


# ---- read ---------------------------------------------------------------------------------------


def load(file: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays in `file`, by name, in the header's order.

    The file is mapped, not read: its pages come from disk when they are looked at. Writing to an
    array changes the array, never the file. bfloat16 arrays are widened to float32, exactly, and
    are copies.

    ValueError, naming the file, for whatever is not a well-formed safetensors file.
    """
    return deserialize(_map(file), file)


def load_metadata(file: str | os.PathLike) -> dict[str, str]:
    """The strings stored beside the arrays of `file`, or an empty table. Errors as `load`."""
    metadata, _, _ = _read_header(_map(file), file)
    return metadata


def deserialize(raw: np.ndarray, file: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays in `raw`, all bytes of a safetensors file as uint8 (n,): views where possible.

    `file` names it in errors, which are those of `load`.
    """
    _, entries, data = _read_header(raw, file)
    arrays = {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        arrays[name] = _from_bytes(data[begin:end], entry["dtype"]).reshape(entry["shape"])
    return arrays


class Reader:
    """A safetensors file whose arrays are read block by block, into memory that is there already.

    Pages of a mapped file count as memory beside the copy that is made of them. A Reader needs
    little more than BLOCK bytes, however large the file.

    arrays: {name: (dtype as the format calls it, shape)}, in the header's order.

    ValueError, naming the file, for whatever is not a well-formed safetensors file.
    """

    def __init__(self, file: str | os.PathLike):
        raw = _map(file)  # of which only the header is looked at
        _, header, data = _read_header(raw, file)
        self.file = file
        self.arrays = {name: (e["dtype"], tuple(e["shape"])) for name, e in header.items()}
        self._begins = {
            name: len(raw) - len(data) + e["data_offsets"][0] for name, e in header.items()
        }

    def blocks(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """An array in pieces along its first axis: (which rows, the rows). bfloat16 is widened.

        A piece is good until the next one is asked for.
        """
        with open(self.file, "rb") as stream:
            stream.seek(self._begins[name])
            try:
                yield from read_blocks(stream, *self.arrays[name])
            except EOFError as error:
                raise ValueError(f"{os.fspath(self.file)}: array {name!r} {error}") from None

    def read(self, name: str, target: np.ndarray) -> None:
        """Copy the array `name` into `target`, an array or view of its shape."""
        for rows, block in self.blocks(name):
            target[rows] = block


def read_blocks(
    stream: BinaryIO, dtype: str, shape: tuple[int, ...]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read an array of `dtype`, as the format calls it, about BLOCK bytes at a time.

    Yields (rows of its first axis, those rows); EOFError where the stream ends early.
    """
    if math.prod(shape) == 0:
        return
    n, *rest = shape or (1,)
    row = math.prod(rest) * DTYPES[dtype].itemsize  # bytes
    step = max(1, BLOCK // row)  # rows in a block
    buffer = np.empty(min(step, n) * row, np.uint8)
    for first in range(0, n, step):
        rows = slice(first, min(first + step, n))
        data = buffer[: (rows.stop - first) * row]
        if stream.readinto(data.data) != len(data):  # type: ignore[attr-defined]
            raise EOFError("ends too early: the file was cut while it was read")
        yield rows, _from_bytes(data, dtype).reshape(-1, *rest)


def strict_json(text: bytes) -> Any:
    """Parse UTF-8 JSON, refusing what Python's parser lets through: a repeated key, NaN, Infinity.

    Whatever is wrong is a ValueError.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = {}
        for key, value in pairs:
            if key in table:
                raise ValueError(f"the key {key!r} appears twice")
            table[key] = value
        return table

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _map(file: str | os.PathLike) -> np.ndarray:
    """All bytes of a file, uint8 (n,). Copy-on-write: writing here does not reach the file."""
    if os.path.getsize(file) == 0:  # which cannot be mapped
        return np.zeros(0, np.uint8)
    return np.memmap(file, np.uint8, mode="c").view(np.ndarray)


def _from_bytes(data: np.ndarray, name: str) -> np.ndarray:
    """uint8 (bytes,) -> (items,) of the dtype that the format calls `name`."""
    if name == "BOOL":
        return data != 0  # any other byte than 0 and 1 would make a strange boolean
    items = data.view(DTYPES[name])
    if name == "BF16":
        return (items.astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32
    return items if items.flags.aligned else items.copy()


def _read_header(
    raw: np.ndarray, file: str | os.PathLike
) -> tuple[dict[str, str], dict[str, dict[str, Any]], np.ndarray]:
    """Take a file apart into metadata, header entries and the arrays' bytes, and check all of it.

    Everything is checked against the number of bytes that are there, before any array is made.
    """
    try:
        header, data = _split_header(raw)
        metadata = header.pop("__metadata__", {})
        _check_metadata(metadata)
        for name, entry in header.items():
            _check_entry(name, entry)
        _check_layout(header, len(data))
    except ValueError as error:
        raise ValueError(f"{os.fspath(file)} is not a sound safetensors file: {error}") from None
    return metadata, header, data


def _split_header(raw: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    if len(raw) < 8:
        raise ValueError(f"it has {len(raw)} bytes, and 8 are needed for the header's length alone")
    n = int.from_bytes(raw[:8].tobytes(), "little")
    if n > len(raw) - 8:
        raise ValueError(f"its header should be {n:,} bytes long, but {len(raw) - 8:,} follow")
    if n > MAX_HEADER:
        raise ValueError(f"its header is {n:,} bytes long, more than the {MAX_HEADER:,} allowed")
    text = raw[8 : 8 + n].tobytes()
    if not text.startswith(b"{"):
        raise ValueError(f"its header should start with '{{', not {text[:1]!r}")
    try:
        header = strict_json(text)
    except ValueError as error:
        raise ValueError(f"its header is not valid JSON ({error})") from None
    return header, raw[8 + n :]


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its __metadata__ is not a table of strings")


def _check_entry(name: str, entry: Any) -> None:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"array {name!r} is not described by dtype, shape and data_offsets")

    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"array {name!r} has dtype {dtype!r}; readable are {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"array {name!r} has an impossible shape")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"array {name!r} has impossible data_offsets")

    # Zeros left out: NumPy refuses a shape such as (0, 2**40, 2**40) although it holds nothing.
    if math.prod(size for size in shape if size) * DTYPES[dtype].itemsize >= 2**63:
        raise ValueError(f"array {name!r} has an impossible shape, {shape}")
    needed, there = math.prod(shape) * DTYPES[dtype].itemsize, offsets[1] - offsets[0]
    if needed != there:
        raise ValueError(
            f"array {name!r} has {there:,} bytes, but {dtype} with shape {shape} needs {needed:,}"
        )


def _are_sizes(numbers: Any) -> bool:
    # type() is int: True is an int to isinstance
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)


def _check_layout(header: dict[str, dict[str, Any]], size: int) -> None:
    """The arrays must lie end to end, from the first byte to the last: no gap, no overlap."""
    expected = 0
    for (begin, end), name in sorted((header[name]["data_offsets"], name) for name in header):
        if begin != expected:
            kind = "overlaps the array before it" if begin < expected else "leaves a gap before it"
            raise ValueError(f"array {name!r} {kind}: it starts at {begin:,}, not {expected:,}")
        expected = end
    if expected != size:
        raise ValueError(f"its arrays take {expected:,} bytes, but {size:,} follow the header")
