"""The play: verse drama without end, from a small grammar whose every choice can be read back.

    GHOST:
    That old moon kept my dear wan light;
    If thou hast lost this proud old king,
    Then hast thou won her dim blue ring.

    FOOL:
    O night, O knight, your long sweet fight,
    Now speak, good Witch!

The grammar asks for one choice after another: it shows a menu, which is the phrases that may come
next and their weights, is told which one it is, and goes on from there. To write the play is to
answer at random; to read it is to answer what the text says. No phrase of a menu begins another
one, so the text has one reading only, and its probability is known: the product of weight / total
over all choices. -log of it is the least that a model of the play can expect to lose.

There is something to learn at every distance: how words are spelled, and in which order they come;
that it is "thou hast" and "she hath", and after an "If thou ..." again "Then hast thou ..."; that
who is called speaks next; and, for long runs, what everyone likes to speak of, and what rhymes.
"""

from __future__ import annotations

import math
import operator
import random
import re
from bisect import bisect
from collections import Counter
from collections.abc import Generator
from functools import cache, cached_property
from itertools import accumulate

import numpy as np


class Menu:
    """Phrases that may come next, and their weights. None begins another one."""

    def __init__(self, weights: dict[str, int]):
        self.weights = weights
        self.phrases = list(weights)
        self.bounds = list(accumulate(weights.values()))
        self.lengths = sorted({len(phrase) for phrase in weights})

    def pick(self, u: float) -> str:
        """The phrase at the fraction u of all the weight, 0 <= u < 1."""
        return self.phrases[bisect(self.bounds, u * self.bounds[-1])]

    def read(self, text: str, start: int) -> str | None:
        """The phrase that stands at `start`; where the end of the text cuts it off, one that fits.
        None where there is no such phrase.
        """
        for length in self.lengths:
            phrase = text[start : start + length]
            if phrase in self.weights:
                return phrase
        if len(text) - start >= self.lengths[-1]:
            return None
        return next((phrase for phrase in self.phrases if phrase.startswith(text[start:])), None)

    @cached_property
    def nats(self) -> dict[str, list[float]]:
        """For every phrase, -log p of its characters, each after those before it.

        p is the share of the weight that stays possible. Over a phrase, that is log(total / weight)
        in all; and phrases that begin alike have the same numbers as far as they are alike.
        """
        possible: Counter[str] = Counter()  # the beginning of phrases: the weight of them all
        for phrase, weight in self.weights.items():
            for n in range(len(phrase) + 1):
                possible[phrase[:n]] += weight
        return {
            phrase: [
                math.log(possible[phrase[:n]] / possible[phrase[: n + 1]])
                for n in range(len(phrase))
            ]
            for phrase in self.weights
        }


@cache
def fixed(phrase: str) -> Menu:
    """The menu of one phrase: no choice, and 0 nats."""
    return Menu({phrase: 1})


# ---- the words: of one syllable, so that every line has eight -----------------------------------


def words(text: str) -> Menu:
    return Menu({f"{word} ": 1 for word in text.split()})


DETERMINER = words("the my thy his her our your this that one no each")
ADJECTIVE = words("""
    old sad red mad dim new dry wet hot raw ill odd shy sly wan low big fat thin tall long cold warm
    dark pale wild soft kind good dear true deaf blind dumb lame rich poor fair foul vain proud
    brave sharp bright black white green grey blue quick slow sweet sour bare blest rough meek weak
""")
VERB = words("""
    kept lost won met sold held fed led hid cut hit got set let put shed split dug hung stung swung
    bent lent sent spent burnt built felt dealt left lit bound found wound fought bought caught
    sought taught brought paid laid made heard hurt shot told stuck struck wed read bred flung wrung
    sung drunk rung spun shut
""")
RHYMES = """
    day way hay bay ray jay clay fray play spray /
    night light knight fight sight might right flight kite height /
    king ring wing spring string thing sting swing sling fling /
    moon noon spoon loon tune dune prune rune boon swoon /
    sea flea bee tree knee key pea tea plea fee
"""
FAMILIES = [family.split() for family in RHYMES.split("/")]
NOUN = Menu({noun: 1 for family in FAMILIES for noun in family})
RHYME = {
    noun: Menu({other: 1 for other in family if other != noun})
    for family in FAMILIES
    for noun in family
}
HAVE = {"I ": "have ", "thou ": "hast ", "she ": "hath ", "we ": "have "}
PERSON = Menu(dict.fromkeys(HAVE, 1))

# ---- who speaks, what they like to speak of, and how they like to end ---------------------------

CAST = {
    "KING": ("king ring right might", "!"),
    "QUEEN": ("tea tune day plea", "."),
    "FOOL": ("flea spoon kite play", "?"),
    "GHOST": ("night moon light swoon", "."),
    "WITCH": ("rune loon wing thing", "!"),
    "CAPTAIN": ("sea bay fight spray", "!"),
    "SHEPHERD": ("hay tree bee spring", "."),
    "DOCTOR": ("knee prune sight fee", "?"),
}
SUBJECT = {
    name: Menu({f"{noun} ": 5 if noun in liked.split() else 1 for noun in NOUN.phrases})
    for name, (liked, _) in CAST.items()
}
STOP = {
    name: Menu({",\n": 9, ";\n": 6} | {f"{mark}\n\n": 5 if mark == liked else 1 for mark in ".!?"})
    for name, (_, liked) in CAST.items()
}
SPEAKS = {f"{name}:\n": name for name in CAST}
CALLED = {f"{name.title()}!\n\n": name for name in CAST}
ENTERS = {f"[Enter the {name.title()}.]\n\n": name for name in CAST}


