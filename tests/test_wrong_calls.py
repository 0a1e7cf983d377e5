"""Whatever is typed or passed wrong ends with one sentence that says what was wrong."""

import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from training_script import SCRIPT, TINY, load_script, write_text

from tinygpt import (
    GPT,
    SGD,
    AdamW,
    GPTConfig,
    Muon,
    Tensor,
    accumulate_gradients,
    checkpoint,
    data,
    gradcheck,
    ops,
    tokenizers,
)
from tinygpt.__main__ import main
from tinygpt.commands import command_line

# ---- command lines ------------------------------------------------------------------------------

TRAIN = {  # what is typed after train_shakespeare.py: what it has to say
    "--n-layers 3": "unknown option --n-layers; did you mean --n-layer?",
    "--n-layers=3": "unknown option --n-layers; did you mean --n-layer?",
    "--stpes 10": "unknown option --stpes; did you mean --steps?",
    "--ste 10": "unknown option --ste; did you mean --steps?",
    "--quux 10": "unknown option --quux; --help lists all",
    "-lr 1": "unknown option -lr; did you mean --lr?",
    "my.txt": "unknown argument my.txt",
    "--preset nanogtp": "unknown --preset nanogtp; did you mean nanogpt?",
    "--preset tiny": "unknown --preset tiny; there are default, best, nanogpt-cpu, nanogpt",
    "--device gpu": "unknown --device gpu; did you mean cpu? (there are auto, cpu, cuda)",
    "--tokenizer bep": "unknown --tokenizer bep; did you mean bpe?",
    "--position ropr": "unknown --position ropr; did you mean rope?",
    "--activation gelu-tanh": "unknown --activation gelu-tanh; did you mean gelu_tanh?",
    "--out": "--out: expected one argument",
    "--steps 0": "--steps: 0 is not a whole number above 0",
    "--steps 1e3": "--steps: 1e3 is not a whole number above 0",
    "--batch-size -4": "--batch-size: -4 is not a whole number above 0",
    "--lr nan": "--lr: nan is not a number above 0",
    "--lr fast": "--lr: fast is not a number above 0",
    "--time-limit -1": "--time-limit: -1 is not a number above 0",
    "--seed -1": "--seed: -1 is not a whole number from 0 up",
    "--n-embd 2.5": "--n-embd: invalid int value: '2.5'",
    "--n-embd 30 --n-head 4": "n_embd=30 is not a multiple of n_head=4; try n_head=3",
    "--n-head 0": "n_head must be a whole number from 1 up, not 0",
    "--n-kv-head 3": "n_head=4 is not a multiple of n_kv_head=3",
    "--sinks 4": "sinks=4 needs a window, such as window=256",
    "--window 8 --window-layers 0 9": "window_layers names layer 9, and n_layer=2 ends before",
    "--n-expert 1": "n_expert_per_token=2 is more than n_expert=1",
    "--dropout 1.5": "dropout must be at least 0 and below 1, not 1.5",
    "--vocab-size 300": "--vocab-size is for --tokenizer bpe",
    "--tokenizer bpe --vocab-size 100 --text TEXT": "256 bytes",
    "--tokenizer bpe --vocab-size 9000 --text TEXT": "more than this text has pairs for",
    "--text missing.txt": "there is no file missing.txt",
    "--text .": ". is a folder; give the path of a text file",
    "--text empty.txt": "empty.txt is empty",
    "--text latin1.txt": "not UTF-8 text: byte 0xe9 at offset 3 (line 1)",
    "--text short.txt": "there are 18 tokens, and block_size=64 needs 65 or more",
    "--text TEXT --block-size 100000": "block_size=100000 needs 100,001 or more",
    "--text TEXT --out TEXT": "text.txt is a file; --out takes a folder",
    "--text TEXT --out TEXT/run": "text.txt/run",
    "--text TEXT --out RUN": "has a run in it already; go on with it by --resume",
    "--text TEXT --n-embd 100000000000000": "not enough memory",
    "--text TEXT --device cuda": 'device "cuda" needs CuPy, which is not installed; try: ',
    "--resume nowhere": "there is no run to go on with in nowhere",
    "--resume RUN/checkpoint": "--resume takes the folder into which a run wrote",
    "--resume RUN --lr 1": "--resume cannot have --lr",
    "--resume RUN --text empty.txt": "empty.txt is empty",
    "--resume RUN --text other.txt": "learns another text than other.txt",
    "--resume FOREIGN": "was saved by something else than a run of this script",
    "--resume CUT": "is damaged: it has",
    "--resume TAMPERED": "is damaged: its sha256",
    "--resume EDITED": "its contents do not match their sha256",
}
COMMANDS = {  # what is typed after python -m tinygpt
    "": "the following arguments are required: COMMAND",
    "plto": "unknown command plto; did you mean plot?",
    "plot": "the following arguments are required: DIR",
    "plot nowhere": "nowhere",
    "plot RUN --out picture": "does not say which format; try picture.png",
    "graph --n-layers 1": "unknown option --n-layers; did you mean --n-layer?",
    "graph --n-layer 0": "n_layer must be a whole number from 1 up, not 0",
    "generat": "unknown command generat; did you mean generate?",
    "quux": "unknown command quux; there are gradcheck",
    "gradcheck --sed 1": "unknown option --sed; did you mean --seed?",
    "gradcheck --seed one": "--seed: one is not a whole number from 0 up",
    "generate": "the following arguments are required: model",
    "generate nowhere": "nowhere is not a folder",
    "generate TEXT": "text.txt is not a folder",
    "generate THEIRS": "theirs/config.json is missing",
    "card RUN": "run is the folder of a run; its best model is in run/best",
    "card THEIRS": "theirs/config.json is missing",
    "graph RUN": "run is the folder of a run; its best model is in run/best",
    "generate RUN": "run is the folder of a run; its best model is in run/best",
    "generate BEST --tempreature 1": "unknown option --tempreature; did you mean --temperature?",
    "generate BEST --temperature hot": "--temperature: invalid float value: 'hot'",
    "generate BEST --temperature -1": "temperature must be at least 0, not -1.0",
    "generate BEST --top-k 0": "top_k must be at least 1, not 0",
    "generate BEST --top-p 2": "top_p must be above 0 and at most 1, not 2.0",
    "generate BEST --min-p 0": "min_p must be above 0 and at most 1, not 0.0",
    "generate BEST --repetition-penalty 0": "repetition_penalty must be above 0, not 0",
    "generate BEST --stop=": "a stop string must be a text of at least one character",
    "generate BEST --max-new-tokens -1": "--max-new-tokens: -1 is not a whole number from 0 up",
    "generate BEST --seed -1": "--seed: -1 is not a whole number from 0 up",
    "generate BEST --prompt Z": "the character 'Z' (U+005A) at offset 0 (line 1, column 1)",
    "generate BEST --prompt=": "--prompt is empty",
    "generate BEST --device cuda": 'device "cuda" needs CuPy, which is not installed; try: ',
    "generate CUT/checkpoint": "is damaged: it has",
    "generate TAMPERED/checkpoint": "is damaged: its sha256",
    "generate MIXED": "a model of 3 tokens, and a tokenizer of 4: they do not belong together",
    "generate MISFIT": "does not hold a GPT",
    "perplexity BEST": "the following arguments are required: file",
    "perplexity BEST missing.txt": "missing.txt: No such file",
    "perplexity BEST empty.txt": "empty.txt has 0 tokens, and two are the least that can be scored",
    "perplexity BEST TEXT --stride 0": "--stride: 0 is not a whole number above 0",
    "perplexity BEST TEXT --stride 100": "stride must be between 1 and block_size=",
}


