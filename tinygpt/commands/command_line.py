"""What our command lines share: whatever is typed wrong gets a sentence, and the nearest word."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, where options are written in full and a mistyped word is told the nearest one."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            kind = "option" if word.startswith("-") else "argument"
            options = self._option_string_actions
            self.error(f"unknown {kind} {word}; {_nearest(word, options, '--help lists all')}")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[0] if action.option_strings else "command"
            there = f"there are {', '.join(action.choices)}"
            self.error(f"unknown {name} {value}; {_nearest(value, action.choices, there)}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")  # without pages of usage before it


def _nearest(word: str, known: Iterable[str], all_of_them: str) -> str:
    found = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {found[0]}? ({all_of_them})" if found else all_of_them


def positive(kind: type) -> Callable[[str], Any]:
    """A reader of numbers above 0, of this kind, for argparse."""
    return _reader(kind, lambda value: 0 < value < math.inf, "above 0")


def natural(word: str) -> int:
    """A reader of whole numbers from 0 up, for argparse."""
    return _reader(int, lambda value: value >= 0, "from 0 up")(word)


def _reader(kind: type, allowed: Callable[[Any], bool], where: str) -> Callable[[str], Any]:
    wanted = f"a {'whole ' if kind is int else ''}number {where}"

    def read(word: str) -> Any:
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not allowed(value):
            raise argparse.ArgumentTypeError(f"{word} is not {wanted}")
        return value

    return read


def run(command: Callable[..., int | None], *arguments: Any) -> int:
    """Call command(*arguments); its exit status. Whatever fails is one sentence on stderr."""
    try:
        return command(*arguments) or 0
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
    except OSError as error:
        reason = error.strerror or str(error)
        sentence = reason if error.filename is None else f"{error.filename}: {reason}"
    except MemoryError as error:
        sentence = f"not enough memory: {error}"
    except (ValueError, RuntimeError) as error:
        sentence = str(error)
    print(f"error: {sentence}", file=sys.stderr)
    return 1
