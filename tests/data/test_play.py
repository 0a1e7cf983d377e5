"""The play: every choice can be read back, and the nats are exactly what they say."""

import hashlib
import itertools
import math
import re
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygpt import data
from tinygpt.data import play_nats

module = sys.modules["tinygpt.data.play"]  # tinygpt.data.play is the function
Menu = module.Menu

MENUS = [
    menu
    for value in vars(module).values()
    for menu in (value.values() if isinstance(value, dict) else [value])
    if isinstance(menu, Menu)
]


@pytest.fixture(scope="module")
def whole():
    return data.play()


@pytest.fixture(scope="module")
def nats(whole):
    return play_nats(whole)


def with_choices(f, method):
    """f(), and the phrases that went through Menu.pick or Menu.read meanwhile."""
    phrases = []
    original = getattr(Menu, method)

    def noted(*args):
        phrases.append(original(*args))
        return phrases[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Menu, method, noted)
        return f(), phrases


# ---- the text -----------------------------------------------------------------------------------


def test_the_text_is_the_same_everywhere(whole):
    digest = hashlib.sha256(whole.encode()).hexdigest()
    assert digest == "0bea6233e3ea4e391603546f613dab04eac6aff63b251a01f9f9c4f8b1b57c07"


def test_size_and_seed(whole):
    assert len(whole) == 1_115_394
    assert whole.isascii()
    assert data.play(1000) == whole[:1000]
    assert data.play(5000, seed=1)[20:] != whole[20:5000]


def test_the_example_at_the_top_is_of_the_play():
    example = module.__doc__.split("\n\nThe grammar")[0].split("\n", 1)[1]
    assert np.isfinite(play_nats(textwrap.dedent(example).strip())[7:]).all()


@pytest.mark.parametrize("bad", [{"characters": 0}, {"characters": -1}, {"seed": -1}])
def test_no_such_play(bad):
    with pytest.raises(ValueError, match="characters from 1 up and a seed from 0 up"):
        data.play(**bad)
    with pytest.raises(TypeError):
        data.play(**{name: value + 0.5 for name, value in bad.items()})


# ---- one reading only ---------------------------------------------------------------------------


def test_no_phrase_of_a_menu_begins_another():
    assert len(MENUS) > 80
    for menu in MENUS:
        for phrase, other in itertools.permutations(menu.phrases, 2):
            assert phrase
            assert not other.startswith(phrase)


def test_every_menu_comes_from_the_list_above(monkeypatch):
    seen = []
    pick = Menu.pick
    monkeypatch.setattr(Menu, "pick", lambda menu, u: (seen.append(menu), pick(menu, u))[1])
    data.play(200_000)
    choices = {id(menu) for menu in seen if len(menu.phrases) > 1}
    assert choices == {id(menu) for menu in MENUS}


@given(st.integers(0, 2**64), st.integers(7, 3000))
@settings(max_examples=40)
def test_what_is_read_is_what_was_chosen(seed, characters):
    text, written = with_choices(lambda: data.play(characters, seed), "pick")
    _, read = with_choices(lambda: play_nats(text), "read")
    start = len("KING:\n")
    assert text[start:] == "".join(written)[: characters - start]
    assert len(read) == len(written)
    assert read[:-1] == written[:-1]
    rest = text[start + len("".join(read[:-1])) :]  # the end may cut the last one off
    assert read[-1].startswith(rest)
    assert written[-1].startswith(rest)


def test_choices_come_as_often_as_their_weights_say():
    menu = module.STOP["KING"]
    total = sum(menu.weights.values())
    picked = Counter(menu.pick((i + 0.5) / total) for i in range(total))
    assert picked == menu.weights
    assert menu.pick(0.0) == menu.phrases[0]
    assert menu.pick(math.nextafter(1, 0)) == menu.phrases[-1]


# ---- the probabilities --------------------------------------------------------------------------


def test_a_stretch_counted_by_hand():
    """The weights of openings add up to 88; calling weighs 8; seven others can be called."""
    text = "KING:\nNow speak, good Witch!\n\nWITCH:\n"
    nats = play_nats(text)
    assert np.isnan(nats[:6]).all()
    assert nats[6:].sum() == pytest.approx(math.log(88 / 8) + math.log(7))
    # "N" may also begin "No ", of weight 5, and after "No" the next character decides.
    assert nats[6] == pytest.approx(math.log(88 / 13))
    assert nats[8] == pytest.approx(math.log(13 / 8))


def test_probabilities_by_brute_force(monkeypatch):
    """A tiny grammar, in which the first choice decides what the second may be."""
    first = {"a ": 1, "ab ": 2, "b": 4}
    second = {"a ": {"x": 1, "yx": 3}, "ab ": {"y": 2, "x": 1}, "b": {"ya": 1, "yb": 1, "x": 5}}

    def drama(speaker):
        while True:
            phrase = yield Menu(first)
            yield Menu(second[phrase])

    sentences = {
        a + b: first[a] / 7 * second[a][b] / sum(second[a].values())
        for a in first
        for b in second[a]
    }
    assert sum(sentences.values()) == pytest.approx(1)
    monkeypatch.setattr(module, "drama", drama)
    p = Counter()  # of every text of up to 8 characters, summed over all ways to go on
    for three in itertools.product(sentences, repeat=4):
        text = "".join(three)
        for n in range(1, 9):
            p[text[:n]] += math.prod(sentences[s] for s in three)
    assert sum(q for text, q in p.items() if len(text) == 8) == pytest.approx(1)
    for text, q in p.items():
        assert play_nats("KING:\n" + text)[6:].sum() == pytest.approx(-math.log(q), rel=1e-9)