@pytest.fixture(scope="module")
def script():
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield load_script()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def here(script, tmp_path_factory):
    """A folder with a run in it, damaged copies of it, and texts that are no good."""
    here = tmp_path_factory.mktemp("here")
    text = write_text(here)
    (here / "empty.txt").touch()
    (here / "short.txt").write_text("to be or not to be, ", encoding="utf-8")
    (here / "latin1.txt").write_bytes(b"caf\xe9\n" * 50)
    (here / "other.txt").write_text("another text altogether\n" * 50, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        script.main([*TINY, "--steps", "2", "--text", text, "--out", str(here / "run")])
    for name in ("cut", "tampered", "edited"):
        shutil.copytree(here / "run", here / name)
    weights = here / "cut" / "checkpoint" / "model-2.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    weights = here / "tampered" / "checkpoint" / "model-2.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    settings = here / "edited" / "checkpoint" / "checkpoint.json"
    settings.write_text(settings.read_text().replace('"steps": 2', '"steps": 3'))
    shutil.copytree(here / "run" / "best", here / "foreign" / "checkpoint")
    tokenizer = tokenizers.Char.train("abc")
    model = GPT(GPTConfig(tokenizer.vocab_size, 8, n_layer=1, n_head=1, n_embd=4))
    arrays = {"model": model.state_dict()}
    config = asdict(model.config)
    tokenizer = tokenizers.Char.train("abcd").to_dict()
    checkpoint.save(here / "mixed", 0, arrays, {"config": config, "tokenizer": tokenizer})
    config = {**config, "n_embd": 5}
    checkpoint.save(here / "misfit", 0, arrays, {"config": config, "tokenizer": tokenizer})
    theirs = GPT(GPTConfig(3, 8, n_layer=1, n_head=1, n_embd=4))
    theirs.export(here / "theirs", tokenizers.Char.train("abc"))
    (here / "theirs" / "config.json").unlink()
    return here


def words(line):
    """TEXT and BEST are places in the folder, as CUT is cut/."""
    places = {"TEXT": "text.txt", "BEST": "run/best"}
    named = lambda m: places.get(m.group(), m.group().lower())  # noqa: E731
    return [re.sub("^[A-Z]{3,}", named, word) for word in line.split()]


def assert_one_sentence(status, stderr, sentence):
    assert status not in (0, None)
    assert sentence in stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert stderr.startswith("error: ")
    assert "Errno" not in stderr


def in_process(main, arguments):
    try:
        return command_line.run(main, arguments)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(("line", "sentence"), TRAIN.items(), ids=TRAIN)
def test_training(script, here, line, sentence, monkeypatch, capsys):
    before = sorted(here.iterdir())
    monkeypatch.chdir(here)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    status = in_process(script.main, words(line))
    assert_one_sentence(status, capsys.readouterr().err, sentence)
    assert sorted(here.iterdir()) == before  # nothing was begun


@pytest.mark.parametrize(("line", "sentence"), COMMANDS.items(), ids=COMMANDS)
def test_commands(here, line, sentence, monkeypatch, capsys):
    monkeypatch.chdir(here)
    monkeypatch.setitem(sys.modules, "cupy", None)
    status = in_process(main, words(line))
    printed = capsys.readouterr()
    assert_one_sentence(status, printed.err, sentence)
    assert printed.out == ""


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([SCRIPT, "--n-layers", "3"], "did you mean --n-layer?"),
        (["-m", "tinygpt", "generat"], "did you mean generate?"),
    ],
    ids=["option", "command"],
)
def test_in_a_process_of_its_own(command, sentence, tmp_path):
    result = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert_one_sentence(result.returncode, result.stderr, sentence)


