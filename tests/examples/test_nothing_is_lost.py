"""A training run that is killed, or out of disk space, at any moment goes on as if nothing was."""

import builtins
import errno
import io
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from training_script import SCRIPT, assert_same_end, load_script, quick_ends, write_text

from tinygpt import GPT, checkpoint

SMALL = [
    "--n-layer", "1", "--n-head", "1", "--n-embd", "4", "--block-size", "8", "--batch-size", "3",
    "--steps", "24", "--eval-interval", "3", "--save-interval", "1", "--device", "cpu",
    "--dropout", "0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def script():
    return load_script()


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    quick_ends(monkeypatch)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def whole(script, text, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        quick_ends(patch)
        script.main([*SMALL, "--text", text, "--out", str(out)])
    return out


# ---- SIGKILL ------------------------------------------------------------------------------------


def start(text, out, resume=False):
    """A process that trains, from the moment when it says that it begins."""
    begin = [*SMALL, "--text", text, "--out", str(out)]
    return listen([sys.executable, SCRIPT, *(["--resume", str(out)] if resume else begin)])


def listen(command):
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while b"parameters" not in child.stdout.readline():
        assert child.poll() is None
    return child


def kill(child, step, rng):
    """SIGKILL a process that trains on from `step`: at a random instant after a random report."""
    for _ in range(rng.randrange((24 - step) // 3 or 1)):
        while not child.stdout.readline().startswith(b"step"):
            assert child.poll() is None
    time.sleep(rng.random() * 0.05)  # about as long as until the next one
    child.send_signal(signal.SIGKILL)
    child.communicate()


def kill_and_go_on(script, text, whole, folder, times, seed):
    """Kill `times` processes, each at a random instant of its steps; every other one when it goes
    on after such a kill. -> the steps at which they were killed"""
    rng = random.Random(seed)
    steps = []
    for number in range(times):
        resume = number % 2 == 1
        out = folder / str(number - resume)
        kill(start(text, out, resume), steps[-1] if resume else 0, rng)
        _, _, step = checkpoint.load(out / "checkpoint")  # whole, whenever it was
        steps.append(step)

        copy = folder / "goes on"
        shutil.copytree(out, copy)
        script.main(["--resume", str(copy)])
        assert_same_end(whole, copy)
        assert same_weights(GPT.load(whole / "best"), GPT.load(copy / "best"))
        shutil.rmtree(copy)
    return steps


def same_weights(one, other):
    return all(
        np.array_equal(a.data, b.data)
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@needs_sigkill
def test_a_killed_run_goes_on_with_the_same_bits(script, text, whole, tmp_path):
    kill_and_go_on(script, text, whole, tmp_path, times=2, seed=0)


@needs_sigkill
@pytest.mark.slow
def test_fifty_killed_runs_go_on_with_the_same_bits(script, text, whole, tmp_path):
    steps = kill_and_go_on(script, text, whole, tmp_path, times=50, seed=1)
    assert len(set(steps)) > 10  # they were killed all over the run


def test_a_run_killed_before_its_first_save_starts_again(script, text, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    arguments = [*SMALL, "--steps", "2", "--text", text, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(Killed):
            script.main(arguments)
    script.main(arguments)
    assert checkpoint.load(tmp_path / "run" / "checkpoint")[2] == 2


# ---- a full disk --------------------------------------------------------------------------------


class FullDisk:
    """From its call number `room` on, nothing can be written: not opened, nor written, nor synced.

    What a failing write is given gets half way. `calls` counts.
    """

    def __init__(self, monkeypatch, room=None):
        self.room, self.calls = room, 0
        self.real_open = builtins.open
        monkeypatch.setattr(builtins, "open", self.open)
        monkeypatch.setattr(io, "open", self.open)  # of pathlib
        for name in ("fsync", "replace", "mkdir"):
            monkeypatch.setattr(os, name, self.watched(getattr(os, name)))

    def use(self):
        self.calls += 1
        if self.room is not None and self.calls > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def watched(self, function):
        def watched(*arguments, **options):
            self.use()
            return function(*arguments, **options)

        return watched

    def open(self, file, mode="r", *arguments, **options):
        if not set(mode) & set("wxa"):
            return self.real_open(file, mode, *arguments, **options)
        self.use()
        stream = self.real_open(file, mode, *arguments, **options)
        write = stream.write

        def half_of(chunk):
            try:
                self.use()
            except OSError:
                write(chunk[: len(chunk) // 2])
                raise
            return write(chunk)

        return Writing(stream, half_of)


class Writing:
    """A stream whose write is another one."""

    def __init__(self, stream, write):
        self.stream, self.write = stream, write

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()


@pytest.mark.parametrize("resuming", [False, True], ids=["from the start", "as it goes on"])
@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_leaves_the_last_checkpoint_and_a_sentence(
    script, text, tmp_path, monkeypatch, every, resuming
):
    begin = [*SMALL, "--steps", "2", "--eval-interval", "1", "--text", text, "--out"]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    script.main([*begin, str(stopped), "--time-limit", "1e-9"])

    def go(out):
        script.main(["--resume", str(out)] if resuming else [*begin, str(out)])

    def prepare(out):
        if resuming:
            shutil.copytree(stopped, out)

    prepare(whole)
    with monkeypatch.context() as patch:
        disk = FullDisk(patch)
        go(whole)
    begun = resuming
    for room in range(0, disk.calls, every):
        out = tmp_path / str(room)
        prepare(out)
        with monkeypatch.context() as patch:
            FullDisk(patch, room)
            with pytest.raises(OSError, match="No space left on device") as caught:
                go(out)
        sentence = caught.value.strerror
        assert str(out) in (sentence if caught.value.filename is None else caught.value.filename)
        if (out / "checkpoint" / "checkpoint.json").exists():
            begun = True
            checkpoint.load(out / "checkpoint")
            script.main(["--resume", str(out)])
        else:
            assert not begun  # once there was room for a checkpoint, there always is one
            go(out)
        assert_same_end(whole, out)
    assert begun


def test_no_room_for_a_picture_is_no_failure(script, text, tmp_path, monkeypatch, capsys):
    def draw(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(script.plot, "draw", draw)
    script.main([*SMALL, "--steps", "2", "--text", text, "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "loss.png cannot be written: No space left on device" in printed
    assert "best val_loss" in printed.splitlines()[-1]


def test_a_folder_that_may_not_be_written_to(script, text, tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    out = tmp_path / "read-only" / "run"
    monkeypatch.setattr(os, "mkdir", refuse)  # chmod would not stop an administrator
    with pytest.raises(OSError, match=f"saving step 0 in {out}.* failed: Permission denied"):
        script.main([*SMALL, "--text", text, "--out", str(out)])


# ---- stopping -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_what_a_run_prints_as_it_stops_can_be_typed(text, whole, tmp_path):
    """Word for word, in a shell, in spite of the name of the folder; and so what that prints."""
    out = tmp_path / "it's my $HOME run"
    command = last_line(start(text, out), "SIGINT")
    command = last_line(listen(shlex.split(command)), "SIGTERM")
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    assert_same_end(whole, out)


def last_line(child, name):
    """The command that a run prints when the signal of that name stops it."""
    child.send_signal(getattr(signal, name))
    *_, why, command = child.communicate()[0].decode().splitlines()
    assert child.returncode == 0
    assert f"stopped by {name} at step" in why
    assert "To go on:" in why
    return command
