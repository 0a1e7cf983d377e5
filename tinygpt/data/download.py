"""Find a file whose every byte is known, or download it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import backend

TIMEOUT = 5  # seconds until the first answer, and later without a byte
MIN_SPEED = 20_000  # bytes per second: a download that is slower on the whole is given up


class DownloadError(OSError):
    """A file is in none of the places where it was looked for, and could not be downloaded."""


def fetch(name: str, url: str, sha256: str, size: int, instead: str) -> Path:
    """The path of a file of `size` bytes with this sha256.

    Looked for as `name` in the folder TINYGPT_DATA, then in the cache, then downloaded from `url`
    into the cache, where it appears complete or not at all.

    ValueError where TINYGPT_DATA holds something else of that name. DownloadError where the file
    cannot be had: where it was looked for, what went wrong, what to do (`instead` is one more way).
    """
    folder = backend.data_folder()
    if folder is not None and (folder / name).exists():
        if not _is_as_expected(folder / name, sha256, size):
            raise ValueError(
                f"{folder / name} (TINYGPT_DATA) is not the file that was expected: {size:,} bytes "
                f"with sha256 {sha256[:8]}...; remove it, or {instead}"
            )
        return folder / name

    cache = backend.cache_folder()
    if _is_as_expected(cache / name, sha256, size):
        return cache / name

    try:
        _download(url, cache / name, sha256, size)
    except OSError as error:
        data = (
            "TINYGPT_DATA is not set" if folder is None else f"it is not in TINYGPT_DATA ({folder})"
        )
        damaged = "is damaged" if (cache / name).exists() else "is not"
        raise DownloadError(
            f"{name} could not be found: {data}, it {damaged} in the cache ({cache}), and it could "
            f"not be downloaded from {url} ({error}); set TINYGPT_DATA to a folder that "
            f"holds it under the name {name}, or {instead}"
        ) from error
    return cache / name


def _is_as_expected(path: Path, sha256: str, size: int) -> bool:
    import hashlib

    if not path.is_file() or path.stat().st_size != size:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _download(url: str, path: Path, sha256: str, size: int) -> None:
    """Put what `url` gives at `path`, if it is what was expected. OSError with a reason if not."""
    import hashlib

    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise OSError(
            f"the cache cannot be written: {error.strerror}; TINYGPT_CACHE may name another folder"
        ) from error

    try:
        digest = hashlib.sha256()
        received = 0
        with open(temporary, "wb") as stream:
            for chunk in _chunks(url, deadline=time.monotonic() + TIMEOUT + size / MIN_SPEED):
                received += len(chunk)
                if received > size:
                    raise OSError(f"it is larger than the {size:,} bytes expected")
                digest.update(chunk)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        if received < size:
            raise OSError(f"it ended after {received:,} of {size:,} bytes")
        if digest.hexdigest() != sha256:
            raise OSError(f"its sha256 is {digest.hexdigest()[:8]}..., not {sha256[:8]}...")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _chunks(url: str, deadline: float) -> Iterator[bytes]:
    """The bytes behind an https address, as they come."""
    import http.client
    import urllib.error

    assert url.startswith("https://")
    try:
        with _open(url) as response:
            while chunk := response.read1(1 << 16):
                yield chunk
                if time.monotonic() > deadline:
                    raise TimeoutError("it came too slowly")
    except http.client.HTTPException as error:
        raise OSError(f"the answer was not HTTP: {error!r}") from error
    except urllib.error.URLError as error:
        raise OSError(str(error).removeprefix("<urlopen error ").removesuffix(">")) from error


def _open(url: str) -> Any:
    """urlopen, given up after TIMEOUT seconds in all.

    Its own timeout begins anew for each address of a name (eight that swallow everything: eight
    times as long), and does not count the search for the name. So it runs on a thread, which is
    left behind where it takes too long.
    """
    import threading
    import urllib.request
    from concurrent.futures import Future

    answer: Future = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=TIMEOUT))
        except Exception as error:
            answer.set_exception(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    if not answer.done():
        raise TimeoutError(f"no answer in {TIMEOUT} seconds")
    return answer.result()
