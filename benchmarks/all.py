"""Every table of the benchmark page, in Markdown, with the machine, versions and commands.

    python benchmarks/all.py > page.md            # an hour or two on a quiet machine
    python benchmarks/all.py --quick              # a few rounds of each: does it work?
    python benchmarks/all.py --only dispatch scaling

Runs the scripts beside it, one after the other, and prints what they print. One that fails says so
in its place, and the others go on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PEERS = "--against torch torch-compiled"
# section: (title, script, options, options instead of them with --quick)
SECTIONS: dict[str, tuple[str, str, str, str]] = {
    "step": ("One training step", "train_step.py", PEERS, "--rounds 1 --steps 1"),
    "step-16": (
        "10.65M parameters, batch 16", "train_step.py",
        "--config shakespeare --rounds 5 --steps 2", "--config shakespeare --rounds 1 --steps 1",
    ),
    "step-64": (
        "10.65M parameters, batch 64", "train_step.py",
        "--config shakespeare --batch-size 64 --rounds 5 --steps 1", "",
    ),
    "step-dropout": (
        "10.65M parameters, batch 16, dropout 0.2", "train_step.py",
        "--config shakespeare --dropout 0.2 --rounds 5 --steps 2", "",
    ),
    "step-gpt2": (
        "GPT-2 124M, batch 2", "train_step.py", "--config gpt2 --rounds 5 --steps 1", "",
    ),
    "calls": ("Where the time of a step goes", "calls.py", "", "--steps 1"),
    "ops": ("Each op", "ops.py", "--rounds 20", "add relu2 --rounds 1"),
    "dispatch": ("Dispatch of one small op", "dispatch.py", "", "--rounds 20"),
    "scaling": ("How cost grows", "scaling.py", "", "--doublings 1 --rounds 1"),
    "generate": ("Generation", "generate.py", "", ""),
    "tokenizers": ("Tokenizers", "tokenizing.py", "", "--only encode --rounds 1"),
    "gpu": ("A step on a GPU, modelled", "gpu_model.py", "", ""),
    "loss": (
        "Time to a validation loss", "time_to_loss.py", "--seeds 0 1 2",
        "--turns 2 --steps 4 --torch-steps 4 --target 9",
    ),
}  # fmt: skip


def machine() -> str:
    """One line: processor, cores, Python, and the versions of what is compared."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux
    versions = [f"Python {platform.python_version()}"]
    for name in ("numpy", "torch", "transformers", "tokenizers", "tiktoken", "sentencepiece"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return f"{processor}, {os.cpu_count()} cores; {', '.join(versions)}"


def section(title: str, script: str, options: str) -> str:
    """What a script prints, under its command."""
    command = f"python benchmarks/{script} {options}".strip()
    if not (FOLDER / script).exists():
        return f"## {title}\n\n`{command}` is not there.\n"
    arguments = [sys.executable, str(FOLDER / script), *options.split()]
    result = subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8")
    printed = result.stdout.strip()
    if result.returncode:
        printed = f"failed: {(result.stderr.strip().splitlines() or ['no message'])[-1]}"
    return f"## {title}\n\n`{command}`\n\n{markdown(printed)}\n"


def markdown(printed: str) -> str:
    """Tables as they are, and what stands between them as blocks of text."""
    blocks = []
    for is_table, lines in itertools.groupby(printed.splitlines(), lambda x: x.startswith("|")):
        text = "\n".join(lines).strip("\n")
        if text:
            blocks.append(text if is_table else f"```\n{text}\n```")
    return "\n\n".join(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION",
                        help=", ".join(SECTIONS))  # fmt: skip
    options = parser.parse_args()
    print(f"# Benchmarks\n\n{machine()}\n", flush=True)
    for name, (title, script, full, quick) in SECTIONS.items():
        if options.only and name not in options.only:
            continue
        if options.quick and not quick and full:
            continue  # too long for a try
        print(section(title, script, quick if options.quick else full), flush=True)


if __name__ == "__main__":
    main()
