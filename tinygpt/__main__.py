"""python -m tinygpt COMMAND: see --help."""

from __future__ import annotations

import argparse
import sys

from .commands import generate, gradcheck, tokenizer


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygpt",
        description="A GPT you can read to the bottom.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (gradcheck, generate, tokenizer):
        name = module.__name__.rpartition(".")[2]
        summary = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    try:
        return options.run(options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