def others(speaker: str, phrases: dict[str, str], weight: int) -> dict[str, int]:
    """The phrases that do not name the speaker."""
    return {phrase: weight for phrase, name in phrases.items() if name != speaker}


CALL = {name: Menu(others(name, CALLED, 1)) for name in CAST}
BETWEEN = {name: Menu(others(name, SPEAKS, 6) | others(name, ENTERS, 1)) for name in CAST}

# ---- the grammar --------------------------------------------------------------------------------

NOW_SPEAK = "Now speak, good "
OPENING = Menu(
    {word.title(): 5 for word in DETERMINER.phrases} | {"If ": 8, "When ": 8, "O ": 4, NOW_SPEAK: 8}
)
Choices = Generator[Menu, str, None]  # shows a menu and is sent the phrase, again and again


def drama(speaker: str) -> Choices:
    """Speech after speech, from the first line of one by `speaker`."""
    while True:
        last = yield from speech(speaker)
        named = last if last in CALLED else (yield BETWEEN[speaker])
        speaker = (CALLED | ENTERS | SPEAKS)[named]
        if named not in SPEAKS:
            yield fixed(f"{speaker}:\n")


def speech(speaker: str) -> Generator[Menu, str, str]:
    """Lines, up to the end of a sentence or a call for somebody else: returns which it is."""
    end = ""
    while not end.endswith("\n\n"):
        opening = yield OPENING
        if opening == NOW_SPEAK:
            end = yield CALL[speaker]
        else:
            if opening in ("If ", "When "):
                yield from condition()
            elif opening == "O ":
                yield from song()
            else:
                yield from statement(speaker)
            end = yield STOP[speaker]
    return end


def statement(speaker: str) -> Choices:
    """(The) old king lost my good red ring"""
    yield ADJECTIVE
    yield SUBJECT[speaker]
    yield from deed()
    yield NOUN


def condition() -> Choices:
    """(If) thou hast lost my good red ring, / Then hast thou won her bad blue moon"""
    person = yield PERSON
    have = HAVE[person]
    yield fixed(have)
    yield from deed()
    yield NOUN
    yield fixed(f",\nThen {have}{person}")
    yield from deed()
    yield NOUN


def deed() -> Choices:
    yield VERB
    yield from possession()


def possession() -> Choices:
    yield DETERMINER
    yield ADJECTIVE
    yield ADJECTIVE


def song() -> Choices:
    """(O) king, O ring, my good old spring"""
    noun = yield NOUN
    yield fixed(", O ")
    noun = yield RHYME[noun]
    yield fixed(", ")
    yield from possession()
    yield RHYME[noun]


# ---- to write it, and to read it ----------------------------------------------------------------

FIRST = "KING"


def play(characters: int = 1_115_394, seed: int = 0) -> str:
    """The first `characters` of the play with this seed (default: as many as tinyshakespeare's).

    The same text everywhere and always: Python keeps what random.Random(seed).random() gives.
    """
    if operator.index(characters) < 1 or operator.index(seed) < 0:
        raise ValueError(
            f"the play wants characters from 1 up and a seed from 0 up, not {characters} and {seed}"
        )
    random_number = random.Random(seed).random
    choices = drama(FIRST)
    menu = next(choices)
    phrases = [f"{FIRST}:\n"]
    length = len(phrases[0])
    while length < characters:
        phrase = menu.pick(random_number())
        phrases.append(phrase)
        length += len(phrase)
        menu = choices.send(phrase)
    return "".join(phrases)[:characters]


def play_nats(text: str) -> np.ndarray:
    """-log p of every character in a stretch of the play, after all before it -> (len(text),).

    Exact from the first speaker's name on. That name and what stands before it are nan, because
    what they follow is not in the text. A phrase that the end cuts off counts as far as it goes,
    with the weight of all phrases that begin so. np.nanmean gives nats per character.

    ValueError where no speaker is named, or where the text is not what the grammar can write.
    """
    first = re.search(rf"(?:^|\n\n)({'|'.join(CAST)}):\n", text)
    if first is None:
        raise ValueError(
            "this is not the play, or too short a stretch of it: there is no line such as 'KING:'"
        )
    choices = drama(first[1])
    menu = next(choices)
    nats = [math.nan] * first.end()
    while len(nats) < len(text):
        start = len(nats)
        phrase = menu.read(text, start)
        if phrase is None:
            raise ValueError(
                f"this is not the play: at character {start:,} it goes on with "
                f"{text[start : start + 20]!r}, where the play has {menu.phrases[0]!r} or the like"
            )
        nats += menu.nats[phrase]
        menu = choices.send(phrase)
    return np.array(nats[: len(text)])
