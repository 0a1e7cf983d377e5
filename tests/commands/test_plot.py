"""python -m tinygpt plot: what is drawn, what is printed, what is said to mistakes."""

import json
import math
import subprocess
import sys

import pytest

from tinygpt.__main__ import main
from tinygpt.commands import plot

PNG = b"\x89PNG\r\n\x1a\n"


def entry(step, **changes):
    """What a run logs at this step: every number another one."""
    return {
        "step": step,
        "elapsed_seconds": step / 10,
        "train_loss": 2 + 10 / step,
        "val_loss": 2.5 + 10 / step,
        "lr": 0.001 / step,
        "grad_norm": 0.5 + 1 / step,
        "tokens_per_second": 1000.0 + step,
        **changes,
    }


def write_log(folder, *entries):
    folder.mkdir(parents=True)
    lines = [json.dumps(e) + "\n" for e in entries]
    (folder / "log.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_log(tmp_path / "run", entry(100), entry(200))


def picture_of(*folders):
    pytest.importorskip("matplotlib", reason="looks at a picture, and matplotlib is not installed")
    return plot.picture(plot.read_runs(folders))


def lines(axes):
    """What is drawn: for each line its points."""
    return [list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()]


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# ---- the picture --------------------------------------------------------------------------------


def test_every_quantity_is_drawn_over_steps_and_over_seconds(folder):
    by_step, by_second = [], []
    for axes in picture_of(folder).axes:
        (by_second if axes.get_subplotspec().colspan.start else by_step).append(lines(axes))
    for panels, over in ((by_step, "step"), (by_second, "elapsed_seconds")):
        for panel, names in zip(
            panels,
            [["train_loss", "val_loss"], ["lr"], ["grad_norm"], ["tokens_per_second"]],
            strict=True,
        ):
            expected = [[(e[over], e[name]) for e in (entry(100), entry(200))] for name in names]
            assert panel == expected


def test_the_axes_say_what_they_show(folder):
    figure = picture_of(folder)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["loss (nats per token)", "learning rate", "gradient norm", "tokens/s"]
    below = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert below == ["steps", "seconds of training"]


def test_several_runs_have_a_colour_and_a_name_each(folder, tmp_path):
    other = write_log(tmp_path / "elsewhere" / "other", *(entry(n) for n in (50, 100, 300)))
    figure = picture_of(folder, other)
    assert texts(figure) == ["run", "other", "validation", "training"]
    first, *_, last = figure.axes
    assert [len(points) for points in lines(first)] == [2, 2, 3, 3]
    colours = [line.get_color() for line in first.get_lines()]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    keys = [line.get_color() for line in figure.legends[0].get_lines()]
    assert keys[:2] == [colours[0], colours[2]]
    assert [line.get_color() for line in last.get_lines()] == [colours[0], colours[2]]


def test_runs_of_one_name_are_named_by_their_paths(folder, tmp_path):
    other = write_log(tmp_path / "elsewhere" / "run", entry(100))
    assert texts(picture_of(folder, other))[:2] == [str(folder), str(other)]


def test_a_folder_may_be_given_as_a_dot(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (run,) = plot.read_runs([plot.Path(".")])
    assert run.name == "run"


def test_the_floor_is_a_line_across_both_pictures_of_the_loss(folder, tmp_path):
    known = write_log(tmp_path / "play", entry(100, floor=1.25), entry(200, floor=1.25))
    again = write_log(tmp_path / "again", entry(100, floor=1.25))
    figure = picture_of(folder, known, again)
    assert texts(figure)[-1] == "floor, 1.2500"
    for axes in figure.axes[:2]:
        assert lines(axes)[-1] == [(0, 1.25), (1, 1.25)]  # from edge to edge
        assert sum(points[0][1] == 1.25 for points in lines(axes)) == 1
        bottom, _ = axes.get_ylim()
        assert bottom < 1.25
    assert not any("floor" in text for text in texts(picture_of(folder)))


def test_all_that_is_drawn_can_be_seen(folder, tmp_path):
    small = write_log(tmp_path / "small", entry(1, lr=1e-9, grad_norm=0.0, tokens_per_second=0.1))
    large = write_log(tmp_path / "large", entry(900, lr=9.0, grad_norm=90.0, floor=0.1))
    for axes in picture_of(small, large, folder).axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for line in axes.get_lines()[:6]:
            for x, y in zip(*line.get_data(), strict=True):
                assert left <= x <= right
                assert bottom <= y <= top


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("_$x^$" + "long-" * 40, [entry(100)]),
        ("odd", [entry(100), entry(200, grad_norm=math.inf, train_loss=math.nan)]),
        ("nothing", [entry(100, val_loss=math.nan, lr=0, elapsed_seconds=0)]),
    ],
)
def test_any_log_makes_a_picture(name, entries, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="draws")
    folder = write_log(tmp_path / name, *entries)
    assert main(["plot", str(folder)]) == 0
    assert (folder / "loss.png").read_bytes().startswith(PNG)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{name}: {entries[-1]['step']} steps")
    assert printed[1] == f"picture: {folder / 'loss.png'}"


