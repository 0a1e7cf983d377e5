"""Say what a model holds, what a token costs and how much memory training takes."""

from __future__ import annotations

import argparse

from .model_folder import open_weights


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a folder with a model, ours or of Hugging Face")


def run(options: argparse.Namespace) -> int:
    print(open_weights(options.model).card())
    return 0
