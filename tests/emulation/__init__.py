"""A GPU made of g++ and NumPy: kernels run as they are, on arrays of a type of their own."""

from .arrays import GPUArray, Recording, emulated, no_waiting, to_gpu
from .build import build
from .programs import EMULATED, PROGRAMS, name_of

__all__ = [
    "EMULATED",
    "PROGRAMS",
    "GPUArray",
    "Recording",
    "build",
    "emulated",
    "name_of",
    "no_waiting",
    "to_gpu",
]
