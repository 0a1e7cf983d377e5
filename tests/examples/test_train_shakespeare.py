"""The training script: what it writes, that it goes on after a stop, what it says to mistakes."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from training_script import (
    SCRIPT,
    TIMES,
    TINY,
    assert_same_end,
    load_script,
    quick_ends,
    read_log,
    write_text,
)

import tinygpt
from tinygpt import GPT, AdamW, GPTConfig, Muon, accumulate_gradients, checkpoint, data
from tinygpt.commands import plot
from tinygpt.optim import warmup_cosine


@pytest.fixture(scope="module")
def script():
    return load_script()


@pytest.fixture(autouse=True)
def _signals_as_before():
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _quick_ends(monkeypatch):
    quick_ends(monkeypatch)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def whole(script, text, tmp_path_factory):
    """A run that nothing happened to: its folder, what it printed, the pictures it asked for."""
    out, printed, pictures = tmp_path_factory.mktemp("whole") / "run", io.StringIO(), []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        quick_ends(patch)
        patch.setattr(plot, "draw", lambda runs, file: pictures.append((runs, file)))
        script.main([*TINY, "--text", text, "--out", str(out)])
    return types.SimpleNamespace(out=out, printed=printed.getvalue(), pictures=pictures)


@pytest.fixture
def copy(whole, tmp_path):
    """A folder like that of the whole run, to go on in."""
    return shutil.copytree(whole.out, tmp_path / "copy")


def test_a_run_writes_what_it_promises(whole, text):
    entries = read_log(whole.out)
    assert [e["step"] for e in entries] == [5, 10, 15, 20]
    promised = {"step", "train_loss", "val_loss", "val_bits_per_byte", "lr", "grad_norm"} | TIMES
    assert promised <= set(entries[-1])
    assert entries[-1]["val_loss"] < entries[0]["val_loss"]
    best = min(e["val_loss"] for e in entries)
    assert f"best val_loss {best:.4f}" in whole.printed.splitlines()[-1]
    sample = (whole.out / "sample.txt").read_text(encoding="utf-8")
    assert len(sample) == 9 + 1
    assert f"\n{sample}\n" in whole.printed
    (((run,), file),) = whole.pictures
    assert file == whole.out / "loss.png"
    assert run.numbers["val_loss"] == [e["val_loss"] for e in entries]
    assert "floor" not in entries[-1]  # that is for the play
    assert "the floor" not in whole.printed

    model = GPT.load(whole.out / "best")
    tokenizer = tinygpt.tokenizers.Char.train(data.read_text(text))
    _, val = data.split(tokenizer.encode_array(data.read_text(text)))
    loss = tinygpt.evaluate(model.loss, *data.windows(val, 8))
    assert float(loss) == pytest.approx(best, rel=1e-5)
    # All characters here are one byte, and all but the first are predicted.
    assert entries[-1]["val_bits_per_byte"] == pytest.approx(entries[-1]["val_loss"] / np.log(2))


def test_a_run_does_not_need_matplotlib(script, text, tmp_path, capsys):
    script.main([*TINY, "--steps", "2", "--text", text, "--out", str(tmp_path / "run")])
    assert "best val_loss" in capsys.readouterr().out.splitlines()[-1]


def test_one_seed_one_log(script, text, whole, tmp_path):
    script.main([*TINY, "--text", text, "--out", str(tmp_path / "again")])
    assert_same_end(whole.out, tmp_path / "again")


def test_one_seed_one_log_of_another_preset(script, text, tmp_path):
    arguments = [*TINY, "--preset", "nanogpt-cpu", "--text", text, "--steps", "6", "--out"]
    for name in ("a", "b"):
        script.main([*arguments, str(tmp_path / name)])
    assert_same_end(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("preset", ["default", "best", "nanogpt-cpu"])
def test_a_run_is_what_its_settings_say(script, text, tmp_path, preset):
    """To the last bit what the library gives, told every setting: the seed of weights, batches and
    dropout, the options of the optimizer, the schedule, the clipping."""
    arguments = [*TINY, "--preset", preset, "--seed", "3", "--steps", "14", "--text", text]
    script.main([*arguments, "--out", str(tmp_path / "run")])

    settings = script.fresh_settings(script.parse(arguments))
    names = ["lr", "betas", "weight_decay"]
    optimizer_class = AdamW
    if settings["optimizer"] == "muon":
        optimizer_class, names = Muon, [*names, "momentum", "adamw_lr"]
    tokens = tinygpt.tokenizers.Char.train(data.read_text(text)).encode_array(data.read_text(text))
    config = GPTConfig(int(tokens.max()) + 1, **script.model_options(settings))
    model = GPT(config, rng=3)
    optimizer = optimizer_class(model.parameters(), **{name: settings[name] for name in names})
    loader = data.Loader(data.split(tokens)[0], block_size=8, batch_size=6, seed=3)
    for step in range(14):
        accumulate_gradients(model.loss, *next(loader), rng=(3, step))
        norm = optimizer.clip_grad_norm(settings["clip"])
        assert step > 0 or norm > settings["clip"]
        scale = warmup_cosine(step, 14, settings["warmup"], settings["final_lr"])
        optimizer.step(scale)
        optimizer.zero_grad()

    found = checkpoint.load(tmp_path / "run" / "checkpoint")[0]["model"]
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(found[name], p.data, err_msg=name)
    assert read_log(tmp_path / "run")[-1]["lr"] == settings["lr"] * scale


@pytest.mark.parametrize("crash_at", [1, 8, 11, 19])
def test_a_crashed_run_goes_on_with_the_same_bits(
    script, text, whole, tmp_path, monkeypatch, crash_at
):
    """Saves fall on steps 3, 6, ..., between evaluations, and the crash between saves."""

    class Crash(BaseException):
        pass

    batches = iter(range(10**6))
    next_batch = data.Loader.__next__

    def failing(loader):
        if next(batches) == crash_at:
            raise Crash
        return next_batch(loader)

    out = tmp_path / "crashed"
    with monkeypatch.context() as patch:
        patch.setattr(data.Loader, "__next__", failing)
        with pytest.raises(Crash):
            script.main([*TINY, "--text", text, "--save-interval", "3", "--out", str(out)])
    script.main(["--resume", str(out)])
    assert_same_end(whole.out, out)


def test_what_will_be_logged_again_is_forgotten(script, copy):
    script.forget_after(10, copy / "log.jsonl")
    assert [entry["step"] for entry in read_log(copy)] == [5, 10]


@pytest.mark.parametrize("killed_at", ["fsync", "replace"])
def test_a_run_killed_as_it_goes_on_still_has_its_log(script, whole, copy, monkeypatch, killed_at):
    """Which is written anew, without what comes after the checkpoint: beside the old one."""

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    monkeypatch.setattr(os, killed_at, killed)
    with pytest.raises(Killed):
        script.main(["--resume", str(copy), "--steps", "30"])
    assert read_log(copy) == read_log(whole.out)


def test_the_time_limit_saves_and_says_how_to_go_on(script, text, whole, tmp_path, capsys):
    out = tmp_path / "run"
    script.main([*TINY, "--text", text, "--out", str(out), "--time-limit", "1e-9"])
    assert f"--resume {out}" in capsys.readouterr().out
    script.main(["--resume", str(out)])
    assert_same_end(whole.out, out)


def test_more_steps_on_resume(script, copy):
    script.main(["--resume", str(copy), "--steps", "30"])
    assert read_log(copy)[-1]["step"] == 30


def test_a_bpe_run_counts_bytes(script, text, tmp_path):
    out = tmp_path / "run"
    options = ["--tokenizer", "bpe", "--vocab-size", "270", "--steps", "5"]
    script.main([*TINY, *options, "--text", text, "--out", str(out)])
    last = read_log(out)[-1]
    assert 0 < last["val_bits_per_byte"] < last["val_loss"] / np.log(2)  # tokens of several bytes


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(script, text, tmp_path, number, capsys, monkeypatch):
    out = tmp_path / "run"
    steps = iter(range(10**6))
    next_batch = data.Loader.__next__

    def signalling(loader):
        if next(steps) == 7:
            os.kill(os.getpid(), number)
        return next_batch(loader)

    monkeypatch.setattr(data.Loader, "__next__", signalling)
    script.main([*TINY, "--text", text, "--out", str(out)])
    printed = capsys.readouterr().out
    assert signal.Signals(number).name in printed
    assert f"--resume {out}" in printed
    assert checkpoint.load(out / "checkpoint")[2] == 8


def test_weights_that_blow_up_are_named_and_never_saved(script, text, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--preset", "nanogpt-cpu", "--lr", "1e30", "--save-interval", "1"]
    with pytest.raises(SystemExit, match=r"10 steps .* gradient that is not finite: \w+.*weight"):
        script.main([*TINY, *options, "--text", text, "--out", str(out)])
    assert "skipped" in capsys.readouterr().out
    arrays, _, step = checkpoint.load(out / "checkpoint")
    assert step > 0
    for group in arrays.values():
        assert all(np.isfinite(a).all() for a in group.values())


def test_steps_that_are_not_finite_are_skipped_and_end_a_run(
    script, text, tmp_path, monkeypatch, capsys
):
    real = tinygpt.accumulate_gradients
    calls = iter(range(10**6))

    def sometimes_nan(*args, **kwargs):
        loss = real(*args, **kwargs)
        return loss * np.nan if next(calls) in (2, 3) or next_is_nan[0] else loss

    next_is_nan = [False]
    monkeypatch.setattr(script, "accumulate_gradients", sometimes_nan)
    script.main([*TINY, "--text", text, "--out", str(tmp_path / "some")])
    assert read_log(tmp_path / "some")[-1]["skipped_steps"] == 2
    printed = capsys.readouterr().out
    assert "step 3 skipped: loss nan, first gradient that is not finite: none" in printed
    assert printed.count("skipped") == 2

    next_is_nan[0] = True
    with pytest.raises(SystemExit, match="10 steps were not finite"):
        script.main([*TINY, "--text", text, "--out", str(tmp_path / "all")])
    assert checkpoint.load(tmp_path / "all" / "checkpoint")[2] < 10

    with pytest.raises(SystemExit, match="3 steps were not finite"):
        script.main([*TINY, "--text", text, "--out", str(tmp_path / "short"), "--steps", "3"])
    assert not (tmp_path / "short" / "best").exists()


def test_a_run_is_not_overwritten(script, text, whole):
    with pytest.raises(ValueError, match="has a run in it already"):
        script.main([*TINY, "--text", text, "--out", str(whole.out)])


def test_another_text_on_resume_is_refused(script, whole, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("something else altogether " * 50, encoding="utf-8")
    with pytest.raises(ValueError, match="another text"):
        script.main(["--resume", str(whole.out), "--text", str(other), "--steps", "30"])


# ---- the play -----------------------------------------------------------------------------------


def without_network(tmp_path):
    """The environment of a machine that has nothing and reaches nothing."""
    nothing = {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    nothing["https_proxy"] = "http://127.0.0.1:9"  # where nobody listens
    hidden = ("TINYGPT_DATA", "TINYGPT_CACHE", "XDG_CACHE_HOME", "NO_PROXY", "no_proxy")
    return {k: v for k, v in os.environ.items() if k not in hidden} | nothing


def test_without_a_network_the_play_is_learned(tmp_path):
    result = subprocess.run(
        [sys.executable, SCRIPT, *TINY, "--n-layer", "1", "--block-size", "64", "--steps", "5"],
        env=without_network(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second, *_, floor, last = result.stdout.splitlines()
    assert first.startswith("Shakespeare cannot be had (")
    assert "this run learns the built-in play instead" in first
    assert "TINYGPT_DATA" in first
    assert "--text" in first
    assert second == "text: play, 1,115,394 characters"
    entries = read_log(tmp_path / "runs" / "default-1")
    best, least = entries[-1]["val_loss"], entries[-1]["floor"]
    assert len(entries) == 1
    assert best > least > 0.5
    assert floor.startswith(f"val_loss {best:.4f} nats per character; the play's own entropy, the ")
    assert f"the floor, {least:.4f} " in floor
    assert last.startswith(f"best val_loss {best:.4f}")


@pytest.fixture
def offline(monkeypatch):
    """No Shakespeare, and a play that is soon read."""
    whole = data.play

    def fail():
        raise data.DownloadError("not found anywhere") from OSError("no route")

    monkeypatch.setattr(data, "shakespeare", fail)
    monkeypatch.setattr(data, "play", lambda: whole(20_000))


@pytest.mark.usefixtures("offline")
def test_a_run_on_the_play_stays_on_it(script, tmp_path, monkeypatch, capsys):
    script.main([*TINY, "--out", str(tmp_path / "whole")])
    script.main([*TINY, "--out", str(tmp_path / "run"), "--time-limit", "1e-9"])
    monkeypatch.setattr(data, "shakespeare", lambda: "now there is a network " * 1000)
    capsys.readouterr()
    script.main(["--resume", str(tmp_path / "run")])
    assert capsys.readouterr().out.startswith("text: play, 20,000 characters")
    assert_same_end(tmp_path / "whole", tmp_path / "run")
    nats = data.split(data.play_nats(data.play()))[1]
    assert read_log(tmp_path / "run")[-1]["floor"] == pytest.approx(nats[1:].mean(), rel=1e-12)


@pytest.mark.usefixtures("offline")
def test_who_asks_for_shakespeare_gets_no_play(script, tmp_path, monkeypatch):
    with pytest.raises(data.DownloadError):
        script.main([*TINY, "--text", "shakespeare", "--out", str(tmp_path / "run")])
    fails = data.shakespeare
    monkeypatch.setattr(data, "shakespeare", lambda: "to be or not to be, " * 1000)
    script.main([*TINY, "--out", str(tmp_path / "run"), "--time-limit", "1e-9"])
    monkeypatch.setattr(data, "shakespeare", fails)
    with pytest.raises(data.DownloadError):
        script.main(["--resume", str(tmp_path / "run")])


@pytest.mark.usefixtures("offline")
def test_the_floor_of_longer_tokens(script, tmp_path, capsys):
    options = ["--text", "play", "--tokenizer", "bpe", "--vocab-size", "300"]
    script.main([*TINY, *options, "--out", str(tmp_path / "run")])
    text = data.play()
    tokenizer = tinygpt.tokenizers.from_dict(checkpoint.load(tmp_path / "run/best")[1]["tokenizer"])
    tokens = data.split(tokenizer.encode_array(text))[1][1:]
    predicted = tokenizer.decode(tokens)
    assert text.endswith(predicted)
    floor = data.play_nats(text)[-len(predicted) :].sum() / len(tokens)
    assert read_log(tmp_path / "run")[-1]["floor"] == pytest.approx(floor, rel=1e-12)
    assert (
        f"nats per token; the play's own entropy, the floor, {floor:.4f} "
        in capsys.readouterr().out
    )


@pytest.mark.slow
def test_a_minute_on_the_play_ends_near_its_floor(script, tmp_path):
    """The default run. Its windows begin mid-line, which no reader can make good: so here the loss
    is that of the second halves of windows, each of whose characters comes after 32 or more.
    """
    out = tmp_path / "run"
    script.main(["--text", "play", "--device", "cpu", "--out", str(out)])
    log = read_log(out)[-1]
    assert log["floor"] < log["val_loss"] < 1.18 * log["floor"]

    model = GPT.load(out / "best")
    text = data.play()
    nats = data.split(data.play_nats(text))[1]
    tokens = data.split(tinygpt.tokenizers.Char.train(text).encode_array(text))[1].astype(int)
    starts = np.arange(0, len(tokens) - 64, 32)
    places = starts[:, None] + np.arange(64)
    targets = tokens[places + 1]
    targets[:, :32] = -1
    loss = float(tinygpt.evaluate(model.loss, tokens[places], targets))
    floor = nats[places + 1][:, 32:].mean()
    assert floor < loss < 1.05 * floor


def test_memory_says_what_for_and_stops(script, text, tmp_path, capsys):
    out = tmp_path / "run"
    script.main([*TINY, "--text", text, "--out", str(out), "--memory"])
    *terms, total = [line for line in capsys.readouterr().out.splitlines() if " MB  " in line]
    numbers = [float(line.split(" MB  ")[0].replace(",", "")) for line in (*terms, total)]
    assert "activations" in " ".join(terms)
    assert "in all" in total
    assert abs(sum(numbers[:-1]) - numbers[-1]) < 0.1 * len(terms)
    assert not out.exists()
