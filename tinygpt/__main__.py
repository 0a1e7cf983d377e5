"""python -m tinygpt COMMAND: see --help."""

from __future__ import annotations

import sys

from .commands import card, command_line, generate, gradcheck, graph, perplexity, plot, tokenizer


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = command_line.Parser(
        prog="python -m tinygpt", description="A GPT you can read to the bottom."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (gradcheck, generate, perplexity, card, plot, graph, tokenizer):
        name = module.__name__.rpartition(".")[2]
        summary = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    return command_line.run(options.run, options)


if __name__ == "__main__":
    sys.exit(main())
