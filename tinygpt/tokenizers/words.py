"""Reading text to learn from: strings, many strings or a file larger than memory, word by word."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from .checks import check_text
from .processes import in_processes

BLOCK = 1 << 22  # bytes of a file, or characters of short texts, that are dealt with at a time
HELD = 32  # words at the end of a block that might change when more text follows

Source = str | os.PathLike | Iterable[str]
Split = Callable[[str], list[str]]
Count = Callable[[str], Mapping[str, int]]


def count_words(
    source: Source,
    make_split: Callable[..., Split],
    *arguments,
    cut=None,
    make_count: Callable[..., Count] | None = None,
    processes: int = 1,
    progress: bool = False,
) -> Counter[str]:
    """How often each word occurs.

    source: a text, an iterable of texts, or a pathlib.Path: a file of UTF-8, read block by block.
    make_split(*arguments) gives the function that cuts a text into words. Every process calls it,
    so it is a function at the top of a module. `cut` is for whole_words. make_count(*arguments):
    the same for a function that counts the words of a text, where that is faster than to cut it.
    """
    counts: Counter[str] = Counter()
    batches = in_batches(texts(source, make_split(*arguments), cut))
    with progress_bar(progress, "counting words", source, "B") as bar:
        work = (make_count or make_split, *arguments)
        for part, size in in_processes(counter, work, batches, processes):
            counts.update(part)
            bar.update(size)
    return counts


def counter(make: Callable[..., Split | Count], *arguments):
    """What each process runs: texts -> how often each word occurs, and the size of the texts."""
    words_of = make(*arguments)

    def count(batch: list[str]) -> tuple[Counter[str], int]:
        counts: Counter[str] = Counter()
        for text in batch:
            counts.update(words_of(text))
        return counts, sum(len(text.encode("utf-8")) for text in batch)

    return count


def texts(source: Source, split: Split, cut=None) -> Iterator[str]:
    """The texts of a source; a file comes in pieces, with no word cut in two."""
    if isinstance(source, os.PathLike):
        yield from whole_words(read_blocks(source), split, cut)
        return
    if isinstance(source, str | bytes):  # bytes are refused below
        source = [source]
    if not isinstance(source, Iterable):
        raise TypeError(f"expected a text or many, not {type(source).__name__}")
    for text in source:
        check_text(text)
        yield text


def in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts, each list long enough to be worth sending to another process."""
    batch: list[str] = []
    length = 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if length >= BLOCK // 4:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def read_blocks(file: str | os.PathLike, size: int | None = None) -> Iterator[str]:
    """A file of UTF-8, a block at a time. ValueError, with the place, where it is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    with open(file, "rb") as f:
        while True:
            waiting = len(decoder.getstate()[0])  # the start of a character cut in two
            block = f.read(size or BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{os.fspath(file)}: not UTF-8 at byte {done - waiting + error.start} "
                    f"({error.reason}); convert the file, or decode it and pass the texts"
                ) from None
            done += len(block)
            if text:
                yield text
            if not block:
                return


def whole_words(blocks: Iterable[str], split: Split, cut=None) -> Iterator[str]:
    """The same text in pieces that split(...) cuts as it would cut the whole.

    cut: an expression of `regex`, searching from the end, that matches where a word ends whatever
    stands around it. Without one, a place is tried out, and the last words wait for the next block.
    """
    rest = ""
    for block in blocks:
        rest += block
        if cut is None:
            end = safe_end(rest, split)
        else:
            found = cut.search(rest)
            end = found.start() if found else 0
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def safe_end(text: str, split: Split) -> int:
    """A place where the text can be cut so that both sides split as before; 0 if there is none."""
    words = split(text)
    end = len(text) - sum(map(len, words[-HELD:]))
    for last in range(len(words) - HELD, 0, -1):
        if split(text[:end]) == words[:last] and split(text[end:]) == words[last:]:
            return end
        end -= len(words[last - 1])
    return 0


def progress_bar(shown: bool, what: str, total: Source | int, unit: str):
    """A tqdm on the terminal, or one that shows nothing."""
    from tqdm import tqdm  # here and not above: `import tinygpt` need not wait for it

    if isinstance(total, os.PathLike):
        total = os.path.getsize(total)
    elif not isinstance(total, int):
        total = len(total) if isinstance(total, str) else 0
    return tqdm(
        total=total or None, desc=what, unit=unit, unit_scale=unit == "B", disable=not shown
    )
