"""Arrays and settings to a folder and back: a crash at any instant leaves a checkpoint that loads.

    model-2000.safetensors        one file of arrays per group: any group, any arrays
    optimizer-2000.safetensors
    checkpoint.json               names those files with their sha256, and holds the step and `meta`

A save never writes to a file that the present checkpoint uses. New files are written first, under
new names; then one rename puts a new checkpoint.json in the place of the old one, and that instant
is the save; then the old files go. Before it the old checkpoint loads, after it the new one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import operator
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from . import safetensors

FORMAT = 1
GROUP = "[a-z0-9_]+"
MAX_JSON = 100_000_000  # bytes

# ---- save ---------------------------------------------------------------------------------------


def save(
    folder: str | os.PathLike,
    step: int,
    arrays: dict[str, dict[str, np.ndarray]],
    meta: dict[str, Any],
) -> None:
    """Make `arrays`, `meta` and `step` the checkpoint in `folder`, in place of any that was there.

    arrays: {group: {name: array}}, groups named in lower-case letters, digits and underscores.
    meta: anything JSON can hold; it comes back from `load` as JSON gives it (tuples as lists).

    When this returns, the checkpoint is on disk. In `folder`, names such as model-2000.safetensors
    (for each group) are ours, and those that checkpoint.json does not name are removed; no other
    file is touched. One process at a time may save to a folder; any number may load.

    ValueError, before anything is written, for an array with a NaN or an infinity (it is named), a
    dtype that safetensors does not have, or a `meta` that is not JSON. OSError where the disk is
    full or the folder cannot be written. After an error the last good checkpoint is still there.
    """
    folder = Path(folder)
    step = operator.index(step)
    if step < 0:
        raise ValueError(f"step must be 0 or more, not {step}")
    meta = _as_json(meta)
    chunks = {}
    for group, named in arrays.items():
        if not re.fullmatch(GROUP, group):
            raise ValueError(f"a group is named in a-z, 0-9 and _ only, not {group!r}")
        chunks[group] = safetensors.serialize(named)
        _check_finite(group, named)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        groups = {*arrays, *(_saved_files(folder) or {})}
        _remove_leftovers(folder, groups)  # of a save that was killed; first, for their disk space
        try:
            files = {}
            for group in arrays:
                files[group] = _write(_new_file(folder, group, step), chunks[group])
            contents = {"format": FORMAT, "step": step, "files": files, "meta": meta}
            contents["sha256"] = _digest(contents)
            temporary = folder / "checkpoint.json.tmp"
            temporary.unlink(missing_ok=True)
            _write(temporary, [json.dumps(contents, indent=2, allow_nan=False).encode()])

            _sync(folder)  # the new names are on disk before anything relies on them ...
            os.replace(temporary, folder / "checkpoint.json")
            _sync(folder)  # ... and the rename is, before the old files go
        finally:
            _remove_leftovers(folder, groups)  # the old files; after an error, the new ones
    except OSError as error:
        raise OSError(
            error.errno,
            f"saving step {step} in {folder} failed: {error.strerror or error}; "
            "the last good checkpoint, if there was one, is intact",
        ) from error


def _as_json(meta: dict[str, Any]) -> dict[str, Any]:
    """`meta` as it will come back. Strict: no NaN, no infinity, no two keys spelt alike in JSON."""
    if not isinstance(meta, dict):
        raise TypeError(f"meta must be a dict, not {type(meta).__name__}")
    try:
        return safetensors.strict_json(json.dumps(meta, indent=2, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"meta cannot be saved as JSON: {error}") from error


def _check_finite(group: str, arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(
                f"array {name!r} of group {group!r} holds a NaN or an infinity; nothing was saved"
            )


def _new_file(folder: Path, group: str, step: int) -> Path:
    """A name that is not taken: a step may be saved twice."""
    for n in itertools.count(1):
        again = "" if n == 1 else f".{n}"
        file = folder / f"{group}-{step}{again}.safetensors"
        if not os.path.lexists(file):
            return file
    raise AssertionError


def _write(file: Path, chunks: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write a new file through to the disk, and say what checkpoint.json must know of it."""
    import hashlib

    digest = hashlib.sha256()
    size = 0
    with open(file, "xb") as stream:
        for chunk in chunks:
            stream.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    return {"name": file.name, "sha256": digest.hexdigest(), "bytes": size}


