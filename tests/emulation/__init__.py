"""A GPU made of g++ and NumPy: kernels run as they are, on arrays of a type of their own."""

from .arrays import GPUArray, emulated, to_gpu
from .build import build

__all__ = ["GPUArray", "build", "emulated", "to_gpu"]
