"""A GPT you can read to the bottom: NumPy, every backward pass by hand, and fast."""

__version__ = "0.1.0"