def test_ctrl_c_before_there_is_anything_to_save(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert command_line.run(interrupted) == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"


# ---- calls from Python --------------------------------------------------------------------------


def model(**options):
    return GPT(GPTConfig(11, 7, n_layer=1, n_head=2, n_embd=8, **options))


def parameters():
    return model().parameters()


def char():
    return tokenizers.Char.train("abc")


X = np.ones((2, 3))
CALLS = {
    "ids of floats": (lambda: model()([[1.5]]), "ids must be integers, not float64"),
    "ids of text": (lambda: model()("abc"), "ids must be integers, not <U3"),
    "ids in a row": (lambda: model()([1, 2]), r"must have shape \(batch, time\), not \(2,\)"),
    "ids of two lengths": (lambda: model()([[1, 2], [3]]), "ids must be rows of equal length"),
    "an id too large": (lambda: model()([[11]]), "ids holds 11, which is not in 0 .. 10"),
    "an id below 0": (lambda: model()([[-1]]), "ids holds -1, which is not in 0 .. 10"),
    "too many ids": (lambda: model()([[1] * 8]), "8 tokens do not fit in block_size=7"),
    "a target too large": (lambda: model().loss([[1]], [[11]]), "targets holds 11"),
    "too few targets": (lambda: model().loss([[1, 2]], [[1]]), r"targets have shape \(1, 1\)"),
    "no target": (
        lambda: accumulate_gradients(model().loss, [[1]], [[-1]]), "every target is -1",
    ),
    "too many pieces": (
        lambda: accumulate_gradients(model().loss, [[1]], [[1]], micro_batches=2),
        "micro_batches must be between 1 and the batch size 1, not 2",
    ),
    "no config": (lambda: GPT({"n_layer": 1}), "GPT takes a GPTConfig, not dict"),
    "a seed below 0": (lambda: GPT(GPTConfig(), rng=-1), "rng must be an int from 0 up .* not -1"),
    "weights of ints": (lambda: GPT(GPTConfig(), dtype="int32"), "weights are floats, .* int32"),
    "no such device": (
        lambda: GPT(GPTConfig(11, 7, 1, 1, 4), device="gpu"), 'device must be "auto", "cpu" or',
    ),
    "no such field": (lambda: GPTConfig(n_layers=3), "unexpected keyword argument 'n_layers'"),
    "a field of text": (lambda: GPTConfig(dropout="high"), "dropout must be a number, not 'high'"),
    "heads that do not fit": (lambda: GPTConfig(n_embd=100, n_head=6), "try n_head=5"),
    "no tokenizer": (lambda: model().save("x", "char"), "expected a tokenizer, not str"),
    "a name to export": (lambda: model().export("x", "char"), "expected a tokenizer, not str"),
    "nobody's model": (
        lambda: model(bias=False).export("x"), "nearest, gpt2, cannot have bias=False",
    ),
    "tokens below 0": (lambda: model().generate([[1]], -1), "max_new_tokens must be at least 0"),
    "half a token": (lambda: model().generate([[1]], 1.5), "max_new_tokens must be a whole number"),
    "too cold": (lambda: model().generate([[1]], 1, temperature=-1), "temperature must be at"),
    "hot": (lambda: model().generate([[1]], 1, temperature="hot"), "temperature must be a number"),
    "no choice": (lambda: model().generate([[1]], 1, top_k=0), "top_k must be at least 1, not 0"),
    "half a choice": (lambda: model().generate([[1]], 1, top_k=1.5), "top_k must be a whole"),
    "a share above 1": (lambda: model().generate([[1]], 1, top_p=2), "top_p must be above 0 and"),
    "never stops": (lambda: model().generate([[1]], 1, stop=11), "stop holds 11, which is not in"),
    "never likely": (lambda: model().generate([[1]], 1, min_p=0), "min_p must be above 0 and"),
    "no penalty": (
        lambda: model().generate([[1]], 1, repetition_penalty=0), "repetition_penalty must be",
    ),
    "a prompt in no list": (lambda: model().generate([1, 2], 1), r"for one prompt, use \[ids\]"),
    "a number for a prompt": (lambda: model().generate(3, 1), r"for one prompt, use \[ids\]"),
    "no prompt": (lambda: model().generate([], 1), "ids is empty: .*; give one id or more"),
    "a prompt too large": (lambda: model().generate([[11]], 1), "ids holds 11, which is not in"),
    "an empty prompt": (lambda: model().generate([[1], []], 1), r"ids\[1\] is empty"),
    "one to score": (lambda: model().score([1]), "two or more in a row"),
    "a text to score": (lambda: model().score("abc"), "pass the tokenizer too"),
    "a name to score with": (lambda: model().score("abc", "char"), "expected a tokenizer, not str"),
    "nothing to score": (lambda: model().score([]), "ids is empty: .*; give one id or more"),
    "no generator": (lambda: model().generate([[1]], 1, rng="x"), "rng must be an int from 0 up"),
    "bytes": (lambda: char().encode(b"a"), "expected text as a str, not bytes"),
    "unseen": (lambda: char().encode("aZ"), r"'Z' \(U\+005A\) at offset 1 \(line 1, column 2\)"),
    "id beyond": (lambda: char().decode([3]), "id 3 at index 0 is not in this vocabulary"),
    "ids of halves": (lambda: char().decode([0.5]), "ids must be a one-dimensional sequence of"),
    "text of numbers": (lambda: tokenizers.Char.train(3), "expected a text or many, not int"),
    "no text": (lambda: tokenizers.Char.train(""), "needs at least one character"),
    "no vocabulary": (lambda: tokenizers.BPE.train("abc", "300"), "vocab_size must be a whole"),
    "no pattern": (lambda: tokenizers.BPE.train("abc", 257, pattern="gpt5"), "is none of gpt2"),
    "half a split": (lambda: data.split("abc", 2), "fraction must lie between 0 and 1, not 2"),
    "a text to load": (lambda: data.Loader("abc", 2, 1), "encode it with a tokenizer first"),
    "a short text": (lambda: data.Loader([1, 2], 4, 1), "block_size=4 needs 5 or more"),
    "an empty batch": (lambda: data.Loader([1, 2], 1, 0), "batch_size must be 1 or more, not 0"),
    "a window of one": (lambda: data.windows([1], 3), "2 are the least"),
    "a model for parameters": (lambda: AdamW(model()), r"try model.parameters\(\)"),
    "arrays for parameters": (lambda: AdamW([X]), "parameters are Tensors"),
    "no parameters": (lambda: AdamW([]), "an optimizer needs parameters"),
    "a group without": (lambda: AdamW([{"lr": 1.0}]), "a group is"),
    "lr below 0": (lambda: AdamW(parameters(), lr=-1), "lr must be a finite number from 0 up"),
    "lr nan": (lambda: SGD(parameters(), lr=float("nan")), "lr must be a finite number .* not nan"),
    "lr text": (lambda: Muon(parameters(), lr="1e-3"), "lr must be a finite number .* not '1e-3'"),
    "one beta": (lambda: AdamW(parameters(), betas=0.9), "betas must be two numbers, not 0.9"),
    "a beta of 1": (lambda: Muon(parameters(), betas=(0.9, 1)), "betas must be at least 0 and"),
    "momentum 2": (lambda: SGD(parameters(), momentum=2), "momentum must be at least 0 and below"),
    "no such option": (lambda: AdamW([{"params": [], "lrr": 1}]), r"unknown options \['lrr'\]"),
    "clip at 0": (lambda: AdamW(parameters()).clip_grad_norm(0), "max_norm must be above 0, not 0"),
    "no state": (lambda: AdamW(parameters()).load_state_dict({}), "AdamW needs .* got"),
    "no function": (lambda: gradcheck(X, X), "f must be an op or a function of Tensors"),
    "no floats": (lambda: gradcheck(ops.relu, np.arange(3)), "nothing to check: none of the"),
    "sizes apart": (lambda: gradcheck(ops.matmul, X, X), "mismatch"),
    "a gradient of ints": (lambda: Tensor([1], requires_grad=True), "only floats have gradients"),
    "back from many": (
        lambda: Tensor([1.0, 2.0], requires_grad=True).backward(), "starts from one number",
    ),
    "back from nothing": (lambda: Tensor(1.0).backward(), "no Tensor with requires_grad=True led"),
    "weights of another": (lambda: model().load_state_dict({}), "parameters do not match"),
    "nothing to load": (lambda: GPT.load("nowhere"), "nowhere is not a folder"),
    "a file to load": (lambda: GPT.from_pretrained(__file__), "is a file; give the folder that"),
    "no settings": (lambda: GPT.from_pretrained(Path(__file__).parent), "config.json is missing"),
    "no .bin": (lambda: GPT.from_llama2c("model.bin"), "there is no file model.bin"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), CALLS.values(), ids=CALLS)
def test_calls(call, sentence):
    with pytest.raises((ValueError, TypeError, RuntimeError), match=sentence) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_the_tables_are_large_enough():
    assert len(TRAIN) + len(COMMANDS) >= 40
    assert len(CALLS) >= 40
