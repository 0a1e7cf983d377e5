"""Training and encoding beside tiktoken, tokenizers and sentencepiece, on one thread each.

    python benchmarks/tokenizing.py                         # tinyshakespeare, and made-up scripts
    python benchmarks/tokenizing.py --only train --rounds 3
    python benchmarks/tokenizing.py --text my.txt --only encode
    python benchmarks/tokenizing.py --megabytes 100 --only file --rounds 1

The contestants take turns, A B C, A B C, ..., and the medians of their processor seconds are
printed, with the ratio to ours (above 1: we are faster). A first round, which is not counted, is
the "first" column: no word has been seen then. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tinygpt import data  # noqa: E402
from tinygpt.backend import data_folder  # noqa: E402
from tinygpt.tokenizers import BPE, Unigram, WordPiece, bpe_textbook  # noqa: E402
from tinygpt.tokenizers.patterns import split  # noqa: E402

# Some letters of each script; words are made of them, a few hundred of them often.
SCRIPTS = {
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф",
    "Greek": "αοιετσνηυρπκμλωςγδχθφβξζψ",
    "Arabic": "اليمونرتبةعدسفهكقحجشصطخذثزضغظ",
    "Hindi": "करसनतपयहमलवदबगजशभचणधअइउथटडषआएखईडझछघ",
    "Thai": "านรอกเงมยลวดตทสบปหพขคชจผฟธซ",
    "Chinese": "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以",
    "Emoji": "😀😁😂🤣😃😄😅😆😉😊😋😎😍😘🥰👍👎🎉🔥",
}
Work = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--text", help="a file of UTF-8 (default: tinyshakespeare)")
    parser.add_argument("--only", choices=("train", "encode", "scripts", "file"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=100, help="of the made-up file")
    options = parser.parse_args()
    text = Path(options.text).read_text("utf-8") if options.text else data.shakespeare()

    if options.only in (None, "train"):
        train(text, options.rounds)
    if options.only in (None, "encode"):
        encode("text", text, options.rounds)
    if options.only in (None, "scripts"):
        for name, letters in SCRIPTS.items():
            encode(name, made_up(letters), options.rounds)
    if options.only == "file":
        file(text, options.megabytes, options.rounds)


def race(what: str, contestants: dict[str, Work], rounds: int, size: int) -> None:
    """Run each in turn, and print a line for each."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, work in contestants.items():
            started = time.process_time()
            work()
            seconds[name].append(time.process_time() - started)
    ours = statistics.median(seconds["tinygpt"][1:])
    for name, measured in seconds.items():
        median = statistics.median(measured[1:])
        print(
            f"{what:28} {name:22} first {measured[0]:8.3f} s   median {median:8.3f} s "
            f"{size / median / 1e6:8.2f} MB/s   {median / ours:7.2f}",
            flush=True,
        )


# ---- training -----------------------------------------------------------------------------------


def train(text: str, rounds: int) -> None:
    size = len(text.encode("utf-8"))
    words = len(set(split("gpt2", text)))
    print(f"training on {size} bytes, {words} different words")
    largest = 256 + len(bpe_train_all(text))
    for vocab_size in (4096, min(32768, largest)):
        contestants: dict[str, Work] = {"tinygpt": lambda n=vocab_size: BPE.train(text, n)}
        if tokenizers_there():
            contestants["tokenizers"] = lambda n=vocab_size: train_tokenizers(text, n, "bpe")
        race(f"BPE to {vocab_size}", contestants, rounds, size)

    started = time.perf_counter()
    bpe_textbook.learn_merges(Counter(split("gpt2", text)), 20)
    per_merge = (time.perf_counter() - started) / 20
    print(
        f"textbook over unique words: {per_merge:.3f} s a merge, {per_merge * 3840:.0f} s to 4096"
    )
    started = time.perf_counter()
    minbpe(text, 1)
    per_merge = time.perf_counter() - started
    print(
        f"minbpe's, over every word:  {per_merge:.3f} s a merge, {per_merge * 3840:.0f} s to 4096"
    )

    contestants = {"tinygpt": lambda: WordPiece.train(text, 8000)}
    if tokenizers_there():
        contestants["tokenizers (BPE's rule)"] = lambda: train_tokenizers(text, 8000, "wordpiece")
    race("WordPiece to 8000", contestants, min(rounds, 3), size)
    contestants = {"tinygpt": lambda: Unigram.train(text, 8000)}
    if tokenizers_there():
        contestants["tokenizers"] = lambda: train_tokenizers(text, 8000, "unigram")
    with tempfile.TemporaryDirectory() as folder:
        try:
            import sentencepiece

            contestants["sentencepiece"] = lambda: sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(text.splitlines()),
                model_prefix=f"{folder}/m",
                vocab_size=8000,
                num_threads=1,
                minloglevel=2,
            )
        except ImportError:
            pass
        race("Unigram to 8000", contestants, min(rounds, 3), size)


def bpe_train_all(text: str) -> dict:
    """Every merge that the text has."""
    from tinygpt.tokenizers.bpe_train import learn_merges

    return learn_merges(Counter(split("gpt2", text)), 32768 - 256)


