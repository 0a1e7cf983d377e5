"""Draw what runs logged: losses, learning rate, gradient norm, speed."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PANELS = {  # what is drawn below the losses, from the top down
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens/s",
}
OVER = {"step": "steps", "elapsed_seconds": "seconds of training"}
NUMBERS = ("train_loss", "val_loss", *PANELS, *OVER)  # that every entry of a log has

VALIDATION: dict[str, Any] = {"marker": "."}  # how these lines look
TRAINING: dict[str, Any] = {"marker": ".", "linestyle": "--", "alpha": 0.5}
FLOOR: dict[str, Any] = {"linestyle": ":"}


@dataclass
class Run:
    """What a run logged: for each of NUMBERS a list, and the floor of its loss where it is known.

    The floor is what a perfect model would reach, in nats per token.
    """

    name: str
    numbers: dict[str, list[float]]
    floor: float | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", nargs="+", metavar="DIR", help="the folder of a run, with its log.jsonl")
    add("--out", metavar="FILE", help="default: loss.png in DIR, or runs.png here for several")


def run(options: argparse.Namespace) -> int:
    """Print a line per run, and save their picture."""
    folders = [Path(folder) for folder in options.folders]
    out = Path(options.out or (folders[0] / "loss.png" if len(folders) == 1 else "runs.png"))
    if not out.suffix:
        raise ValueError(f"--out {out} does not say which format; try {out}.png")
    runs = read_runs(folders)
    for each in runs:
        print(summary(each))
    try:
        draw(runs, out)
    except ImportError as error:
        raise RuntimeError(
            'a picture needs matplotlib; try: pip install "tinygpt[plot]", '
            'or from a clone: pip install -e ".[plot]"'
        ) from error
    print(f"picture: {out}")
    return 0


# ---- reading ------------------------------------------------------------------------------------


def read_log(file: Path) -> list[dict[str, Any]]:
    """The entries of a log.jsonl, without half a line at its end, as a killed run leaves it.

    ValueError, naming the line, for any other line that is not an entry.
    """
    entries = []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            entries.append(entry)
        elif number < len(lines) or line.endswith("\n"):
            raise ValueError(
                f"{file} is damaged: line {number} should be a JSON object, and is "
                f"{line.strip()[:40]!r}; without that line the rest can be read"
            )
    return entries


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders, under the folders' names; under their paths where names repeat.

    ValueError for a folder that is missing or has no log, and for a log without what is drawn.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [_read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def _read_run(folder: Path, name: str) -> Run:
    file = folder / "log.jsonl"
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder of a run")
    if not file.is_file():
        raise ValueError(f"{folder} is not the folder of a run: it has no log.jsonl")
    entries = read_log(file)
    if not entries:
        raise ValueError(f"{file} is empty: the run has not come to its first evaluation")
    for line, entry in enumerate(entries, 1):
        known = {"floor"} if entry.get("floor") is not None else set()
        for wanted in (*NUMBERS, *known):
            if type(entry.get(wanted)) not in (int, float):
                raise ValueError(
                    f"{file}, line {line}: {wanted} should be a number, not {entry.get(wanted)!r}"
                )
    numbers = {wanted: [entry[wanted] for entry in entries] for wanted in NUMBERS}
    return Run(name, numbers, entries[-1].get("floor"))


def summary(run: Run) -> str:
    """A line of text: how long the run was, how good and how fast."""
    numbers = run.numbers
    best = min(numbers["val_loss"], key=lambda loss: loss if math.isfinite(loss) else math.inf)
    tokens, before = 0.0, 0.0
    for rate, seconds in zip(numbers["tokens_per_second"], numbers["elapsed_seconds"], strict=True):
        tokens += rate * (seconds - before)
        before = seconds
    rate = tokens / before if before else 0.0
    return (
        f"{run.name}: {numbers['step'][-1]:,} steps, best val_loss {best:.4f}, "
        f"{before:.1f} seconds of training, {rate:,.0f} tokens/s"
    )


# ---- drawing ------------------------------------------------------------------------------------


def draw(runs: Sequence[Run], file: Path) -> None:
    """Save the picture of the runs; its suffix is its format. ImportError without matplotlib."""
    picture(runs).savefig(file, dpi=120)


def picture(runs: Sequence[Run]) -> Any:
    """The picture as a matplotlib Figure: a row per quantity, over steps and over seconds."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(11, 10), layout="constrained")
    grid = figure.subplots(
        1 + len(PANELS), len(OVER), sharex="col", sharey="row",
        gridspec_kw={"height_ratios": [3] + [1] * len(PANELS)},
    )  # fmt: skip
    for row, label in zip(grid, ("loss (nats per token)", *PANELS.values()), strict=True):
        row[0].set_ylabel(label)
        for axes in row:
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.6g}")

    for (over, label), (losses, *below) in zip(OVER.items(), grid.T, strict=True):
        for i, run in enumerate(runs):
            x, y, color = run.numbers[over], run.numbers, f"C{i}"
            losses.plot(x, y["train_loss"], color=color, **TRAINING)
            losses.plot(x, y["val_loss"], color=color, **VALIDATION)
            for axes, quantity in zip(below, PANELS, strict=True):
                axes.plot(x, y[quantity], ".-", color=color, linewidth=1)
        for floor in _floors(runs):
            losses.axhline(floor, color="black", **FLOOR)
        losses.set_xlim(left=0)
        losses.xaxis.set_major_formatter(lambda x, _: f"{x:,.6g}")
        below[-1].set_xlabel(label)
    for axes in grid[1:, 0]:
        axes.set_ylim(bottom=0)  # once all is drawn: it ends the search for the top
    figure.align_ylabels()
    _legend(figure, runs)
    return figure


def _floors(runs: Sequence[Run]) -> list[float]:
    return sorted({run.floor for run in runs if run.floor is not None})


def _legend(figure: Any, runs: Sequence[Run]) -> None:
    """Above the panels: the runs by their colours, then what the kinds of line are."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=f"C{i}") for i in range(len(runs))]
    labels = [_shortened(run.name) for run in runs]
    floors = [(f"floor, {floor:.4f}", FLOOR) for floor in _floors(runs)]
    for label, style in (("validation", VALIDATION), ("training", TRAINING), *floors):
        lines.append(Line2D([], [], color="black", **style))
        labels.append(label)

    columns = max(1, 120 // (8 + max(map(len, labels))))
    legend = figure.legend(
        lines, ["-"] * len(lines), loc="outside upper center", ncols=columns, frameon=False
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False)  # a folder may be named "$x" or "_x"


def _shortened(name: str) -> str:
    return name if len(name) <= 90 else f"{name[:44]}…{name[-45:]}"
