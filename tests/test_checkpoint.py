"""checkpoint: what was saved comes back, whatever happens at whatever instant."""

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygpt import checkpoint


def arrays_of(step):
    """Different numbers for every step, so that a mixture of two saves is noticed."""
    return {
        "model": {"wte": np.full((5, 3), step, np.float32), "bias": np.arange(4.0) + step},
        "optimizer": {"m": np.full(7, -step, np.float32), "t": np.array(step)},
    }


def meta_of(step):
    return {"seed": step, "lr": 1e-3 / step, "text": "é\u2028", "loader": {"epoch": 0}}


def save(folder, step):
    checkpoint.save(folder, step, arrays_of(step), meta_of(step))


def assert_holds(folder, *steps):
    """The folder loads, whole, as one of these steps. -> that step"""
    arrays, meta, step = checkpoint.load(folder)
    assert step in steps
    assert meta == meta_of(step)
    assert_same(arrays, arrays_of(step))
    return step


def assert_same(arrays, expected):
    assert list(arrays) == list(expected)
    for group in expected:
        assert list(arrays[group]) == list(expected[group])
        for name, array in expected[group].items():
            assert arrays[group][name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[group][name], array)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# ---- what is right ------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    folder = tmp_path / "run" / "checkpoint"
    save(folder, 10)
    assert names(folder) == [
        "checkpoint.json",
        "model-10.safetensors",
        "optimizer-10.safetensors",
    ]
    assert_holds(folder, 10)


def test_the_next_save_replaces_the_last(tmp_path):
    save(tmp_path, 10)
    save(tmp_path, 20)
    assert names(tmp_path) == [
        "checkpoint.json",
        "model-20.safetensors",
        "optimizer-20.safetensors",
    ]
    assert_holds(tmp_path, 20)


def test_a_step_may_be_saved_again_and_again(tmp_path):
    for again in range(4):
        arrays = {"model": {"w": np.full(3, again)}}
        checkpoint.save(tmp_path, 10, arrays, {"again": again})
        loaded, meta, step = checkpoint.load(tmp_path)
        assert (meta, step) == ({"again": again}, 10)
        assert_same(loaded, arrays)
        assert len(names(tmp_path)) == 2


def test_a_group_that_is_no_longer_saved_goes(tmp_path):
    save(tmp_path, 10)
    checkpoint.save(tmp_path, 20, {"model": {"w": np.zeros(2)}}, {})
    assert names(tmp_path) == ["checkpoint.json", "model-20.safetensors"]


def test_only_the_groups_asked_for_are_read(tmp_path):
    save(tmp_path, 10)
    (tmp_path / "optimizer-10.safetensors").unlink()
    arrays, _, _ = checkpoint.load(tmp_path, groups=["model"])
    assert_same(arrays, {"model": arrays_of(10)["model"]})
    assert checkpoint.load(tmp_path, groups=[]) == ({}, meta_of(10), 10)
    with pytest.raises(ValueError, match="optimizer-10.safetensors is missing"):
        checkpoint.load(tmp_path)


def test_no_groups_and_no_meta(tmp_path):
    checkpoint.save(tmp_path, 0, {}, {})
    assert checkpoint.load(tmp_path) == ({}, {}, 0)


def test_loaded_arrays_may_be_written_to(tmp_path):
    save(tmp_path, 10)
    arrays, _, _ = checkpoint.load(tmp_path)
    for array in (array for group in arrays.values() for array in group.values()):
        array[...] = 0
    assert_holds(tmp_path, 10)


def test_meta_comes_back_as_json_gives_it(tmp_path):
    checkpoint.save(tmp_path, 1, {}, {"betas": (0.9, 0.95), "by": {10: "a", 9: "b"}})
    assert checkpoint.load(tmp_path)[1] == {"betas": [0.9, 0.95], "by": {"10": "a", "9": "b"}}


