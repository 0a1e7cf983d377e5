"""Training and encoding beside tiktoken, tokenizers and sentencepiece, on one thread each.

    python benchmarks/tokenizing.py                         # tinyshakespeare, and made-up scripts
    python benchmarks/tokenizing.py --only train --rounds 3
    python benchmarks/tokenizing.py --text my.txt --only encode
    python benchmarks/tokenizing.py --only file --rounds 1                      # a made-up file
    python benchmarks/tokenizing.py --only file --text large.txt --rounds 1

The contestants take turns, A B C, A B C, ..., and of their processor seconds the least and the
median are printed, with the ratio of both to ours (above 1: we are faster). A peer that is not
installed is left out.

"seen before" is the same text again; "first pass" is a tokenizer that has seen none of its words;
"new tokenizer" has made none of its tables either, which the peers do before the time starts.
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
    large = options.only == "file" and options.text
    text = (
        data.shakespeare() if large or not options.text else Path(options.text).read_text("utf-8")
    )

    if options.only in (None, "train"):
        train(text, options.rounds)
    if options.only in (None, "encode"):
        encode("text", text, options.rounds)
    if options.only in (None, "scripts"):
        for name, letters in SCRIPTS.items():
            encode(name, made_up(letters), options.rounds)
    if options.only == "file" and options.text:
        file(Path(options.text), options.rounds)
    elif options.only == "file":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "large.txt"
            write_large(path, text, options.megabytes)
            file(path, options.rounds)


def race(what: str, contestants: dict[str, Work], rounds: int, size: int) -> None:
    """Run each in turn, and print a line for each."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            started = time.process_time()
            work()
            seconds[name].append(time.process_time() - started)
    print(what)
    ours = next(iter(seconds.values()))
    for name, measured in seconds.items():
        least, median = min(measured), statistics.median(measured)
        print(
            f"    {name:28} least {least:8.3f} s   median {median:8.3f} s "
            f"{size / median / 1e6:8.2f} MB/s   "
            f"{least / min(ours):6.2f} {median / statistics.median(ours):6.2f}",
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

    minbpe_beside(text)

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


def minbpe_beside(text: str) -> None:
    """What the algorithm of karpathy/minbpe's regex.py would take to 4096, at the least: a merge
    goes through all words, repeated ones too, and the last is the quickest, words being short."""
    started = time.process_time()
    tokenizer = BPE.train(text, 4096)
    ours = time.process_time() - started
    words = split("gpt2", text)
    for when, rows in (
        ("first", [list(word.encode("utf-8")) for word in words]),
        ("last", [tokenizer.encode(word) for word in words]),
    ):
        started = time.process_time()
        counts: Counter = Counter()
        for ids in rows:
            counts.update(zip(ids, ids[1:], strict=False))
        pair = max(counts, key=counts.__getitem__)
        for ids in rows:
            bpe_textbook.merge(ids, pair, 4096)
        seconds = time.process_time() - started
        print(
            f"minbpe's algorithm: {seconds:.3f} s for the {when} merge, 3840 of them "
            f"{3840 * seconds:.0f} s, {3840 * seconds / ours:.0f} times ours"
        )


def tokenizers_there() -> bool:
    try:
        import tokenizers.models  # noqa: F401
    except ImportError:
        return False
    return True


def train_tokenizers(source: str | Path, vocab_size: int, kind: str) -> None:
    """source: a text, or a file."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

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
    if isinstance(source, Path):
        tokenizer.train([str(source)], trainer)
    else:
        tokenizer.train_from_iterator(source.splitlines(keepends=True), trainer)


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
    made_of = ours.tokens, ours.merges, ours.pattern, ours.special_tokens
    fresh = [BPE(*made_of) for _ in range(rounds)]
    ready = [BPE(*made_of) for _ in range(rounds)]
    for tokenizer in ready:
        tokenizer.encode("-" * 10_000)
    ours.encode(text)
    contestants: dict[str, Work] = {
        "tinygpt, seen before": lambda: ours.encode(text),
        "tinygpt, first pass": lambda: ready.pop().encode(text),
        "tinygpt, new tokenizer": lambda: fresh.pop().encode(text),
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
        assert peer.encode_ordinary(text) == ours.encode(text), "the ids differ from tiktoken's"
        contestants["tiktoken"] = lambda: peer.encode_ordinary(text)
        contestants["tiktoken, to an array"] = lambda: peer.encode_to_numpy(text)
    except ImportError:
        pass
    if tokenizers_there():
        from tokenizers import Tokenizer

        theirs = Tokenizer.from_str(json.dumps(ours.to_dict()))
        lines = text.splitlines(keepends=True)
        contestants["tokenizers"] = lambda: theirs.encode(text).ids
        contestants["tokenizers, line by line"] = lambda: [
            encoding.ids for encoding in theirs.encode_batch_fast(lines)
        ]
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


def file(path: Path, rounds: int) -> None:
    """Learning from a large file and encoding it; what memory that takes."""
    size = path.stat().st_size
    with open(path, encoding="utf-8") as f:
        tokenizer = BPE.train(f.read(1_000_000), 4096)
    before = peak_megabytes()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        count = tokenizer.encode_file(path, Path(folder) / "ids.bin")
    seconds = time.process_time() - started
    print(
        f"encode_file, {size / 1e6:.0f} MB: {seconds:.1f} s, {size / seconds / 1e6:.1f} MB/s, "
        f"{count} ids; peak memory {before:.0f} MB before, {peak_megabytes():.0f} MB after"
    )
    for vocab_size in (4096, 32768):
        contestants: dict[str, Work] = {"tinygpt": lambda n=vocab_size: BPE.train(path, n)}
        if tokenizers_there():
            contestants["tokenizers"] = lambda n=vocab_size: train_tokenizers(path, n, "bpe")
        race(f"BPE to {vocab_size}, file", contestants, rounds, size)


def peak_megabytes() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
