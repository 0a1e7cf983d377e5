"""Compare recipes: train each from several seeds, and print what validation loss it ends at.

    python benchmarks/recipe.py "" "lr=0.03" "lr=0.03 warmup=20" --steps 300 --seeds 1 2 3

A recipe is what it changes in a preset of examples/train_shakespeare.py: NAME=VALUE pairs, of the
optimizer, the schedule, the batch or the model. The loss is that of the whole validation split at
the end of the planned steps; the time is that of a median step, so that evaluation and whatever
else the machine did now and then do not count.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import time
from typing import Any

from time_to_loss import script, training


def settings_of(recipe: str, preset: str) -> dict[str, Any]:
    """A preset with the changes "name=value name=value ..."; ValueError for a name unknown."""
    pairs = [word.partition("=") for word in recipe.split()]
    known = {*script.PRESETS["default"], *script.MODEL_FIELDS}
    for name, _, value in pairs:
        if name not in known:
            raise ValueError(f"a recipe has no {name}; there are {', '.join(sorted(known))}")
        if not value:
            raise ValueError(f"a recipe is NAME=VALUE NAME=VALUE ..., and {name} has no value")
    changes = {name: value for name, _, value in pairs}
    return script.fresh_settings({"preset": preset} | {k: _value(v) for k, v in changes.items()})


def _value(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


def train(settings: dict[str, Any], steps: int) -> tuple[float, float]:
    """-> validation loss after `steps` planned steps, seconds of a median step."""
    _, step, val_loss = training(settings | {"steps": steps})
    seconds = []
    for number in range(steps):
        before = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - before)
    return val_loss(), statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare recipes on tinyshakespeare.")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help='such as "lr=0.03 warmup=20"')
    parser.add_argument("--preset", default="default", choices=script.PRESETS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    try:
        recipes = {recipe: settings_of(recipe, options.preset) for recipe in options.recipes}
    except ValueError as error:
        parser.error(str(error))
    print(f"{options.preset}, {options.steps} steps, seeds {options.seeds}")
    print(f"{'loss':>7} {'spread':>7} {'ms/step':>8} {'seconds':>8}  changes", flush=True)
    for recipe, settings in recipes.items():
        losses, steps = [], []
        for seed in options.seeds:
            loss, seconds = train(settings | {"seed": seed}, options.steps)
            losses.append(loss)
            steps.append(seconds)
        step = statistics.median(steps)
        spread = max(losses) - min(losses)
        print(
            f"{statistics.mean(losses):7.4f} {spread:7.4f} {1e3 * step:8.1f} "
            f"{options.steps * step:8.1f}  {recipe or '(none)'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
