"""What the machine offers: devices, threads, folders."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tinygpt import backend
from tinygpt.backend import one_blas_thread, resolve_device, thread_map, to_device, to_numpy

# ---- devices ------------------------------------------------------------------------------------


def test_devices():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(ValueError, match='device must be "auto", "cpu" or "cuda", not \'gpu\''):
        resolve_device("gpu")


def test_cuda_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    assert resolve_device("auto") == "cpu"
    for use in (lambda: resolve_device("cuda"), lambda: to_device(np.ones(2), "cuda")):
        with pytest.raises(RuntimeError, match=r'-m pip install "tinygpt\[cuda12\]"'):
            use()


def test_arrays_on_the_cpu_stay_where_they_are():
    a = np.ones(3)
    assert to_numpy(a) is a
    assert to_device(a, "cpu") is a


def test_arrays_come_from_a_gpu():
    class OnGpu:
        def get(self):
            return np.arange(3)

    np.testing.assert_array_equal(to_numpy(OnGpu()), [0, 1, 2])


# ---- threads ------------------------------------------------------------------------------------


def test_thread_map():
    assert thread_map(lambda x: x * x, range(7)) == [0, 1, 4, 9, 16, 25, 36]
    assert thread_map(str, []) == []


def test_threads_run_at_once():
    """Each waits for the other, so on one thread this would never end."""
    meeting = threading.Barrier(2, timeout=10)
    if backend.threads() < 2:
        pytest.skip("one core: nothing runs at once")
    thread_map(lambda _: meeting.wait(), range(2))


def test_exceptions_come_out():
    with pytest.raises(ZeroDivisionError):
        thread_map(lambda x: 1 / x, [1, 0, 2])
    assert thread_map(abs, [-1]) == [1]  # and the pool goes on


def test_one_blas_thread():
    def counts():
        return {lib["num_threads"] for lib in backend._blas().info() if lib["user_api"] == "blas"}

    before = counts()
    with one_blas_thread():
        assert counts() == {1}
    assert counts() == before


def fresh(function):
    """A cached function as if it had never been called."""
    return function.__wrapped__


@pytest.mark.parametrize(("setting", "expected"), [("1", 1), ("7", 7)])
def test_threads_are_set_by_the_environment(setting, expected, monkeypatch):
    monkeypatch.setenv("TINYGPT_THREADS", setting)
    assert fresh(backend.threads)() == expected


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5", " "])
def test_a_bad_number_of_threads(setting, monkeypatch):
    monkeypatch.setenv("TINYGPT_THREADS", setting)
    with pytest.raises(ValueError, match=f"a whole number from 1 up, not {setting!r}"):
        fresh(backend.threads)()


def test_threads_by_default(monkeypatch):
    monkeypatch.delenv("TINYGPT_THREADS", raising=False)
    assert fresh(backend.threads)() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS and Windows
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert fresh(backend.threads)() == 5


# ---- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "setting", "calls"),
    [("linux", "", 4), ("linux", "0", 0), ("darwin", "", 0), ("win32", "", 0)],
)
def test_the_allocator_is_told_once_and_only_on_glibc(platform, setting, calls, monkeypatch):
    told = []

    class Library:
        def __init__(self, name):
            pass

        def mallopt(self, parameter, value):
            told.append((parameter, value))

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("ctypes.CDLL", Library)
    monkeypatch.setenv("TINYGPT_MALLOC", setting)
    fresh(backend.keep_freed_memory)()
    assert len(told) == calls


def test_another_c_library(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # musl has no mallopt
    fresh(backend.keep_freed_memory)()


# ---- folders ------------------------------------------------------------------------------------


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGPT_DATA", "")
    assert backend.data_folder() is None
    monkeypatch.setenv("TINYGPT_DATA", str(tmp_path))
    assert backend.data_folder() == tmp_path
    monkeypatch.setenv("TINYGPT_DATA", "~/data")
    assert backend.data_folder() == Path.home() / "data"


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", None, "~/.cache/tinygpt"),
        ("linux", "XDG_CACHE_HOME", "/somewhere/tinygpt"),
        ("darwin", None, "~/Library/Caches/tinygpt"),
        ("win32", "LOCALAPPDATA", "/somewhere/tinygpt"),
        ("linux", "TINYGPT_CACHE", "/somewhere"),
        ("win32", "TINYGPT_CACHE", "/somewhere"),
    ],
)
def test_cache_folder(platform, variable, expected, monkeypatch):
    for name in ("TINYGPT_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "/somewhere")
    monkeypatch.setattr(sys, "platform", platform)
    assert backend.cache_folder() == Path(expected).expanduser()
