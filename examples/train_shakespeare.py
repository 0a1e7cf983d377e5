"""Train a GPT on Shakespeare, or on any text.

    python examples/train_shakespeare.py                              # a minute on two cores
    python examples/train_shakespeare.py --preset nanogpt-cpu         # a published recipe
    python examples/train_shakespeare.py --text my.txt --out runs/mine
    python examples/train_shakespeare.py --text play                  # built in: needs no network
    python examples/train_shakespeare.py --resume runs/mine           # go on where it stopped
    python examples/train_shakespeare.py --n-layer 12 --memory        # how much it would need

A run writes into its folder: log.jsonl (a line per evaluation), checkpoint/ (its last state, from
which --resume goes on), best/ (the weights with the lowest validation loss), sample.txt, and
loss.png where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from tqdm import tqdm

from tinygpt import GPT, AdamW, GPTConfig, Muon, accumulate_gradients, checkpoint, data, evaluate
from tinygpt.backend import bring, resolve_device, threads, to_numpy
from tinygpt.commands import plot
from tinygpt.commands.command_line import Parser, natural, positive, run
from tinygpt.kernels import PRECISIONS, LossScale, precision
from tinygpt.memory import training_memory
from tinygpt.optim import Optimizer, warmup_cosine
from tinygpt.parallel import micro_batch_count
from tinygpt.recorded_step import RecordedStep
from tinygpt.tokenizers import BPE, Char, from_dict

# Found by a search: see benchmarks/README.md.
DEFAULT = {
    "optimizer": "muon", "lr": 0.015, "momentum": 0.9, "adamw_lr": 1e-2, "betas": (0.8, 0.95),
    "weight_decay": 0.0, "warmup": 10, "final_lr": 0.05, "clip": 1.0,
    "steps": 1100, "batch_size": 16, "eval_interval": 100,
    "n_layer": 2, "n_head": 2, "n_embd": 128, "block_size": 64, "bias": False,
    "tie_weights": False, "position": "rope", "norm": "rms_norm", "activation": "relu2",
    "qk_norm": True, "zero_init_residual": True,
}  # fmt: skip

NANOGPT = {
    "optimizer": "adamw", "lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1,
    "warmup": 100, "final_lr": 0.1, "clip": 1.0,
    "bias": False, "activation": "gelu",
}  # fmt: skip

# What a run is: the model, the optimizer, how long. Options on the command line change any of it.
# lr falls along half a cosine to final_lr * lr.
PRESETS: dict[str, dict[str, Any]] = {
    "default": DEFAULT,
    # What the default grows into, given the better part of an hour on two cores.
    "best": {
        **DEFAULT, "momentum": 0.95, "adamw_lr": 5e-3, "weight_decay": 0.1, "warmup": 30,
        "steps": 2300, "batch_size": 16, "eval_interval": 230,
        "n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 256, "dropout": 0.1,
    },
    # nanoGPT's two recipes for this text, for a CPU and for a GPU (Karpathy 2022,
    # github.com/karpathy/nanoGPT, README.md). Batches come in another order; all else is the same.
    "nanogpt-cpu": {
        **NANOGPT, "steps": 2000, "batch_size": 12, "eval_interval": 250,
        "n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "dropout": 0.0,
    },
    "nanogpt": {
        **NANOGPT, "steps": 5000, "batch_size": 64, "eval_interval": 250,
        "n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "dropout": 0.2,
    },
}  # fmt: skip

MODEL_FIELDS = [  # all but one that comes from the text, and one that is for loaded models
    field.name for field in fields(GPTConfig) if field.name not in ("vocab_size", "rope_scaling")
]
CHANGEABLE = {"steps", "eval_interval", "save_interval", "text"}  # when a run goes on
GPU_TOKENS = 1 << 16  # at a time on a GPU; on a CPU, parallel.py says how many
READ_EVERY = 10  # steps, after which a GPU's losses are looked at
BAD_STEPS = 10  # in a row with a loss or gradient that is not finite: then a run gives up


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    elapsed_seconds: float = 0.0  # of training, without evaluation
    best_val_loss: float | None = None
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    new_steps: int = 0  # since the last evaluation, as the next two
    new_loss: float = 0.0  # summed over them
    new_seconds: float = 0.0


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # every step is checked below
def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    device = resolve_device(options.get("device", "auto"))
    if device == "cpu" and options.get("precision", "float32") != "float32":
        raise ValueError(f"--precision {options['precision']} needs a GPU; this run is on the CPU")
    resuming = "resume" in options
    if resuming:
        out = Path(options["resume"])
        arrays, meta = load_run(out)
        settings = changed(meta["settings"], options)
        progress = Progress(**meta["progress"])
    else:
        settings = fresh_settings(options)
        out = new_folder(options.get("out"), options.get("preset", "default"))
        progress = Progress()
        GPTConfig(**model_options(settings))  # what cannot work is said before anything is read

    # Text into tokens.
    settings["text"], text = read_corpus(settings["text"])
    if resuming:
        tokenizer = from_dict(meta["tokenizer"], source=str(out))
        check_same_run(meta, text, settings, out)
    elif settings["tokenizer"] == "bpe":
        tokenizer = BPE.train(data.split(text)[0], settings["vocab_size"])
    else:
        tokenizer = Char.train(text)
    train_tokens, val_tokens = data.split(tokenizer.encode_array(text))

    # The model and what trains it.
    config = GPTConfig(vocab_size=tokenizer.vocab_size, **model_options(settings))
    B, T, steps = settings["batch_size"], config.block_size, settings["steps"]
    needed = memory_needed(config, B, text)
    if "memory" in options:
        say_memory(needed)
        return
    model = GPT(config, rng=settings["seed"], device=device)
    optimizer = make_optimizer(model, settings)
    loader = data.Loader(train_tokens, T, B, seed=settings["seed"])
    val_ids, val_targets = data.windows(val_tokens, T)
    val_bytes = len(tokenizer.decode_bytes(val_tokens[1:]))
    bytes_per_token = val_bytes / (len(val_tokens) - 1)
    floor = None  # the least nats per token of val_loss, where it is known
    if settings["text"] == "play":  # a byte is a character
        floor = float(data.play_nats(text)[-val_bytes:].mean()) * bytes_per_token
    if resuming:
        model.load_state_dict(arrays["model"])
        optimizer.load_state_dict({**arrays["optimizer"], **meta["optimizer"]})
        loader.load_state_dict(meta["loader"])

    stop = StopOnSignal()
    n_parameters = sum(p.size for p in model.parameters())
    where = f"{threads()} threads" if device == "cpu" else "the GPU"
    say(f"{n_parameters:,} parameters, {steps:,} steps of {B} x {T} tokens on {where}, into {out}")
    if device == "cpu":
        say(f"{sum(needed.values()) / 1e6:,.0f} MB of memory at the peak (--memory says for what)")

    rounding = settings.get("precision", "float32")
    loss_scale = None
    if rounding == "float16":
        state = {"state": meta["loss_scale"]} if resuming else {}
        loss_scale = LossScale(optimizer.data, **state)

    recorded = None
    if "graph" in options:
        if B * T > GPU_TOKENS:
            raise ValueError(f"--graph is for at most {GPU_TOKENS:,} tokens in a batch")
        recorded = RecordedStep(model, optimizer, settings["clip"], loss_scale)

    def pieces(ids: np.ndarray) -> int | None:
        """Into how many a batch is cut (None: as a CPU wants it)."""
        return None if device == "cpu" else -(-ids.size // GPU_TOKENS)

    def save() -> None:
        state = optimizer.state_dict()
        numbers = {k: v for k, v in state.items() if isinstance(v, int)}
        moments = {k: to_numpy(v) for k, v in state.items() if k not in numbers}
        meta = {
            "config": asdict(config),
            "tokenizer": tokenizer.to_dict(),
            "settings": settings,
            "progress": asdict(progress),
            "loader": loader.state_dict(),
            "optimizer": numbers,
            "text_sha256": sha256(text),
            "cut": [threads(), micro_batch_count(B, T)],
        }
        if loss_scale is not None:
            meta["loss_scale"] = to_numpy(loss_scale.state).tolist()
        groups = {"model": model.state_dict(), "optimizer": moments}
        checkpoint.save(out / "checkpoint", progress.step, groups, meta)

    if not resuming:
        save()  # from here on, whatever happens, there is something to go on from
    log = out / "log.jsonl"
    forget_after(progress.step, log)
    started = time.monotonic()
    readings = Readings()
    loss = norm = math.nan

    def look(everything: bool) -> bool:
        """Take in the losses and norms that have come, or wait for all; is the last one finite?"""
        nonlocal loss, norm
        good = True
        for step, loss, norm in readings.read(everything):
            good = math.isfinite(loss) and math.isfinite(norm)
            if good:
                progress.new_steps += 1
                progress.new_loss += loss
                progress.skipped_in_a_row = 0
                continue
            progress.skipped_steps += 1
            progress.skipped_in_a_row += 1
            say(f"step {step:,} skipped: {what_is_not_finite(model, loss)}")
            if progress.skipped_in_a_row == BAD_STEPS:
                raise SystemExit(why_not_finite(model, loss, progress, out))
        return good

    bar = tqdm(total=steps, initial=progress.step, unit="step", leave=False, disable=None)

    with precision(rounding):
        while progress.step < steps:
            before = time.perf_counter()
            ids, targets = next(loader)
            rng = (settings["seed"], progress.step)
            lr_scale = warmup_cosine(
                progress.step, steps, settings["warmup"], final=settings["final_lr"]
            )
            if recorded is None:
                scale = None if loss_scale is None else loss_scale.value
                new = (
                    accumulate_gradients(model.loss, ids, targets, rng, pieces(ids), scale),
                    optimizer.clip_grad_norm(settings["clip"], loss_scale),
                )
            else:
                new = recorded(ids, targets, rng, lr_scale)
            readings.add(progress.step + 1, *new)
            progress.step += 1
            finished = progress.step == steps
            evaluating = finished or progress.step % settings["eval_interval"] == 0
            good = look(everything=device == "cpu" or evaluating)
            if recorded is None:
                if good or device != "cpu":  # where a GPU decides by itself, see clip_grad_norm
                    optimizer.step(lr_scale)
                optimizer.zero_grad()
            seconds = time.perf_counter() - before
            progress.new_seconds += seconds
            bar.set_postfix_str(f"loss {loss:.3f}, {B * T / seconds:,.0f} tokens/s", refresh=False)
            bar.update()

            if progress.new_steps and evaluating:
                val_loss = float(
                    evaluate(model.loss, val_ids, val_targets, micro_batches=pieces(val_ids))
                )
                progress.elapsed_seconds += progress.new_seconds
                entry = {
                    "step": progress.step,
                    "train_loss": progress.new_loss / progress.new_steps,
                    "val_loss": val_loss,
                    "val_bits_per_byte": val_loss / math.log(2) / bytes_per_token,
                    "lr": settings["lr"] * lr_scale,
                    "grad_norm": norm,
                    "tokens_per_second": progress.new_steps * B * T / progress.new_seconds,
                    "elapsed_seconds": progress.elapsed_seconds,
                    "skipped_steps": progress.skipped_steps,
                }
                if floor is not None:
                    entry["floor"] = floor
                write(log, json.dumps(entry) + "\n", "a")
                say(
                    "step {step:,}: training {train_loss:.4f}, validation {val_loss:.4f} nats, "
                    "{elapsed_seconds:.1f} s, {tokens_per_second:,.0f} tokens/s".format(**entry)
                )
                progress.new_steps, progress.new_loss, progress.new_seconds = 0, 0.0, 0.0
                if progress.best_val_loss is None or val_loss < progress.best_val_loss:
                    progress.best_val_loss = val_loss
                    model.save(out / "best", tokenizer)

            timed_out = time.monotonic() - started > options.get("time_limit", math.inf)
            leaving = not finished and (stop.signal is not None or timed_out)
            if finished or leaving or progress.step % settings["save_interval"] == 0:
                look(everything=True)
                save()
            if leaving:
                bar.close()
                why = "the time limit" if timed_out else stop.signal
                where = f"step {progress.step:,} of {steps:,}"
                say(f"stopped by {why} at {where}; all is saved. To go on:")
                say(f"    {how_to_go_on(out, options)}")
                return

    bar.close()
    if progress.best_val_loss is None:
        raise SystemExit(why_not_finite(model, loss, progress, out))
    write_sample(out, tokenizer)
    try:
        plot.draw(plot.read_runs([out]), out / "loss.png")
    except ImportError:
        pass  # no matplotlib, no picture
    except OSError as error:  # a full disk: no reason to fail, all else is there
        say(f"no picture: {out / 'loss.png'} cannot be written: {error.strerror}")
    total = progress.elapsed_seconds + progress.new_seconds
    best = progress.best_val_loss
    rate = progress.step * B * T / total if total else 0.0
    if floor is not None:
        token = "character" if settings["tokenizer"] == "char" else "token"
        say(
            f"val_loss {best:.4f} nats per {token}; the play's own entropy, the floor, {floor:.4f} "
            "(for a reader of all that came before; the model's windows begin mid-line)"
        )
    say(f"best val_loss {best:.4f}, {total:.1f} seconds of training, {rate:,.0f} tokens/s")


# ---- before the loop ----------------------------------------------------------------------------


def parse(argv: list[str] | None) -> dict[str, Any]:
    """The options that were given, by name; those that were not are not there."""
    parser = Parser(
        description="Train a GPT on Shakespeare, or on any text.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, help="what the other options start from (default: default)")
    add("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    add("--precision", choices=PRECISIONS, help="of products on a GPU (default: float32)")
    add("--graph", action="store_true", help="start a step on a GPU as a whole, a CUDA graph")
    add("--out", metavar="DIR", help="a folder for this run (default: a new one in runs/)")
    add("--resume", metavar="DIR", help="go on with the run in this folder")
    add("--time-limit", type=positive(float), metavar="SECONDS", help="save and stop after this")
    add("--memory", action="store_true", help="say how much memory a CPU would need, and stop")
    add("--steps", type=positive(int))
    add("--batch-size", type=positive(int), help="sequences per step")
    add("--lr", type=positive(float), help="peak learning rate (with Muon: that of the matrices)")
    add("--eval-interval", type=positive(int), help="steps between evaluations")
    add("--save-interval", type=positive(int), help="steps between saves (default: as above)")
    add("--seed", type=natural, help="for weights, batches and dropout (default: 0)")
    add(
        "--text",
        metavar="TEXT",
        help="shakespeare, play (built in), or a UTF-8 file (default: shakespeare; where it cannot "
        "be had, play)",
    )
    add("--tokenizer", choices=("char", "bpe"), help="default: char")
    add("--vocab-size", type=positive(int), help="of the bpe tokenizer (default: 1024)")
    group = parser.add_argument_group("the model (see GPTConfig)")
    kinds = get_type_hints(GPTConfig)
    for name in MODEL_FIELDS:
        kind = kinds[name]
        kind = get_args(kind)[0] if isinstance(kind, types.UnionType) else kind  # without its None
        option = "--" + name.replace("_", "-")
        if kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction)
        elif get_origin(kind) is tuple:
            group.add_argument(option, type=int, nargs="+", metavar="N")
        elif get_origin(kind) is not None:
            group.add_argument(option, choices=get_args(kind))
        else:
            group.add_argument(option, type=kind)
    options = vars(parser.parse_args(argv))

    if "resume" in options:
        fixed = set(options) - CHANGEABLE - {"resume", "device", "graph", "time_limit", "memory"}
        if fixed:
            names = ", ".join("--" + name.replace("_", "-") for name in sorted(fixed))
            parser.error(f"a run that goes on keeps its settings, so --resume cannot have {names}")
    if "vocab_size" in options and options.get("tokenizer") != "bpe":
        parser.error("--vocab-size is for --tokenizer bpe; char has the characters of the text")
    return options


def fresh_settings(options: dict[str, Any]) -> dict[str, Any]:
    settings = {"seed": 0, "text": None, "tokenizer": "char", "vocab_size": 1024}
    settings |= PRESETS[options.get("preset", "default")]
    settings |= {name: options[name] for name in options if name not in NOT_SETTINGS}
    return {"save_interval": settings["eval_interval"], **settings}


NOT_SETTINGS = {"preset", "device", "graph", "out", "resume", "time_limit", "memory"}


def model_options(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in MODEL_FIELDS if name in settings}


def changed(settings: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that goes on: its own, but for what may change."""
    return settings | {name: options[name] for name in options if name in CHANGEABLE}