def test_a_run_may_save_while_another_process_loads(tmp_path, monkeypatch):
    save(tmp_path, 10)
    read = checkpoint._read

    def read_slowly(folder, group, files):
        if group == "optimizer" and files[group]["name"] == "optimizer-10.safetensors":
            save(tmp_path, 20)
        return read(folder, group, files)

    monkeypatch.setattr(checkpoint, "_read", read_slowly)
    assert assert_holds(tmp_path, 10, 20) == 20

    save(tmp_path, 10)
    arrays, _, step = checkpoint.load(tmp_path, iter(["optimizer"]))  # read once, used twice
    assert_same(arrays, {"optimizer": arrays_of(20)["optimizer"]})
    assert step == 20


def test_other_files_are_left_alone(tmp_path):
    others = [
        "notes.txt",
        "model.safetensors",
        "model-best.safetensors",
        "model-00001-of-00002.safetensors",
        "model-5.safetensors.bak",
        "my-model-5.safetensors",
        "other-5.safetensors",
        "model-5.txt",
        "checkpoint.json.old",
    ]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "model-7.safetensors").mkdir()
    save(tmp_path, 10)
    save(tmp_path, 20)
    for name in others:
        assert (tmp_path / name).read_text() == "mine"
    assert (tmp_path / "model-7.safetensors").is_dir()
    assert len(names(tmp_path)) == len(others) + 4


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_what_is_not_finite_is_not_saved(tmp_path, value, dtype):
    save(tmp_path, 10)
    before = names(tmp_path)
    arrays = arrays_of(20)
    arrays["optimizer"]["v"] = np.array([[0, 1], [value, 2]], dtype)
    with pytest.raises(ValueError, match="'v' of group 'optimizer' holds a NaN or an infinity"):
        checkpoint.save(tmp_path, 20, arrays, {})
    assert names(tmp_path) == before
    assert_holds(tmp_path, 10)


@pytest.mark.parametrize(
    ("step", "arrays", "meta", "error", "message"),
    [
        (-1, {}, {}, ValueError, "step must be 0 or more"),
        (1.5, {}, {}, TypeError, "float"),
        (1, {"../model": {}}, {}, ValueError, "not '../model'"),
        (1, {"": {}}, {}, ValueError, "not ''"),
        (1, {"model": {"w": [1.0]}}, {}, TypeError, "'w': list"),
        (1, {"model": {"w": np.zeros(2, complex)}}, {}, ValueError, "'w' has dtype complex128"),
        (1, {}, [], TypeError, "meta must be a dict"),
        (1, {}, {"loss": float("nan")}, ValueError, "meta cannot be saved as JSON"),
        (1, {}, {"loss": float("inf")}, ValueError, "meta cannot be saved as JSON"),
        (1, {}, {"loss": np.float32(1)}, ValueError, "float32 is not JSON serializable"),
        (1, {}, {"a": {1: "b", "1": "c"}}, ValueError, "'1' appears twice"),
    ],
)
def test_bad_arguments_leave_the_folder_as_it_is(tmp_path, step, arrays, meta, error, message):
    save(tmp_path, 10)
    with pytest.raises(error, match=message):
        checkpoint.save(tmp_path, step, arrays, meta)
    assert len(names(tmp_path)) == 3
    assert_holds(tmp_path, 10)


def edit(change, rehash=True):
    """A function that edits checkpoint.json; with its sha256 put right, as an adversary would."""

    def apply(folder):
        path = folder / "checkpoint.json"
        contents = json.loads(path.read_text(encoding="utf-8"))
        change(contents)
        if rehash:
            del contents["sha256"]
            contents["sha256"] = checkpoint._digest(contents)
        path.write_text(json.dumps(contents), encoding="utf-8")

    return apply


def overwrite(name, raw):
    return lambda folder: (folder / name).write_bytes(raw)