def _sync(folder: Path) -> None:
    """Make sure that the names in a folder are on disk (Windows has no such call)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _saved_files(folder: Path) -> dict[str, str] | None:
    """{group: name of its file} in checkpoint.json as it now is on disk; None if it is damaged."""
    if not os.path.lexists(folder / "checkpoint.json"):
        return {}
    try:
        files = _parse(folder, _read_json(folder))["files"]
    except ValueError:
        return None
    return {group: file["name"] for group, file in files.items()}


def _remove_leftovers(folder: Path, groups: Iterable[str]) -> None:
    """Remove what saves of these groups have written and checkpoint.json does not name.

    Where checkpoint.json is damaged, nothing goes: someone may still want to repair it.
    """
    saved = _saved_files(folder)
    if saved is None:
        return
    for path in folder.iterdir():
        ours = any(_is_name(path.name, group) for group in groups)
        if path.name == "checkpoint.json.tmp" or (ours and path.name not in saved.values()):
            with contextlib.suppress(OSError):  # in use, on Windows: the next save tries again
                path.unlink()


def _is_name(name: str, group: str) -> bool:
    return bool(re.fullmatch(rf"{group}-[0-9]+(\.[0-9]+)?\.safetensors", name))


# ---- load ---------------------------------------------------------------------------------------


def load(
    folder: str | os.PathLike, groups: Iterable[str] | None = None
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any], int]:
    """-> (arrays, meta, step), as they were given to `save`. The arrays may be written to.

    groups: which groups of arrays to read (default: all). The files of the others are not opened.

    ValueError, naming the file, for whatever is missing, damaged, or written by a newer tinygpt.
    """
    folder = Path(folder)
    wanted = None if groups is None else list(groups)  # a generator could not be read twice
    while True:
        text = _read_json(folder)
        try:
            contents = _parse(folder, text)
            files = contents["files"]
            names = files if wanted is None else wanted
            arrays = {group: _read(folder, group, files) for group in names}
            return arrays, contents["meta"], contents["step"]
        except ValueError:
            if _read_json(folder) == text:
                raise
            # A run saved meanwhile, and took away the files we were reading: read what it saved.


def _read_json(folder: Path) -> bytes:
    path = folder / "checkpoint.json"
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder, so there is no checkpoint in it")
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"{path} is damaged: it is larger than {MAX_JSON:,} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint in {folder}: {path} is missing") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _parse(folder: Path, text: bytes) -> dict[str, Any]:
    """The contents of checkpoint.json, checked down to what `load` and `save` rely on."""
    path = folder / "checkpoint.json"
    try:
        contents = safetensors.strict_json(text)
        version = contents.get("format") if isinstance(contents, dict) else None
        if type(version) is not int or version < 1:
            raise ValueError("it does not say which format it has")
        if version > FORMAT:
            raise ValueError(
                f"it has format {version}, and this version of tinygpt reads up to {FORMAT}; "
                "a newer tinygpt will read it"
            )
        if contents.pop("sha256", None) != _digest(contents):
            raise ValueError("its contents do not match their sha256; it was damaged or edited")
        if set(contents) != {"format", "step", "files", "meta"}:
            raise ValueError("it should hold format, step, files, meta and sha256")
        if type(contents["step"]) is not int or not isinstance(contents["meta"], dict):
            raise ValueError("its step is not a whole number or its meta not a table")
        if not isinstance(contents["files"], dict):
            raise ValueError("its files are not a table")
        for group, file in contents["files"].items():
            _check_file(group, file)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None
    return contents


def _check_file(group: str, file: Any) -> None:
    if not isinstance(file, dict) or set(file) != {"name", "sha256", "bytes"}:
        raise ValueError(f"the file of group {group!r} is not described by name, sha256 and bytes")
    name, sha256, size = file["name"], file["sha256"], file["bytes"]
    if not re.fullmatch(GROUP, group) or not isinstance(name, str) or not _is_name(name, group):
        raise ValueError(f"group {group!r} cannot be in a file named {name!r}")
    if not isinstance(sha256, str) or type(size) is not int:
        raise ValueError(f"group {group!r} has an impossible sha256 or size")


def _read(folder: Path, group: str, files: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of one group. Read, not mapped: the bytes hashed are the bytes then used."""
    import hashlib

    if group not in files:
        there = ", ".join(files) or "none"
        raise ValueError(f"{folder / 'checkpoint.json'} has no group {group!r}; it has {there}")
    path = folder / files[group]["name"]
    expected = files[group]["bytes"]
    try:
        size = path.stat().st_size
        if size != expected:
            raise ValueError(f"{path} is damaged: it has {size:,} bytes instead of {expected:,}")
        raw = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing, although checkpoint.json names it") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(raw.data).hexdigest() != files[group]["sha256"]:
        raise ValueError(f"{path} is damaged: its sha256 is not the one in checkpoint.json")
    return safetensors.deserialize(raw, path)


def _digest(contents: dict[str, Any]) -> str:
    """The sha256 of JSON data, whatever its spacing."""
    import hashlib

    try:
        text = json.dumps(contents, allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return hashlib.sha256(text.encode()).hexdigest()