def test_the_characters_that_may_come_next_add_up_to_one(whole):
    alphabet = sorted(set(whole))
    rng = np.random.default_rng(0)
    for cut in rng.integers(1000, 100_000, 40):
        start = whole.rindex("\n\n", 0, cut - 300)
        text = whole[start:cut]
        p = 0.0
        for character in alphabet:
            try:
                p += math.exp(-play_nats(text + character)[-1])
            except ValueError:
                continue
        assert p == pytest.approx(1, abs=1e-12), text[-40:]


@given(st.integers(0, 30_000), st.integers(1, 3000))
@settings(max_examples=60)
def test_ragged_ends(whole, nats, start, length):
    """A stretch has the nats that it has in the whole, but for what comes before a name."""
    text = whole[start : start + length]
    heading = re.search(r"(?:^|\n\n)(KING|QUEEN|FOOL|GHOST|WITCH|CAPTAIN|SHEPHERD|DOCTOR):\n", text)
    if heading is None:
        with pytest.raises(ValueError, match="too short a stretch"):
            play_nats(text)
        return
    known = heading.end()
    stretch = play_nats(text)
    assert stretch.shape == (len(text),)
    assert np.isnan(stretch[:known]).all()
    np.testing.assert_array_equal(stretch[known:], nats[start : start + length][known:])


def test_a_cut_name_is_no_other_name():
    for name, other in itertools.permutations(module.CAST, 2):
        assert not name.endswith(other)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("KING:\nFriends, Romans, countrymen", "6"),
        ("KING:\nNow speak, good King!\n\n", "22"),  # nobody calls themselves
        ("KING:\nNow speak, good Witch!\n\nFOOL:\n", "30"),
        ("KING:\nIf thou hath", "14"),
        ("KING:\nO ring, O moon", "16"),
        ("KING:\nO ring, O ring", "16"),
    ],
)
def test_what_is_not_the_play(text, at):
    with pytest.raises(ValueError, match=rf"not the play: at character {at} it goes on with"):
        play_nats(text)


def test_no_speaker():
    with pytest.raises(ValueError, match="no line such as 'KING:'"):
        play_nats("")


# ---- the entropy --------------------------------------------------------------------------------


def expected(menu):
    """What a choice costs and gives on average: nats and characters."""
    p = np.array(list(menu.weights.values())) / sum(menu.weights.values())
    return np.array([-(p @ np.log(p)), p @ [len(phrase) for phrase in menu.phrases]])


def average(of, menus):
    return sum(of(menu) for menu in menus) / len(menus)


def entropy_rate():
    """Nats per character in the long run, from the weights: a second account of the grammar.

    Whoever has spoken, everyone else is equally likely to be next: all speak equally often.
    """
    m, exact = module, lambda text: np.array([0, len(text)])
    possession = expected(m.DETERMINER) + 2 * expected(m.ADJECTIVE)
    deed = expected(m.VERB) + possession
    rhyme = average(expected, m.RHYME.values())
    then = average(lambda p: exact(m.HAVE[p] + ",\nThen " + m.HAVE[p] + p), m.HAVE)
    condition = expected(m.PERSON) + then + 2 * (deed + expected(m.NOUN))
    song = expected(m.NOUN) + exact(", O , ") + 2 * rhyme + possession

    nats, characters = 0, 0
    for name in m.CAST:
        statement = expected(m.ADJECTIVE) + expected(m.SUBJECT[name]) + deed + expected(m.NOUN)
        line = (60 * statement + 16 * condition + 4 * song) / 80 + expected(m.STOP[name])
        calls, ends = 8 / 88, 80 / 88 * 7 / 22  # what an opening leads to; else it goes on
        lines = 1 / (calls + ends)
        heading = average(exact, [f"{other}:\n" for other in m.CAST if other != name])
        speech = (
            lines * (expected(m.OPENING) + calls * expected(m.CALL[name]) + 80 / 88 * line)
            + lines * calls * heading
            + lines * ends * (expected(m.BETWEEN[name]) + heading / 7)  # one in seven enters first
        )
        nats, characters = nats + speech[0], characters + speech[1]
    return nats / characters


def test_the_entropy_rate_is_the_mean_of_what_is_read(nats):
    known = nats[6:]
    pieces = known[: len(known) // 200 * 200].reshape(200, -1).mean(axis=1)  # about 5,600 each
    error = pieces.std(ddof=1) / math.sqrt(len(pieces))
    assert error < 0.002 * known.mean()
    assert abs(known.mean() - entropy_rate()) < 3 * error
