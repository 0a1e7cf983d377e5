"""Where kernels are tested: on the CPU, by g++, and on a GPU where there is one."""

import contextlib
import shutil
import warnings

import pytest
from emulation import EMULATED, build, emulated, name_of, no_waiting, to_gpu

from tinygpt import backend


@pytest.fixture(scope="session")
def build_folder(pytestconfig):
    """Where compiled kernels are kept, under names that say what they were compiled from."""
    if shutil.which("g++") is None:
        pytest.skip("runs kernels on the CPU, by g++, which is not installed")
    return pytestconfig.cache.mkdir("kernels")


@pytest.fixture(scope="session")
def library(build_folder):
    """All kernels, compiled for the CPU."""
    return build({name_of(program): program.source() for program in EMULATED}, build_folder)


class Emulator:
    """The stand-in for a GPU: threads may run in several orders."""

    emulated, orders = True, (0, 1, 2, 3)

    def __init__(self, library):
        self.library = library

    def array(self, x, dtype=None):
        return to_gpu(x, dtype)

    def running(self, order=0):
        return emulated(lambda program: (self.library, name_of(program)), order)

    def not_waiting(self):
        return no_waiting()


class GPU:
    """A real one, in whatever order it takes."""

    emulated, orders = False, (0,)

    def array(self, x, dtype=None):
        return backend.cupy().asarray(x, dtype)

    def running(self, order=0):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def not_waiting(self):
        import cupyx

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it does not notice everything
            with cupyx.allow_synchronize(False):
                yield


@pytest.fixture
def emulator(library):
    return Emulator(library)


@pytest.fixture(params=["emulator", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "emulator":
        return request.getfixturevalue("emulator")
    try:
        backend.cupy()
    except RuntimeError as error:
        pytest.skip(str(error))
    return GPU()


@pytest.fixture
def cuda(device, monkeypatch):
    """The device "cuda" is the one that `device` stands for."""
    if device.emulated:
        stand_in = type("cupy", (), {"asarray": staticmethod(device.array)})
        monkeypatch.setattr(backend, "cupy", lambda: stand_in)
    return device
