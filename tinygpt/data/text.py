"""Read a text file, or say what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path


def read_text(path: str | os.PathLike) -> str:
    r"""The text of a UTF-8 file.

    Every line ends in "\n", whichever system wrote the file ("\r\n" and "\r" are read as "\n", as
    Python's `open` does), so that one text gives the same tokens everywhere. A byte order mark is
    not part of the text and is left out.

    ValueError where there is no such file, it is a folder, it is empty, or it is not UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a text file")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no file {path} (looked from {Path.cwd()})") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error

    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not UTF-8 text: byte 0x{raw[error.start]:02x} at offset {error.start:,} "
            f"(line {line:,}) cannot be decoded; save the file as UTF-8 and try again"
        ) from None

    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise ValueError(f"{path} is empty; there is nothing to learn from it")
    return text
