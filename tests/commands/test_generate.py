"""python -m tinygpt generate: what is printed, and where."""

import io
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from tinygpt import GPT, GPTConfig, tokenizers
from tinygpt.__main__ import main
from tinygpt.commands import generate
from tinygpt.commands.chat import chat_prompt
from tinygpt.commands.model_folder import stop_tokens

TEXT = "to be, or not\n"
TEMPLATE = """{{ bos_token }}{% for message in messages %}
[{{ message['role'] }}] {{ message['content'] | trim }}
{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"""


@pytest.fixture
def folder(tmp_path):
    tokenizer = tokenizers.Char.train(TEXT)
    config = GPTConfig(tokenizer.vocab_size, 8, n_layer=1, n_head=2, n_embd=8)
    GPT(config).save(tmp_path / "model", tokenizer)
    return str(tmp_path / "model")


@pytest.fixture
def hf_folder(tmp_path):
    """A folder of Hugging Face, whose tokens are bytes."""
    tokenizer = tokenizers.BPE.train("ab" * 9, 259, special_tokens=["<s>", "</s>"])
    model = GPT(GPTConfig(259, 16, n_layer=1, n_head=2, n_embd=8))
    model.export(tmp_path / "hf", tokenizer)
    return tmp_path / "hf"


def always(monkeypatch, text):
    """Every model writes this, over and over, whatever it is given."""
    data = text.encode("utf-8")

    def next_logits(self, ids, cache):
        step = next(steps)
        logits = np.zeros((1, self.config.vocab_size))
        logits[0, BYTE[data[step % len(data)]]] = 99
        return logits

    steps = iter(range(10**6))
    monkeypatch.setattr(GPT, "_next_logits", next_logits)


BYTES = tokenizers.BPE.train("ab" * 9, 259, special_tokens=["<s>", "</s>"])
BYTE = {token[0]: i for i, token in enumerate(BYTES.tokens) if token and len(token) == 1}