def load_run(out: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """-> the arrays and settings that main's save() wrote; ValueError where it wrote others."""
    if not (out / "checkpoint" / "checkpoint.json").exists():
        raise ValueError(
            f"there is no run to go on with in {out}: {out / 'checkpoint'} holds no checkpoint; "
            "--resume takes the folder into which a run wrote, such as runs/default-1"
        )
    arrays, meta, _ = checkpoint.load(out / "checkpoint")
    names = {
        "config", "tokenizer", "settings", "progress", "loader", "optimizer", "text_sha256", "cut",
    }  # fmt: skip
    in_every_run = fresh_settings({}).keys() & fresh_settings({"preset": "nanogpt"}).keys()
    if not (
        set(arrays) == {"model", "optimizer"}
        and set(meta) - {"loss_scale"} == names
        and set(meta["settings"]) >= in_every_run
        and set(meta["progress"]) == set(asdict(Progress()))
    ):
        raise ValueError(
            f"{out / 'checkpoint'} was saved by something else than a run of this script (as it is "
            "now), so there is no going on from it"
        )
    return arrays, meta


def new_folder(out: str | None, preset: str) -> Path:
    """The folder for a new run, which must not have a run in it. Not created yet."""
    if out is None:
        names = (Path("runs") / f"{preset}-{n}" for n in range(1, 1_000_000))
        folder = next(name for name in names if not name.exists())
    else:
        folder = Path(out)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; --out takes a folder, or a new name for one")
        if (folder / "checkpoint" / "checkpoint.json").exists():
            raise ValueError(
                f"{folder} has a run in it already; go on with it by "
                f"--resume {shlex.quote(str(folder))}, "
                "or choose another folder"
            )
    return folder


def read_corpus(name: str | None) -> tuple[str, str]:
    """What --text names (None: Shakespeare or, where it cannot be had, the play), and the text."""
    if name is None:
        try:
            name, text = "shakespeare", data.shakespeare()
        except data.DownloadError as error:
            name, text = "play", data.play()
            say(
                f"Shakespeare cannot be had ({error.__cause__}): this run learns the built-in play "
                "instead. To change that, set TINYGPT_DATA to a folder with tinyshakespeare.txt, "
                "or name any text with --text"
            )
    elif name == "shakespeare":
        text = data.shakespeare()
    elif name == "play":
        text = data.play()
    else:
        text = data.read_text(name)
    say(f"text: {name}, {len(text):,} characters")
    return name, text


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check_same_run(meta: dict[str, Any], text: str, settings: dict[str, Any], out: Path) -> None:
    """Refuse another text; warn of another cut of the batches, which rounds differently."""
    if sha256(text) != meta["text_sha256"]:
        raise ValueError(
            f"the run in {out} learns another text than {settings['text']}; "
            "give its file with --text"
        )
    cut = [threads(), micro_batch_count(settings["batch_size"], settings["block_size"])]
    if cut != meta["cut"]:
        say(
            "warning: this run began with {} threads and batches cut in {}, now it is {} and {}; "
            "it goes on, but not with the same bits (TINYGPT_THREADS sets the threads)".format(
                *meta["cut"], *cut
            )
        )


def make_optimizer(model: GPT, settings: dict[str, Any]) -> Optimizer:
    names = ["lr", "betas", "weight_decay"]
    if settings["optimizer"] == "muon":
        names += ["momentum", "adamw_lr"]
        return Muon(model.parameters(), **{name: settings[name] for name in names})
    return AdamW(model.parameters(), **{name: settings[name] for name in names})


def forget_after(step: int, log: Path) -> None:
    """Take out of the log what a run that goes on from `step` will log again."""
    entries = plot.read_log(log) if log.exists() else []
    kept = [json.dumps(entry) + "\n" for entry in entries if entry["step"] <= step]
    write(log, "".join(kept))


def write(file: Path, text: str, mode: str = "w") -> None:
    """Write text, or append it ("a"), through to the disk; an error says what is still there."""
    begun = file if mode == "a" else file.with_name(f"{file.name}.tmp")
    try:
        with open(begun, mode, encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if begun != file:
            os.replace(begun, file)  # the whole of it, or what was there before
    except OSError as error:
        raise OSError(
            error.errno,
            f"{file} cannot be written: {error.strerror}; the last checkpoint is intact, and "
            f"--resume {shlex.quote(str(file.parent))} goes on from it",
        ) from error


# ---- in the loop, and after it ------------------------------------------------------------------


def say(line: str) -> None:
    """Print without tearing the progress bar."""
    tqdm.write(line)
    sys.stdout.flush()


def how_to_go_on(out: Path, options: dict[str, Any]) -> str:
    """The command that resumes this run, as one would type it."""
    words = [sys.executable, sys.argv[0], "--resume", str(out)]
    if "device" in options:
        words += ["--device", options["device"]]
    if "graph" in options:
        words += ["--graph"]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


class StopOnSignal:
    """Notes Ctrl-C or SIGTERM in `signal`, for the loop to see between steps; a second kills."""

    def __init__(self) -> None:
        self.signal: str | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.signal = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)


class Readings:
    """The losses and gradient norms of steps. To look at a number of a GPU is to wait for it: so
    those of READ_EVERY steps set out together, and are looked at when the next ones set out."""

    def __init__(self) -> None:
        self.steps: list[int] = []  # those that have not been looked at
        self.here: list[Any] = []  # two numbers for each of the newest, where they were computed
        self.coming: Callable[[], np.ndarray] | None = None  # those of the others

    def add(self, step: int, loss: Any, norm: Any) -> None:
        self.steps.append(step)
        self.here += [loss, norm]

    def read(self, everything: bool) -> list[tuple[int, float, float]]:
        """(step, loss, norm) of all steps, or of those for which there is nothing to wait."""
        numbers: list[float] = []
        if everything or len(self.here) == 2 * READ_EVERY:
            if self.coming is not None:
                numbers += self.coming().tolist()
            self.coming = bring(np.stack(self.here)) if self.here else None
            self.here = []
        if everything and self.coming is not None:
            numbers += self.coming().tolist()
            self.coming = None
        n = len(numbers) // 2
        steps, self.steps = self.steps[:n], self.steps[n:]
        return list(zip(steps, numbers[::2], numbers[1::2], strict=True))


def what_is_not_finite(model: GPT, loss: float) -> str:
    named = model.named_parameters()
    bad = (name for name, p in named if not bool(np.isfinite(p.grad).all()))
    return f"loss {loss}, first gradient that is not finite: {next(bad, 'none')}"


def why_not_finite(model: GPT, loss: float, progress: Progress, out: Path) -> str:
    """What to say when a run gives up."""
    return (
        f"error: {progress.skipped_steps} steps were not finite, up to step {progress.step} "
        f"({what_is_not_finite(model, loss)}); nothing of them was saved: try a lower --lr, from "
        f"the start or with the checkpoint in {out}"
    )


def memory_needed(config: GPTConfig, batch_size: int, text: str) -> dict[str, int]:
    """{what: bytes} at the peak of a run on a CPU, as measured with the built-in texts."""
    needed = training_memory(config, batch_size)
    needed["text and tokens"] = 4 * len(text)
    if importlib.util.find_spec("matplotlib") is not None:
        needed["matplotlib, for the picture at the end"] = 27_000_000
    return needed


def say_memory(needed: dict[str, int]) -> None:
    """A line for each kind of memory, and the sum."""
    for what, size in {**needed, "in all, at the peak": sum(needed.values())}.items():
        say(f"{size / 1e6:10,.1f} MB  {what}")


def write_sample(out: Path, tokenizer: BPE | Char) -> None:
    """Let the best model write, on the screen and into sample.txt."""
    model = GPT.load(out / "best")
    knows_newline = isinstance(tokenizer, BPE) or "\n" in tokenizer.characters
    prompt = tokenizer.encode("\n") if knows_newline else [0]
    ids = model.generate([prompt], 500, temperature=0.8, rng=0)
    sample = tokenizer.decode(ids[0, len(prompt) :])
    write(out / "sample.txt", sample + "\n")
    say(f"\n{sample}\n")


if __name__ == "__main__":
    sys.exit(run(main))