def minbpe(text: str, n_merges: int) -> None:
    """The algorithm of karpathy/minbpe's regex.py: all words, repeated ones too, every merge."""
    rows = [list(word.encode("utf-8")) for word in split("gpt2", text)]
    for k in range(n_merges):
        counts: Counter = Counter()
        for ids in rows:
            counts.update(zip(ids, ids[1:], strict=False))
        pair = max(counts, key=counts.__getitem__)
        rows = [bpe_textbook.merge(ids, pair, 256 + k) for ids in rows]


def tokenizers_there() -> bool:
    try:
        import tokenizers.models  # noqa: F401
    except ImportError:
        return False
    return True


def train_tokenizers(text: str, vocab_size: int, kind: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    lines = text.splitlines(keepends=True)
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, show_progress=False, initial_alphabet=alphabet
        )
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, show_progress=False, unk_token="<unk>"
        )
    tokenizer.train_from_iterator(lines, trainer)


# ---- encoding -----------------------------------------------------------------------------------


def encode(what: str, text: str, rounds: int) -> None:
    """With GPT-2's vocabulary where it is at hand, else one learned from the text."""
    size = len(text.encode("utf-8"))
    folder = data_folder()
    if folder is not None and (folder / "gpt2" / "vocab.bpe").exists():
        files = folder / "gpt2" / "encoder.json", folder / "gpt2" / "vocab.bpe"
        ours = BPE.from_gpt2(*files)
    else:
        ours = BPE.train(text, 1024)
    contestants: dict[str, Work] = {
        "tinygpt": lambda: ours.encode(text),
        "tinygpt, to an array": lambda: ours.encode_array(text),
    }
    try:
        import tiktoken

        special = set(ours.special_tokens.values())
        ranks = {token: i for i, token in enumerate(ours.tokens) if i not in special and token}
        # As tiktoken's own definition of GPT-2 has it: possessive, which is faster there.
        pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
        peer = tiktoken.Encoding(
            "peer", pat_str=pattern, mergeable_ranks=ranks, special_tokens=ours.special_tokens
        )
        another = BPE.from_dict(ours.to_dict())  # ours has not seen a word yet
        assert peer.encode_ordinary(text) == another.encode(text), "the ids differ from tiktoken's"
        contestants["tiktoken"] = lambda: peer.encode_ordinary(text)
        contestants["tiktoken, to an array"] = lambda: peer.encode_to_numpy(text)
    except ImportError:
        pass
    if tokenizers_there():
        from tokenizers import Tokenizer

        theirs = Tokenizer.from_str(json.dumps(ours.to_dict()))
        contestants["tokenizers"] = lambda: theirs.encode(text).ids
    race(f"encode, {what}", contestants, rounds, size)


def made_up(letters: str, characters: int = 400_000) -> str:
    """Words of these letters, common ones often, as in any language (Zipf's law). Chinese and Thai
    have no space between them, so that to GPT-2's pattern almost every clause is a new word."""
    rng = random.Random(0)
    between = (" ", " ", " ", " ", ", ", ". ", "\n")
    if letters in (SCRIPTS["Chinese"], SCRIPTS["Thai"]):
        between = ("", "", "", "，", "。", "\n")
    longest = 3 if letters == SCRIPTS["Chinese"] else 9
    words = ["".join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(20_000)]
    weights = [1 / (k + 10) for k in range(len(words))]
    out: list[str] = []
    length = 0
    while length < characters:
        for word in rng.choices(words, weights, k=10_000):
            out.append(word + rng.choice(between))
            length += len(out[-1])
    return "".join(out)


# ---- a large file -------------------------------------------------------------------------------


def file(text: str, megabytes: float, rounds: int) -> None:
    """Learning from a large file and encoding it; what memory that takes."""
    import resource

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.txt"
        write_large(path, text, megabytes)
        size = path.stat().st_size
        tokenizer = BPE.train(text, 4096)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        count = tokenizer.encode_file(path, Path(folder) / "ids.bin")
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"encode_file, {size / 1e6:.0f} MB: {seconds:.1f} s, {size / seconds / 1e6:.1f} MB/s, "
            f"{count} ids; peak memory {before:.0f} MB before, {after:.0f} MB after"
        )
        for vocab_size in (4096, 32768):
            contestants: dict[str, Work] = {"tinygpt": lambda n=vocab_size: BPE.train(path, n)}
            if tokenizers_there():
                contestants["tokenizers"] = lambda n=vocab_size: train_tokenizers(
                    path.read_text("utf-8"), n, "bpe"
                )
            race(f"BPE to {vocab_size}, file", contestants, rounds, size)


def write_large(path: Path, text: str, megabytes: float) -> None:
    """The words of the text in another order, a few changed, so that new words keep coming."""
    rng = random.Random(0)
    words = text.split(" ")
    with open(path, "w", encoding="utf-8", newline="") as f:
        while f.tell() < megabytes * 1e6:
            rng.shuffle(words)
            changed = [
                word[:-1] + rng.choice("abcdefghijklmnopqrstuvwxyz")
                if rng.random() < 0.01
                else word
                for word in words
            ]
            f.write(" ".join(changed) + "\n")


if __name__ == "__main__":
    main()
