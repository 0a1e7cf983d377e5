"""Tokens into text as they come: whole characters only, and no further than a stop string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

BROKEN = "\ufffd"  # what decoders put where bytes are no character


def text_stream(
    tokens: Iterable[int],
    decode: Callable[[list[int]], str],
    before: Sequence[int] = (),
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """The text that `tokens` add to that of the ids `before` them, piece by piece.

    decode: a tokenizer's, ids -> text. stop: strings; where the first of them is complete, the text
    ends before it. Tokens are taken one at a time, and none after that.

    A piece is held back while it ends in bytes that are no character yet, for a character may be
    spread over several tokens, and while its end may be the start of a stop string.
    """
    for string in stop:
        if not isinstance(string, str) or not string:
            raise ValueError(f"a stop string must be a text of at least one character: {string!r}")
    return _until(stop, _whole_characters(tokens, decode, list(before)))


def _whole_characters(
    tokens: Iterable[int], decode: Callable[[list[int]], str], before: list[int]
) -> Iterator[str]:
    """What each token adds is seen beside those before it: a decoder may drop a space at the start
    of a text. The ids of the last piece are enough for that, so that no text is too long."""
    shown, waiting = decode(before), []
    for token in tokens:
        waiting.append(token)
        text = decode(before + waiting)
        if not text.endswith(BROKEN):
            yield text[len(shown) :]
            before, waiting = waiting, []
            shown = decode(before)
    yield decode(before + waiting)[len(shown) :]


def _until(stop: Sequence[str], pieces: Iterable[str]) -> Iterator[str]:
    """The pieces up to the stop string that is complete first, without those that are empty."""
    held = ""
    for piece in pieces:
        held += piece
        found = [(held.find(s) + len(s), held.find(s)) for s in stop if s in held]
        ready = min(found)[1] if found else len(held) - _longest_start(stop, held)
        if ready:
            yield held[:ready]
        if found:
            return
        held = held[ready:]
    if held:
        yield held


def _longest_start(stop: Sequence[str], text: str) -> int:
    """How many of the last characters of `text` are the first ones of a stop string."""
    longest = max((len(string) - 1 for string in stop), default=0)
    for n in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-n:]) for string in stop):
            return n
    return 0
