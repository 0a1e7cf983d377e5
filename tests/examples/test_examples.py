"""The path of examples: what each says it prints at its top is what it prints.

A promise is compared with what was printed word by word, and its numbers like this: 1.83 is kept by
anything from 1.82 to 1.84 (another BLAS, or another number of threads, rounds differently), 2e-10
by anything within a factor of ten (errors of finite differences are rounding), and "..." by
anything at all. Examples that take longer run shortened, and must print the same lines with other
numbers; pytest -m slow runs them in full and compares the numbers too.
"""

import ast
import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from training_script import load_script

from tinygpt import GPT, GPTConfig, data, tokenizers

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = ["01_one_op", "02_by_hand", "03_by_tape", "04_gradcheck", "05_your_own_op", "09_tokenizer"]
LONG = ["06_bigram", "07_rnn", "08_gpt", "10_your_own_text", "12_learning_rate"]
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


# ---- promises -----------------------------------------------------------------------------------


def promise(name):
    """What the example says it prints: the end of its docstring, after "Prints:"."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8")))
    before, promised = re.split(r"^Prints.*:\n", docstring, flags=re.MULTILINE)
    return textwrap.dedent(promised).strip()


def keeps(printed, promised, numbers=True):
    """Whether the promise is kept: word by word and, with `numbers`, number by number."""
    pattern = re.escape(NUMBER.sub("\0", promised)).replace("\0", f"({NUMBER.pattern})")
    pattern = re.sub(r"(\\ )+", r"\\s+", pattern)  # numbers in columns
    pattern = pattern.replace(r"\.\.\.", ".*?").replace(r"\n", r"\s*\n\s*")
    match = re.fullmatch(pattern, printed.strip(), flags=re.DOTALL)
    if not match or not numbers:
        return bool(match)
    pairs = zip(match.groups(), NUMBER.findall(promised), strict=True)
    return all(near(found, wanted) for found, wanted in pairs)


def near(found, wanted):
    a, b = float(found.replace(",", "")), float(wanted.replace(",", ""))
    if "e" in wanted:  # the size of a rounding error
        return b / 10 < a < b * 10
    digits = len(wanted.partition(".")[2])
    return abs(a - b) < 1.5 * 10**-digits if digits else a == b


def run(name, *arguments, **options):
    """Call the example's main()."""
    main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    main(*arguments, **options)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)  # as `python examples/06_bigram.py` does
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ("loss   1.83, 3,844 parameters: a.py off by 2.0e-10\nand more", True),
        ("loss 1.84, 3,844 parameters: b.py off by 5.0e-11\nand", True),
        ("loss 1.85, 3,844 parameters: a.py off by 2.0e-10\nand", False),  # a number
        ("loss 1.83, 3,845 parameters: a.py off by 2.0e-10\nand", False),  # a whole number
        ("loss -1.83, 3,844 parameters: a.py off by 2.0e-10\nand", False),  # a sign
        ("loss 1.83, 3,844 parameters: a.py off by 2.0e-8\nand", False),  # an order of magnitude
        ("lost 1.83, 3,844 parameters: a.py off by 2.0e-10\nand", False),  # a word
        ("loss 1.83, 3,844 parameters: a.py off by 2.0e-10", False),  # a line less
        ("1 more\nloss 1.83, 3,844 parameters: a.py off by 2.0e-10\nand", False),  # a line more
        ("loss 1.83, 3,844 parameters: a.py off by nan\nand", False),
    ],
)
def test_a_promise_can_be_broken(printed, kept):
    promised = "loss 1.83, 3,844 parameters: ... off by 2e-10\nand..."
    assert keeps(printed, promised) == kept


# ---- the examples -------------------------------------------------------------------------------


in_full = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]


@pytest.mark.parametrize("name", in_full)
def test_prints_what_it_promises(name, capsys):
    run(name)
    printed = capsys.readouterr().out
    assert keeps(printed, promise(name)), (
        f"{name} printed\n{printed}\nand promises\n{promise(name)}"
    )