def flip_a_bit(folder):
    path = folder / "model-10.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def cut(folder):
    path = folder / "model-10.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(folder):
    path = folder / "model-10.safetensors"
    path.write_bytes(path.read_bytes() + b" ")


def replace_by_folder(folder):
    (folder / "model-10.safetensors").unlink()
    (folder / "model-10.safetensors").mkdir()


DAMAGE = {
    "no checkpoint.json": (lambda f: (f / "checkpoint.json").unlink(), "there is no checkpoint in"),
    "empty": (overwrite("checkpoint.json", b""), "checkpoint.json cannot be used"),
    "not JSON": (overwrite("checkpoint.json", b"{"), "checkpoint.json cannot be used"),
    "not UTF-8": (overwrite("checkpoint.json", b'{"\xff":1}'), "checkpoint.json cannot be used"),
    "a list": (overwrite("checkpoint.json", b"[]"), "does not say which format"),
    "deep": (overwrite("checkpoint.json", b"[" * 100_000), "nested too deeply"),
    "too large": (overwrite("checkpoint.json", b" " * 5001), "larger than 5,000 bytes"),
    "NaN": (overwrite("checkpoint.json", b'{"format": NaN}'), "NaN is not JSON"),
    "infinite": (overwrite("checkpoint.json", b'{"format": 1, "meta": 1e999}'), "cannot be used"),
    "repeated key": (overwrite("checkpoint.json", b'{"step":1,"step":2}'), "'step' appears twice"),
    "newer": (
        edit(lambda c: c.update(format=2)),
        "has format 2, .* reads up to 1; a newer tinygpt",
    ),
    "format a boolean": (edit(lambda c: c.update(format=True)), "does not say which format"),
    "edited step": (edit(lambda c: c.update(step=11), rehash=False), "damaged or edited"),
    "edited meta": (edit(lambda c: c["meta"].update(seed=3), rehash=False), "damaged or edited"),
    "no sha256": (edit(lambda c: c.pop("sha256"), rehash=False), "damaged or edited"),
    "no meta": (edit(lambda c: c.pop("meta")), "should hold format, step, files, meta"),
    "step a string": (edit(lambda c: c.update(step="10")), "step is not a whole number"),
    "meta a list": (edit(lambda c: c.update(meta=[])), "its meta not a table"),
    "files a list": (edit(lambda c: c.update(files=[])), "files are not a table"),
    "file a list": (
        edit(lambda c: c["files"].update(model=["name", "sha256", "bytes"])),
        "group 'model' is not described",
    ),
    "file a string": (
        edit(lambda c: c["files"].update(model="x")),
        "group 'model' is not described",
    ),
    "path": (
        edit(lambda c: c["files"]["model"].update(name="../model-10.safetensors")),
        "cannot be in a file named '../model-10.safetensors'",
    ),
    "path as group": (
        edit(
            lambda c: c["files"].update(
                {"../model": {**c["files"]["model"], "name": "../model-10.safetensors"}}
            )
        ),
        "group '../model' cannot be in a file",
    ),
    "name a number": (edit(lambda c: c["files"]["model"].update(name=3)), "a file named 3"),
    "bytes a string": (edit(lambda c: c["files"]["model"].update(bytes="3")), "impossible sha256"),
    "missing file": (
        lambda f: (f / "model-10.safetensors").unlink(),
        "model-10.safetensors is missing, although",
    ),
    "cut file": (cut, "model-10.safetensors is damaged: it has .* bytes instead of"),
    "longer file": (lengthen, "model-10.safetensors is damaged: it has .* bytes instead of"),
    "folder": (replace_by_folder, "model-10.safetensors"),
    "one bit": (flip_a_bit, "model-10.safetensors is damaged: its sha256"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(tmp_path, monkeypatch, damage, message):
    monkeypatch.setattr(checkpoint, "MAX_JSON", 5000)
    save(tmp_path, 10)
    damage(tmp_path)
    if message == "nested too deeply":
        monkeypatch.setattr(checkpoint, "MAX_JSON", 10**6)
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for step in (10, 20):  # and a run that still has the numbers can save them
        save(tmp_path, step)
        assert_holds(tmp_path, step)


def test_arrays_that_match_their_hash_are_still_checked(tmp_path):
    save(tmp_path, 10)
    raw = b"\xff" * 20
    (tmp_path / "model-10.safetensors").write_bytes(raw)
    file = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": 20}
    edit(lambda contents: contents["files"]["model"].update(file))(tmp_path)
    with pytest.raises(ValueError, match="model-10.safetensors is not a sound safetensors file"):
        checkpoint.load(tmp_path)


def test_json_of_any_depth(tmp_path):
    for depth in range(50, 1500, 7):
        raw = b'{"format":1,"meta":' + b"[" * depth + b"]" * depth + b"}"
        (tmp_path / "checkpoint.json").write_bytes(raw)
        with pytest.raises(ValueError, match="cannot be used: it"):
            checkpoint.load(tmp_path)


def test_a_damaged_checkpoint_json_costs_no_arrays(tmp_path, monkeypatch):
    """A save that fails beside a damaged checkpoint.json leaves everything for a repair."""
    save(tmp_path, 10)
    text = (tmp_path / "checkpoint.json").read_bytes()
    (tmp_path / "checkpoint.json").write_bytes(text[:-5])
    with monkeypatch.context() as patch:
        Faults(patch, fail_at=3)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, 20)
    (tmp_path / "checkpoint.json").write_bytes(text)
    assert_holds(tmp_path, 10)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        checkpoint.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is not a folder"):
        checkpoint.load(tmp_path / "file")
    with pytest.raises(OSError, match="saving step 3 in .*file failed"):
        save(tmp_path / "file", 3)


def test_a_group_that_is_not_there(tmp_path):
    save(tmp_path, 10)
    with pytest.raises(ValueError, match="has no group 'ema'; it has model, optimizer"):
        checkpoint.load(tmp_path, groups=["ema"])


# ---- crashes ------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """Nothing runs after it: not even the clean-up in an except clause gets anything done."""


class Faults:
    """Make the call number `fail_at` that changes the disk fail: write, fsync, replace or unlink.

    Either once, as on a full disk, or from then on, as in a power cut. A failing write has written
    half of its bytes. `calls` tells what was called.
    """

    def __init__(self, monkeypatch, fail_at=None, power_cut=False):
        self.fail_at, self.power_cut, self.calls = fail_at, power_cut, []
        self.synced = {}  # name: how many bytes of the file were written when it was fsynced
        for name in ["fsync", "replace", "unlink"]:
            monkeypatch.setattr(os, name, self.watched(name, getattr(os, name)))
        monkeypatch.setattr(checkpoint, "open", self.open, raising=False)

    def call(self, name, *details):
        k = len(self.calls)
        self.calls.append((name, *details))
        if self.fail_at is None or k < self.fail_at:
            return
        if self.power_cut:
            raise PowerCut
        if k == self.fail_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def watched(self, name, function):
        def watched(*args, **options):
            if name == "fsync":
                file = Path(os.readlink(f"/proc/self/fd/{args[0]}")).name
                self.synced[file] = os.fstat(args[0]).st_size
                self.call(name, file)
            else:
                self.call(name, *(Path(arg).name for arg in args))
            return function(*args, **options)

        return watched

    def open(self, file, mode):
        stream = open(file, mode)  # noqa: SIM115
        write = stream.write

        class Watched:
            def __enter__(_):  # noqa: N805
                stream.__enter__()
                return _

            def __exit__(_, *error):  # noqa: N805
                return stream.__exit__(*error)

            def __getattr__(_, name):  # noqa: N805
                return getattr(stream, name)

            def write(_, chunk):  # noqa: N805
                write(chunk[: len(chunk) // 2])
                self.call("write", Path(file).name)
                write(chunk[len(chunk) // 2 :])

        return Watched()


needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="needs /proc to see what is fsynced"
)


def calls_of_a_save(folder, monkeypatch):
    save(folder, 10)
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        save(folder, 20)
    for name in ["model-20.safetensors", "optimizer-20.safetensors"]:
        assert faults.synced[name] == (folder / name).stat().st_size
    assert faults.synced["checkpoint.json.tmp"] == (folder / "checkpoint.json").stat().st_size
    return faults.calls


@needs_proc
def test_the_order_in_which_things_reach_the_disk(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    calls = [call for call in calls_of_a_save(folder, monkeypatch) if call[0] != "write"]
    assert calls[0] == ("fsync", "model-20.safetensors")
    assert calls[1] == ("fsync", "optimizer-20.safetensors")
    assert calls[2:4] == [("unlink", "checkpoint.json.tmp"), ("fsync", "checkpoint.json.tmp")]
    assert calls[4] == ("fsync", "run")
    assert calls[5] == ("replace", "checkpoint.json.tmp", "checkpoint.json")
    assert calls[6] == ("fsync", "run")
    old = [("unlink", "model-10.safetensors"), ("unlink", "optimizer-10.safetensors")]
    assert sorted(calls[7:]) == old


@needs_proc
@pytest.mark.parametrize("again", [False, True], ids=["next step", "same step"])
def test_a_power_cut_at_every_call_leaves_a_whole_checkpoint(tmp_path, monkeypatch, again):
    n = len(calls_of_a_save(tmp_path / "count", monkeypatch))
    outcomes = set()
    for k in range(n + 1):
        folder = tmp_path / str(k)
        save(folder, 10)
        (folder / "notes.txt").write_text("mine")
        new = arrays_of(20)
        with monkeypatch.context() as patch:
            Faults(patch, k, power_cut=True)
            try:
                checkpoint.save(folder, 10 if again else 20, new, meta_of(20))
                assert k == n
            except PowerCut:
                assert k < n
        arrays, meta, step = checkpoint.load(folder)
        if meta == meta_of(10):
            assert_same(arrays, arrays_of(10))
            assert step == 10
        else:
            assert meta == meta_of(20)
            assert_same(arrays, new)
            assert step == (10 if again else 20)
        outcomes.add(meta["seed"])

        # A second crash on top of the first, then a save that succeeds: it leaves no debris.
        with monkeypatch.context() as patch:
            Faults(patch, max(k - 2, 0) % 8, power_cut=True)
            with pytest.raises(PowerCut):
                save(folder, 30)
        checkpoint.load(folder)
        save(folder, 30)
        assert_holds(folder, 30)
        assert len(names(folder)) == 4
        assert (folder / "notes.txt").read_text() == "mine"
    assert outcomes == {10, 20}


@needs_proc
def test_a_disk_that_fills_up_at_every_call_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    calls = calls_of_a_save(tmp_path / "count", monkeypatch)
    for k, (name, *_) in enumerate(calls):
        folder = tmp_path / str(k)
        save(folder, 10)
        before = names(folder)
        with monkeypatch.context() as patch:
            Faults(patch, k)
            if name == "unlink" and calls[k] != ("unlink", "checkpoint.json.tmp"):
                save(folder, 20)  # an old file that will not go is no reason to fail
                assert_holds(folder, 20)
            else:
                message = f"saving step 20 in {folder} failed: No space left on device"
                with pytest.raises(OSError, match=message) as caught:
                    save(folder, 20)
                assert caught.value.errno == errno.ENOSPC
                renamed = ("replace", "checkpoint.json.tmp", "checkpoint.json") in calls[:k]
                assert_holds(folder, 20 if renamed else 10)
                assert names(folder) == before or renamed
        save(folder, 30)
        assert_holds(folder, 30)
        assert len(names(folder)) == 3


@needs_proc
def test_leftovers_go_before_their_space_is_needed(tmp_path, monkeypatch):
    save(tmp_path, 10)
    with monkeypatch.context() as patch:
        Faults(patch, fail_at=4, power_cut=True)
        with pytest.raises(PowerCut):
            save(tmp_path, 20)
    assert "model-20.safetensors" in names(tmp_path)
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        save(tmp_path, 30)
    assert ("unlink", "model-20.safetensors") in faults.calls[:2]


@needs_proc
def test_the_first_save_of_all_may_fail(tmp_path, monkeypatch):
    n = len(calls_of_a_save(tmp_path / "count", monkeypatch)) - 3  # up to the rename
    for k in range(n):
        folder = tmp_path / str(k)
        with monkeypatch.context() as patch:
            Faults(patch, k, power_cut=True)
            with pytest.raises(PowerCut):
                save(folder, 10)
        if k < n - 1:
            with pytest.raises(ValueError, match="there is no checkpoint in"):
                checkpoint.load(folder)
        save(folder, 20)
        assert_holds(folder, 20)
        assert len(names(folder)) == 3


SAVER = """
import sys
import numpy as np
from tinygpt import checkpoint
folder, step = sys.argv[1], int(sys.argv[2])
while True:
    step += 1
    arrays = {"a": {"w": np.full(50_000, step)}, "b": {"w": np.full(20_000, -step)}}
    checkpoint.save(folder, step, arrays, {"step": step})
    print(step, flush=True)
"""


def kill_while_saving(folder, times, seed):
    """SIGKILL a process that saves without pause, at random instants, always in the same folder."""
    rng = random.Random(seed)
    step = 0
    for _ in range(times):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(folder), str(step)], stdout=subprocess.PIPE, text=True
        )
        first = child.stdout.readline()
        time.sleep(rng.random() * 0.1)
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        reported = int((first + rest).split()[-1])

        arrays, meta, step = checkpoint.load(folder)
        assert step in (reported, reported + 1)  # what save has returned from is never lost
        assert meta == {"step": step}
        assert set(arrays["a"]["w"]) == {step}
        assert set(arrays["b"]["w"]) == {-step}
        assert len(names(folder)) <= 6
    checkpoint.save(folder, step, arrays, {})
    assert len(names(folder)) == 3


needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@needs_sigkill
def test_killed_processes_leave_a_whole_checkpoint(tmp_path):
    kill_while_saving(tmp_path, times=2, seed=0)


@needs_sigkill
@pytest.mark.slow
def test_fifty_killed_processes_leave_a_whole_checkpoint(tmp_path):
    kill_while_saving(tmp_path, times=50, seed=1)


# ---- mutations ----------------------------------------------------------------------------------


def mutate(raw, rng):
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 3])):
        place = rng.randrange(len(raw))
        match rng.randrange(4):
            case 0:
                raw[place] ^= 1 << rng.randrange(8)
            case 1:
                raw[place] = rng.choice(b'0123456789{}[]",:-.eE \0\xff')
            case 2:
                del raw[place : place + rng.choice([1, 1, 8, 100])]
            case 3:
                raw[place:place] = raw[place : place + rng.choice([1, 8, 100])]
        if not raw:
            break
    return bytes(raw)


def check_mutations(folder, times, seed):
    """A changed file is a ValueError, or the change means nothing (white space in JSON)."""
    save(folder, 10)
    rng = random.Random(seed)
    good = {path: path.read_bytes() for path in folder.iterdir()}
    refused = 0
    for _ in range(times):
        path = rng.choice([folder / "checkpoint.json", *good])
        path.write_bytes(mutate(good[path], rng))
        try:
            assert_holds(folder, 10)
        except ValueError:
            refused += 1
        path.write_bytes(good[path])
    assert refused > times / 2


def test_mutated_files(tmp_path):
    check_mutations(tmp_path, 500, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_thousands_of_mutated_files(tmp_path, seed):
    check_mutations(tmp_path, 5000, seed)
