"""GPT: its configuration, its parts, the model."""

from .config import GPTConfig
from .model import GPT
from .rope_scaling import RopeScaling

__all__ = ["GPT", "GPTConfig", "RopeScaling"]