@pytest.fixture
def shorter_play(monkeypatch):
    play = data.play
    monkeypatch.setattr(data, "play", lambda characters: play(characters // 5))


@pytest.mark.usefixtures("shorter_play")
@pytest.mark.parametrize("name", LONG)
def test_shortened_prints_the_same_lines_with_other_numbers(name, capsys):
    run(name, steps=2)
    printed = capsys.readouterr().out
    assert keeps(printed, shortened(promise(name)), numbers=False), printed


def shortened(promised):
    """The promise of a run of two steps, which reports once: at its last one."""
    reports = re.findall(r"^step.*\n", promised, flags=re.MULTILINE)
    for line in reports[1:]:
        promised = promised.replace(line, "", 1)
    return promised


@pytest.mark.usefixtures("shorter_play")
def test_without_matplotlib_there_is_no_picture(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run("12_learning_rate", steps=1)
    assert "pip install matplotlib" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_by_hand_and_by_tape_are_the_same_numbers():
    assert promise("02_by_hand") == promise("03_by_tape")


def test_a_model_of_your_own_text_can_write(tmp_path, capsys):
    text = tmp_path / "mine.txt"
    text.write_text("Of arms and the man I sing.\n" * 30, encoding="utf-8")
    run("10_your_own_text", str(text), steps=2, folder="mine")
    assert "840 characters" in capsys.readouterr().out
    run("11_generate", "mine", n=70)  # past the block size, where the cache is filled anew
    printed = capsys.readouterr().out
    assert keeps(printed, promise("11_generate")), printed


# ---- a folder of Hugging Face, trained further ---------------------------------------------------


def walk_through():
    """What the docstring of finetune_gpt2.py says one should type: two commands, and Python."""
    path = EXAMPLES / "finetune_gpt2.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    _, train, code, finetune, _ = re.split(
        r"first\. .*:\n|then, in Python:|and train.*:|Prints", docstring
    )
    words = [train.replace("\\\n", " ").split(), finetune.split()]
    assert [w[:2] for w in words] == [
        ["python", "examples/train_shakespeare.py"],
        ["python", "examples/finetune_gpt2.py"],
    ]
    return words[0][2:], textwrap.dedent(code), words[1][2:]


def replaced(words, **options):
    """A command line in which options have other values."""
    words = list(words)
    for name, value in options.items():
        words[words.index(f"--{name.replace('_', '-')}") + 1] = str(value)
    return words


@pytest.fixture
def small_folder(tmp_path, monkeypatch):
    """The folder that the walk-through makes, of a smaller model, from fewer steps on less text."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # no picture
    monkeypatch.setattr(GPT, "generate", lambda self, ids, n, **how: np.array(ids))  # no sample
    small = ["--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--block-size", "16"]
    train, code, _ = walk_through()
    Path("README.md").write_text(
        "# A page\n\nIt is to be read, and not sung.\n" * 50, encoding="utf-8"
    )
    Path("short.txt").write_text("To be, or not to be:\n" * 200, encoding="utf-8")
    shorter = replaced(train, text="short.txt", vocab_size=260, steps=2)
    run("train_shakespeare", [*shorter, *small])
    Path("export.py").write_text(code, encoding="utf-8")
    runpy.run_path("export.py")
    return tmp_path / "runs/small-folder"


def test_finetuning_goes_as_it_says(small_folder, capsys):
    _, _, finetune = walk_through()
    ends = '{"eos_token_id": 3}'
    (small_folder / "generation_config.json").write_text(ends, encoding="utf-8")
    capsys.readouterr()
    run("finetune_gpt2", [*finetune, "--steps", "3", "--lr", "1e-3"])
    promised = re.sub(r"step  [24]0.*\n", "", promise("finetune_gpt2")).replace(
        "step  60", "step   3"
    )
    printed = capsys.readouterr().out
    assert keeps(printed, promised, numbers=False), printed

    before, after = GPT.from_pretrained(small_folder), GPT.from_pretrained("runs/finetuned")
    assert before.config == after.config
    assert (before.wte.weight.data != after.wte.weight.data).any()
    assert Path("runs/finetuned/generation_config.json").read_text(encoding="utf-8") == ends
    tokenizer = tokenizers.load("runs/finetuned/tokenizer.json")
    assert tokenizer.to_dict() == tokenizers.load(small_folder / "tokenizer.json").to_dict()


def test_the_walk_through_counts_the_parameters_of_its_model():
    train, _, _ = walk_through()
    script = load_script()
    options = script.model_options(script.fresh_settings(script.parse(train)))
    count = GPTConfig(int(train[train.index("--vocab-size") + 1]), **options).parameter_count
    assert f" {count:,} parameters; " in promise("finetune_gpt2")


def test_micro_batches_of_any_size_learn_the_same(small_folder):
    weights = []
    for size in (1, 3, 5):
        command = [str(small_folder), "README.md", "--steps", "3", "--batch-size", "5"]
        run("finetune_gpt2", [*command, "--micro-batch-size", str(size), "--out", f"of-{size}"])
        weights.append(GPT.from_pretrained(f"of-{size}").state_dict())
    start = GPT.from_pretrained(small_folder).state_dict()
    for name, w in weights[0].items():
        moved = np.abs(w - start[name]).max()
        assert moved > 0
        assert all(np.abs(other[name] - w).max() < 0.01 * moved for other in weights[1:])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["finetune_gpt2", "nowhere", "README.md"], "there is no folder nowhere"),
        (["finetune_gpt2", "."], "the following arguments are required: text"),
        (["finetune_gpt2", ".", "my.txt", "--out", __file__], "is a file; --out takes a folder"),
        (["finetune_gpt2", ".", "my.txt", "--out", "."], "is the folder to start from"),
        (["10_your_own_text", "missing.txt"], "there is no file missing.txt"),
        (["10_your_own_text", "a", "b"], "give one text file, or nothing"),
        (["11_generate"], "10_your_own_text.py makes that one"),
        (["11_generate", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_gets_a_sentence(arguments, sentence, monkeypatch, capsys):
    name, *arguments = arguments
    path = str(EXAMPLES / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    with pytest.raises(SystemExit) as end:  # any other error would be a traceback
        runpy.run_path(path, run_name="__main__")
    if isinstance(end.value.code, str):  # which Python prints, and ends with status 1
        assert sentence in end.value.code
    else:
        assert end.value.code in (1, 2)
        assert sentence in capsys.readouterr().err


def test_runs_as_a_script():
    result = script("01_one_op")
    assert (result.returncode, result.stderr) == (0, "")
    assert keeps(result.stdout, promise("01_one_op"))


def script(name, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    return subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip


# ---- their table --------------------------------------------------------------------------------


def test_the_readme_lists_every_example_in_order():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+\.py)\]\((\w+\.py)\) \|", readme, flags=re.MULTILINE)
    assert all(label == target for label, target in rows)
    files = sorted(path.name for path in EXAMPLES.glob("*.py"))
    files.remove("same_measure.py")  # not an example: what 06, 07 and 08 share
    assert [label for label, _ in rows] == files  # numbers first, then train_shakespeare.py


def test_the_readme_gives_the_losses_that_the_examples_promise():
    losses = re.findall(r"\d\.\d\d", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    promises = [promise(name) for name in ("06_bigram", "07_rnn", "08_gpt")]
    assert len(losses) == 5
    assert all(loss in "".join(promises) for loss in losses)


def test_every_example_is_tested():
    numbered = sorted(path.stem for path in EXAMPLES.glob("[0-9]*.py"))
    assert numbered == sorted([*QUICK, *LONG, "11_generate"])