def test_only_the_text_goes_to_stdout(folder, capsys):
    assert main(["generate", folder, "--prompt", "to be", "--max-new-tokens", "20"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("to be")
    assert printed.out.endswith("\n")
    assert len(printed.out) == len("to be") + 20 + 1
    assert re.fullmatch(r"20 tokens, [\d.]+ tokens/s\n", printed.err)


def test_it_is_what_generate_gives(folder, capsys):
    options = ["--temperature", "1.5", "--top-k", "9", "--top-p", "0.9", "--min-p", "0.02"]
    options += ["--repetition-penalty", "1.2", "--seed", "3", "--max-new-tokens", "30"]
    assert main(["generate", folder, "--prompt", "not", *options]) == 0
    tokenizer = tokenizers.Char.train(TEXT)
    expected = GPT.load(folder).generate(
        [tokenizer.encode("not")], 30, 1.5, 9, 0.9, rng=3, min_p=0.02, repetition_penalty=1.2
    )
    assert capsys.readouterr().out == tokenizer.decode(expected[0]) + "\n"


def test_the_prompt_is_read_from_stdin(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("be\nor"))
    assert main(["generate", folder, "--prompt", "-", "--max-new-tokens", "0"]) == 0
    assert capsys.readouterr() == ("be\nor\n", "")


@pytest.mark.parametrize("stop", [["--stop", " not"], ["--stop", "zz", "--stop", " not"]])
def test_stop_strings(hf_folder, capsys, monkeypatch, stop):
    always(monkeypatch, "to be or not to be. ")
    assert main(["generate", str(hf_folder), "--prompt", "or not ", *stop]) == 0
    printed = capsys.readouterr()
    assert printed.out == "or not to be or\n"
    assert printed.err.startswith("12 tokens")  # and no more were asked for


def test_a_character_is_never_printed_in_parts(hf_folder, monkeypatch, capsys):
    always(monkeypatch, "é🙂")
    written = []
    monkeypatch.setattr(generate, "write", written.append)
    command = ["generate", str(hf_folder), "--prompt", "a", "--max-new-tokens", "12"]
    assert main(command) == 0
    assert written == ["a", "é", "🙂", "é", "🙂", "\n"]


def test_it_ends_at_the_end_of_text(hf_folder, monkeypatch, capsys):
    always(monkeypatch, "abc")
    config = json.loads((hf_folder / "config.json").read_text(encoding="utf-8"))
    for eos in (BYTE[ord("c")], [3, BYTE[ord("c")]]):
        config["eos_token_id"] = eos
        (hf_folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        always(monkeypatch, "abc")
        assert main(["generate", str(hf_folder), "--prompt", "x"]) == 0
        printed = capsys.readouterr()
        assert printed.out == "xab\n"
        assert printed.err.startswith("3 tokens")


def test_generation_config_has_the_last_word(tmp_path):
    assert stop_tokens(str(tmp_path)) == []
    for name, eos in (("config", None), ("config", 3), ("generation_config", [4, 5])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"eos_token_id": eos}), encoding="utf-8")
        expected = {None: [], 3: [3]}.get(eos if not isinstance(eos, list) else 0, [4, 5])
        assert stop_tokens(str(tmp_path)) == expected
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": "x"}', encoding="utf-8")
    with pytest.raises(ValueError, match="should be an id or several"):
        stop_tokens(str(tmp_path))


def test_ctrl_c_ends_the_line(folder, monkeypatch, capsys):
    asked = []

    def interrupted(self, ids, cache):
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return next_logits(self, ids, cache)

    next_logits = GPT._next_logits
    monkeypatch.setattr(GPT, "_next_logits", interrupted)
    assert main(["generate", folder, "--prompt", "to"]) == 130
    printed = capsys.readouterr()
    assert len(printed.out) == len("to") + 3 + 1
    assert printed.out.endswith("\n")
    assert re.fullmatch(r"3 tokens, [\d.]+ tokens/s\nstopped by Ctrl-C\n", printed.err)


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe ends otherwise on Windows")
def test_whoever_reads_may_have_enough(folder):
    """And sees each piece when it is there."""
    command = [sys.executable, "-m", "tinygpt", "generate", folder, "--max-new-tokens", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert len(process.stdout.read(20)) == 20
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert re.fullmatch(r"\d+ tokens, [\d.]+ tokens/s\n", errors)


def heed_ctrl_c():
    """A shell that starts the tests in the background has them ignore it, and all they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal on Windows")
def test_ctrl_c_in_a_process_of_its_own(folder):
    command = [sys.executable, "-m", "tinygpt", "generate", folder, "--max-new-tokens", "1000000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c
    ) as process:
        process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 130
    assert out.endswith(b"\n")
    assert errors.endswith(b"stopped by Ctrl-C\n")
    assert b"Traceback" not in errors


# ---- Hugging Face folders -----------------------------------------------------------------------


def test_a_folder_of_hugging_face(hf_folder, capsys):
    command = ["generate", str(hf_folder), "--prompt", "ab", "--max-new-tokens", "9"]
    assert main([*command, "--temperature", "0"]) == 0
    expected = GPT.from_pretrained(hf_folder).generate([BYTES.encode("ab")], 9, temperature=0)
    assert capsys.readouterr().out == BYTES.decode(expected[0]) + "\n"


def test_a_folder_without_a_tokenizer(hf_folder, capsys):
    (hf_folder / "tokenizer.json").unlink()
    assert main(["generate", str(hf_folder)]) == 1
    assert "tokenizer.json is missing, so this model cannot read text" in capsys.readouterr().err


# ---- chat ---------------------------------------------------------------------------------------


def put_template(folder, where="config", template=TEMPLATE):
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None}
    if where == "file":
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    elif where == "config":
        config["chat_template"] = template
    elif where == "named":
        config["chat_template"] = [
            {"name": "tool_use", "template": "no"}, {"name": "default", "template": template},
        ]  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize("where", ["file", "config", "named"])
def test_the_template_is_found_and_filled_in(tmp_path, where):
    pytest.importorskip("jinja2")
    put_template(tmp_path, where)
    assert chat_prompt(str(tmp_path), " hi <b>") == "<s>[user] hi <b>\n[assistant]"


def test_chat_prints_only_the_answer(hf_folder, capsys, monkeypatch):
    pytest.importorskip("jinja2")
    put_template(hf_folder)
    always(monkeypatch, "well")
    seen = []
    stream = GPT.stream
    monkeypatch.setattr(GPT, "stream", lambda *a, **o: (seen.append(a[1][0]), stream(*a, **o))[1])
    command = ["generate", str(hf_folder), "--chat", "--prompt", "hi", "--max-new-tokens", "4"]
    assert main(command) == 0
    assert capsys.readouterr().out == "well\n"
    assert seen == [BYTES.encode("<s>[user] hi\n[assistant]", allowed_special="all")]
    assert seen[0][0] == BYTES.special_tokens["<s>"]


def test_the_template_of_transformers(hf_folder):
    """The same template, filled in by the library that it was written for."""
    pytest.importorskip("jinja2")
    transformers = pytest.importorskip("transformers")
    template = TEMPLATE + "{{ {'a': 'é<'} | tojson }}\n  {%- if true %}\n  y\n  {% endif %}"
    put_template(hf_folder, template=template)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(hf_folder / "tokenizer.json"), bos_token="<s>", chat_template=template
    )
    expected = theirs.apply_chat_template(
        [{"role": "user", "content": "hi\n"}], tokenize=False, add_generation_prompt=True
    )
    assert chat_prompt(str(hf_folder), "hi\n") == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('only one of us') }}", "cannot be used: only one of us"),
        ("{% for %}", "cannot be used: "),
        ("{{ messages.append(1) }}", "cannot be used: .*unsafe"),
        ("{{ ''.__class__.__mro__ }}", "cannot be used: .*unsafe"),
        (3, "has no chat template"),
    ],
)
def test_templates_that_cannot_be_used(tmp_path, template, message):
    pytest.importorskip("jinja2")
    put_template(tmp_path, template=template)
    with pytest.raises(ValueError, match=message):
        chat_prompt(str(tmp_path), "hi")


def test_without_jinja2_there_is_a_sentence(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["generate", folder, "--chat"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "--chat needs jinja2, which is not installed; try: " in printed.err
    assert '-m pip install "tinygpt[chat]"' in printed.err