def test_names_stay_within_the_picture(tmp_path):
    folders = [write_log(tmp_path / (f"{n}-" + "name" * 50), entry(100)) for n in range(3)]
    figure = picture_of(*folders)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch):
    """Where pictures would have been saved."""
    files = []
    monkeypatch.setattr(plot, "draw", lambda runs, file: files.append(str(file)))
    return files


def test_a_line_of_text_for_each_run(tmp_path, capsys, drawn):
    entries = [
        entry(100, val_loss=1.5, elapsed_seconds=10.0, tokens_per_second=300.0),
        entry(200, val_loss=1.25, elapsed_seconds=20.0, tokens_per_second=100.0),
        entry(1200, val_loss=1.75, elapsed_seconds=40.0, tokens_per_second=1000.0),
    ]
    a, b = write_log(tmp_path / "a", *entries), write_log(tmp_path / "b", *entries[:1])
    assert main(["plot", str(a), str(b)]) == 0
    # (10 s * 300 + 10 s * 100 + 20 s * 1000) / 40 s = 600
    assert capsys.readouterr().out.splitlines() == [
        "a: 1,200 steps, best val_loss 1.2500, 40.0 seconds of training, 600 tokens/s",
        "b: 100 steps, best val_loss 1.5000, 10.0 seconds of training, 300 tokens/s",
        "picture: runs.png",
    ]
    assert drawn == ["runs.png"]


def test_where_the_picture_goes(folder, tmp_path, drawn):
    assert main(["plot", str(folder)]) == 0
    assert main(["plot", str(folder), "--out", "my.pdf"]) == 0
    assert drawn == [str(folder / "loss.png"), "my.pdf"]


def test_the_suffix_is_the_format(folder, tmp_path):
    pytest.importorskip("matplotlib", reason="draws")
    assert main(["plot", str(folder), "--out", str(tmp_path / "a.svg")]) == 0
    assert "<svg" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_half_a_line_at_the_end_is_left_out(folder, capsys, drawn):
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(entry(300))[:-20])
    assert main(["plot", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("run: 200 steps")


def test_the_last_line_counts_without_its_end_of_line(folder, capsys, drawn):
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(entry(300)))
    assert main(["plot", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("run: 300 steps")


def test_without_matplotlib_there_is_text_and_a_way_out(folder, capsys, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)  # to import it is an ImportError
    assert main(["plot", str(folder)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("run: 200 steps")
    assert "picture" not in printed.out
    assert 'pip install "tinygpt[plot]"' in printed.err
    assert printed.err.count("\n") == 1


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, tinygpt.__main__; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


GOOD = json.dumps(entry(1)) + "\n"


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (None, "no log.jsonl"),
        ("", "is empty"),
        ('{"step": 1', "is empty"),
        (GOOD + "oops\n", "line 2 should be a JSON object"),
        (GOOD + GOOD[:-20] + "\n" + GOOD, "line 2 should be a JSON object"),
        (GOOD + "[1, 2]\n", "line 2 should be a JSON object"),
        (GOOD + "\xff\x00\n", "line 2 should be a JSON object"),
        (GOOD + '{"step": 1}\n', "line 2: train_loss should be a number, not None"),
        (json.dumps(entry(1, lr="fast")), "line 1: lr should be a number, not 'fast'"),
        (json.dumps(entry(1, lr=True)), "line 1: lr should be a number, not True"),
        (json.dumps(entry(1, floor="low")), "line 1: floor should be a number, not 'low'"),
    ],
)
def test_a_wrong_log_gets_a_sentence(log, sentence, tmp_path, capsys, drawn):
    if log is not None:
        (tmp_path / "log.jsonl").write_bytes(log.encode("latin-1"))
    assert main(["plot", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert str(tmp_path) in printed.err
    assert printed.err.count("\n") == 1
    assert drawn == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["RUN", "nowhere"], "nowhere is not a folder"),
        (["RUN", "--out", "picture"], "try picture.png"),
    ],
)
def test_wrong_arguments_get_a_sentence(arguments, sentence, folder, capsys, drawn):
    assert main(["plot", *[str(folder) if a == "RUN" else a for a in arguments]]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert drawn == []


def test_an_unknown_format_gets_a_sentence(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="asks it")
    assert main(["plot", str(folder), "--out", str(tmp_path / "a.gpt")]) == 1
    assert "'gpt' is not supported" in capsys.readouterr().err


def test_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as end:
        main(["plot", "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "--out FILE" in printed
    assert "DIR" in printed
