"""fetch: TINYGPT_DATA, then the cache, then the network; and every way in which that goes wrong."""

import hashlib
import http.client
import io
import os
import threading
import urllib.error
import urllib.request

import pytest

from tinygpt import backend
from tinygpt.data import DownloadError, download, shakespeare

RAW = b"First Citizen:\n" * 20
URL = "https://example.org/play.txt"


def fetch():
    return download.fetch(
        "play.txt", URL, hashlib.sha256(RAW).hexdigest(), len(RAW), "train on something else"
    )


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGPT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TINYGPT_CACHE", str(tmp_path / "cache"))


class Network:
    """Stands in for urllib. `answer`: an exception, a body, or a function that opens a stream."""

    def __init__(self, monkeypatch, answer):
        self.answer, self.asked = answer, []
        monkeypatch.setattr(urllib.request, "urlopen", self.urlopen)

    def urlopen(self, url, timeout):
        self.asked.append((url, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else io.BytesIO(self.answer)


def put(folder, raw):
    folder.mkdir()
    (folder / "play.txt").write_bytes(raw)
    return folder / "play.txt"


def test_the_data_folder_comes_first(tmp_path, monkeypatch):
    network = Network(monkeypatch, RAW)
    put(tmp_path / "cache", RAW)
    assert fetch() == tmp_path / "cache" / "play.txt"
    put(tmp_path / "data", RAW)
    assert fetch() == tmp_path / "data" / "play.txt"
    assert network.asked == []


def test_download_once(tmp_path, monkeypatch):
    network = Network(monkeypatch, RAW)
    for _ in range(3):
        path = fetch()
        assert path == tmp_path / "cache" / "play.txt"
        assert path.read_bytes() == RAW
    assert network.asked == [(URL, download.TIMEOUT)]
    assert os.listdir(tmp_path / "cache") == ["play.txt"]


def test_without_a_data_folder(tmp_path, monkeypatch):
    Network(monkeypatch, RAW)
    monkeypatch.delenv("TINYGPT_DATA")
    assert fetch() == tmp_path / "cache" / "play.txt"


def test_a_damaged_file_in_the_cache_is_downloaded_again(tmp_path, monkeypatch):
    network = Network(monkeypatch, RAW)
    put(tmp_path / "cache", b"x" * len(RAW))
    assert fetch().read_bytes() == RAW
    assert len(network.asked) == 1


@pytest.mark.parametrize("raw", [RAW[:-1], RAW + b"\n", b"x" * len(RAW), b""])
def test_something_else_in_the_data_folder_is_an_error(tmp_path, monkeypatch, raw):
    Network(monkeypatch, RAW)
    path = put(tmp_path / "data", raw)
    with pytest.raises(ValueError, match="not the file that was expected: 300 bytes") as caught:
        fetch()
    assert str(path) in str(caught.value)
    assert "remove it, or train on something else" in str(caught.value)


class Drip(io.BytesIO):
    """A server that sends a byte now and then, which no socket timeout notices."""

    def read1(self, n):
        clock[0] += 5
        return super().read1(1)


class Broken(io.BytesIO):
    """A connection that is lost in the middle."""

    def read1(self, n):
        if self.tell():
            raise self.error
        return super().read1(100)


clock = [0.0]


def broken(error):
    def connect():
        stream = Broken(RAW)
        stream.error = error
        return stream

    return connect


FAILURES = {
    "wrong bytes": (RAW.replace(b"First", b"Worst"), "its sha256 is "),
    "too large": (RAW + b"x", "it is larger than the 300 bytes expected"),
    "much too large": (RAW * 100_000, "it is larger than the 300 bytes expected"),
    "truncated": (RAW[:200], "it ended after 200 of 300 bytes"),
    "empty": (b"", "it ended after 0 of 300 bytes"),
    "no network": (urllib.error.URLError(OSError(-2, "Name or service not known")), "not known"),
    "not found": (urllib.error.HTTPError(URL, 404, "Not Found", {}, None), "HTTP Error 404"),
    "timeout": (TimeoutError("timed out"), "timed out"),
    "timeout on the way": (broken(TimeoutError("timed out")), "timed out"),
    "connection lost": (broken(ConnectionResetError(104, "Connection reset")), "Connection reset"),
    "incomplete": (broken(http.client.IncompleteRead(b"")), "IncompleteRead"),
    "no HTTP": (http.client.BadStatusLine("SSH-2.0"), "SSH-2.0"),
    "slow": (lambda: Drip(RAW), "it came too slowly"),
}


@pytest.mark.parametrize(("answer", "reason"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("cached", [None, b"damaged"], ids=["nothing cached", "damaged cache"])
def test_a_failed_download_is_a_sentence(tmp_path, monkeypatch, answer, reason, cached):
    monkeypatch.setattr(download.time, "monotonic", lambda: clock[0])
    Network(monkeypatch, answer)
    if cached:
        put(tmp_path / "cache", cached)
    with pytest.raises(DownloadError) as caught:
        fetch()
    sentence = str(caught.value)
    assert reason in sentence
    assert "\n" not in sentence
    for place in (f"TINYGPT_DATA ({tmp_path / 'data'})", f"cache ({tmp_path / 'cache'})", URL):
        assert place in sentence
    assert ("is damaged in the cache" in sentence) == bool(cached)
    assert "set TINYGPT_DATA to a folder that holds it under the name play.txt" in sentence
    assert "or train on something else" in sentence
    # nothing half-done stays, and the old file is untouched
    assert os.listdir(tmp_path / "cache") == (["play.txt"] if cached else [])


def test_the_sentence_without_a_data_folder(monkeypatch):
    Network(monkeypatch, TimeoutError("timed out"))
    monkeypatch.delenv("TINYGPT_DATA")
    with pytest.raises(DownloadError, match="TINYGPT_DATA is not set, it is not in the cache"):
        fetch()


def test_no_more_is_read_than_needed(monkeypatch):
    """A server that never stops is left after one piece too many."""

    class Endless(io.BytesIO):
        pieces = 0

        def read1(self, n):
            self.pieces += 1
            return b"x" * n

    stream = Endless()
    Network(monkeypatch, lambda: stream)
    with pytest.raises(DownloadError, match="larger than"):
        fetch()
    assert stream.pieces == 1


def test_a_network_that_swallows_everything_is_given_up_soon(monkeypatch):
    """Neither the search for a name nor the connecting to many addresses has an end of its own."""
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    over = threading.Event()

    def wait():
        over.wait(60)
        raise TimeoutError("timed out")

    Network(monkeypatch, wait)
    with pytest.raises(DownloadError, match=r"no answer in 0\.05 seconds"):
        fetch()
    assert not over.is_set()
    over.set()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    Network(monkeypatch, RAW)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TINYGPT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        DownloadError, match="the cache cannot be written: Not a directory; TINYGPT_C"
    ):
        fetch()


def test_a_read_only_cache(tmp_path, monkeypatch):
    Network(monkeypatch, RAW)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(download.Path, "touch", refuse)  # chmod would not stop root
    with pytest.raises(DownloadError, match="the cache cannot be written: Permission denied"):
        fetch()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    Network(monkeypatch, RAW)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(DownloadError, match="No space left on device"):
        fetch()
    assert os.listdir(tmp_path / "cache") == []


def test_shakespeare_says_what_to_do(monkeypatch):
    Network(monkeypatch, TimeoutError("timed out"))
    with pytest.raises(DownloadError, match=r"tinyshakespeare\.txt.*timed out.*--text FILE"):
        shakespeare()


def test_shakespeare(monkeypatch):
    monkeypatch.undo()  # the folders of this machine
    places = [folder for folder in (backend.data_folder(), backend.cache_folder()) if folder]
    if not any((folder / "tinyshakespeare.txt").exists() for folder in places):
        pytest.skip("tinyshakespeare.txt is in neither TINYGPT_DATA nor the cache")
    text = shakespeare()
    assert len(text) == len(text.encode()) == 1_115_394
    assert len(set(text)) == 65
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n")
