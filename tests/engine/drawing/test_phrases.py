"""Phrases: what they mean, in which words, and which of them training never sees."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from engine.drawing import wording
from engine.drawing.combinations import (
    HELD_OUT_COLOURS,
    HELD_OUT_TEXTURES,
    is_held_out,
    some_thing,
)
from engine.drawing.phrases import (
    COLOURS,
    EXTREMES,
    KIND_NAMES,
    SIDES,
    SIZES,
    TEXTURES,
    Phrase,
    Placed,
    RelationPhrase,
    Thing,
)

THINGS = [
    Thing(kind=kind, colour=colour, texture=texture, size=size)
    for kind, colour, texture, size in product(KIND_NAMES, COLOURS, TEXTURES, SIZES)
]
STAR = Thing(kind="star", colour="red", texture="striped", size="small")


def at(x: float, y: float, area: float = 100.0, **changes: str) -> Placed:
    thing = Thing(**{"kind": "star", "colour": "red", **changes})
    return Placed(thing=thing, centre=(x, y), area=area)


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ({"kind": "star"}, True),
        ({"kind": "star", "colour": "red"}, True),
        ({"kind": "star", "colour": "blue"}, False),
        ({"colour": "red"}, True),
        ({"kind": "ring", "colour": "red"}, False),
        ({"texture": "striped", "kind": "star"}, True),
        ({"texture": "plain", "kind": "star"}, False),
        ({"size": "small", "texture": "striped", "colour": "red", "kind": "star"}, True),
        ({"size": "large", "colour": "red"}, False),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_a_phrase_is_true_of_a_thing_that_has_all_it_says(said: dict, true: bool) -> None:
    phrase = Phrase(text="", **said)
    assert phrase.matches(STAR) == true
    nothing_of_it = Thing(kind="fish", colour="green", texture="checked", size="large")
    things = [nothing_of_it, STAR, STAR] if "large" not in said.values() else [STAR]
    placed = [Placed(thing=thing, centre=(0, 0), area=9) for thing in things]
    assert phrase.meant(placed).tolist() == [thing is STAR and true for thing in things]


def test_left_is_where_x_is_less_and_above_where_y_is() -> None:
    placed = [at(10, 50), at(90, 50), at(50, 50, kind="ring"), at(50, 10, colour="blue")]
    star, ring = Phrase(text="the star", kind="star"), Phrase(text="the ring", kind="ring")
    expected = {"left": [0], "right": [1], "above": [3], "below": []}
    for side, indices in expected.items():
        phrase = RelationPhrase(text="", subject=star, relation=side, anchor=ring)
        assert np.flatnonzero(phrase.meant(placed)).tolist() == indices
        assert not phrase.meant(placed[:2]).any(), "nothing is beside what is not there"


def test_the_largest_is_one_of_those_meant() -> None:
    placed = [at(0, 0, 50), at(0, 0, 100), at(0, 0, 900, kind="ring"), at(0, 0, 30)]
    star = Phrase(text="a star", kind="star")
    for relation, index in (("largest", 1), ("smallest", 3)):
        phrase = RelationPhrase(text="", subject=star, relation=relation)
        assert np.flatnonzero(phrase.meant(placed)).tolist() == [index]
    assert (
        not RelationPhrase(text="", subject=Phrase(text="a fish", kind="fish"), relation="largest")
        .meant(placed)
        .any()
    )


@pytest.mark.parametrize(
    ("placed", "clear"),
    [
        ([at(10, 50), at(90, 50), at(50, 50, kind="ring")], True),
        ([at(10, 50), at(51, 50), at(50, 50, kind="ring")], False),
        ([at(10, 50), at(20, 50), at(50, 50, kind="ring")], False),
        ([at(10, 50), at(90, 50), at(50, 50, kind="ring"), at(60, 9, kind="ring")], False),
        ([at(30, 10), at(90, 50), at(50, 90, kind="ring")], False),
        ([at(90, 50), at(80, 50), at(50, 50, kind="ring")], False),
    ],
    ids=["clear", "a close call", "all are", "two anchors", "rather above", "none is"],
)
def test_a_relation_is_clear_when_people_would_agree(placed: list[Placed], clear: bool) -> None:
    phrase = RelationPhrase(
        text="the star left of the ring",
        subject=Phrase(text="a star", kind="star"),
        relation="left",
        anchor=Phrase(text="a ring", kind="ring"),
    )
    assert phrase.is_clear(placed) == clear


@pytest.mark.parametrize(("areas", "clear"), [((100, 200), True), ((100, 110), False)])
def test_the_largest_is_clear_when_it_is_so_by_far(areas: tuple[int, int], clear: bool) -> None:
    placed = [at(0, 0, area) for area in areas]
    subject = Phrase(text="a star", kind="star")
    for relation in EXTREMES:
        phrase = RelationPhrase(text="", subject=subject, relation=relation)
        assert phrase.is_clear(placed) == clear


def test_about_a_seventh_of_the_pairs_is_held_out_and_each_word_is_learnt() -> None:
    assert 0.12 < len(HELD_OUT_COLOURS) / (len(KIND_NAMES) * len(COLOURS)) < 0.18
    textures = [texture for texture in TEXTURES if texture != "plain"]
    assert 0.1 < len(HELD_OUT_TEXTURES) / (len(KIND_NAMES) * len(textures)) < 0.2
    seen = [thing for thing in THINGS if not is_held_out(thing)]
    colours, kinds = (
        Counter(getattr(thing, name) for thing in seen) for name in ("colour", "kind")
    )
    assert min(colours[colour] for colour in COLOURS) > 0.6 * len(THINGS) / len(COLOURS)
    assert min(kinds[kind] for kind in KIND_NAMES) > 0.5 * len(THINGS) / len(KIND_NAMES)
    assert {"plain"}.isdisjoint(texture for _, texture in HELD_OUT_TEXTURES)


def test_the_pairs_that_are_held_out_stay_the_same() -> None:
    """A model's card says that it never saw them: another choice would make that untrue."""
    assert {("star", "red"), ("ring", "orange"), ("fish", "blue")} <= HELD_OUT_COLOURS
    assert {("square", "striped"), ("star", "checked")} <= HELD_OUT_TEXTURES


@pytest.mark.parametrize("combinations", ["seen", "unseen", "all"])
def test_things_are_of_the_combinations_asked_for(combinations) -> None:
    random = np.random.default_rng(4)
    held_out = [is_held_out(some_thing(random, combinations)) for _ in range(2000)]
    if combinations == "all":
        assert 0.1 < np.mean(held_out) < 0.5
    else:
        assert set(held_out) == {combinations == "unseen"}


def test_a_text_has_words_of_the_vocabulary_and_says_what_the_phrase_does() -> None:
    random, known = np.random.default_rng(3), set(wording.VOCABULARY_TEXTS)
    templates = [*wording.TEMPLATES, *wording.HELD_OUT_TEMPLATES]
    used: set[str] = set()
    for thing in THINGS:
        said = {name: getattr(thing, name) for name in ("kind", "colour", "texture", "size")}
        kept = [name for name in said if random.random() < 0.5] or ["colour"]
        phrase = wording.phrase(random, {name: said[name] for name in kept}, templates)
        assert phrase.matches(thing)
        used |= set(phrase.text.split())
        assert _read(phrase.text) == wording.said(phrase)
    assert used <= known


def test_every_name_of_a_thing_is_a_word_of_the_vocabulary() -> None:
    for name in (*KIND_NAMES, *COLOURS, *TEXTURES, *SIZES):
        assert wording.synonyms(name)[0] == name
        assert set(wording.synonyms(name)) <= set(wording.VOCABULARY_TEXTS)
    assert all(word.isascii() and word.islower() for word in wording.VOCABULARY_TEXTS)


def test_no_word_means_two_things() -> None:
    names = (*KIND_NAMES, *COLOURS, *TEXTURES, *SIZES)
    words = Counter(word for name in names for word in wording.synonyms(name))
    assert set(words.values()) == {1}


def test_templates_that_are_held_out_have_words_that_are_not() -> None:
    trained = {word for template in wording.TEMPLATES for word in template.split()}
    held_out = {word for template in wording.HELD_OUT_TEMPLATES for word in template.split()}
    assert held_out - trained <= {"with"}, "which stands in phrases such as a bar with stripes"
    assert set(wording.TEMPLATES).isdisjoint(wording.HELD_OUT_TEMPLATES)


def test_plainly_said_is_said_by_the_names_alone() -> None:
    random = np.random.default_rng(0)
    said = {"kind": "disc", "colour": "orange", "texture": "spotted", "size": "large"}
    texts = {wording.indefinite(random, said, plainly=True) for _ in range(20)}
    assert texts == {"a large spotted orange disc"}
    assert wording.indefinite(random, {"colour": "red"}, plainly=True) == "something red"
    assert wording.indefinite(random, {"colour": "orange", "kind": "bar"}, plainly=True) == (
        "an orange bar"
    )


@pytest.mark.parametrize(
    ("number", "start"), [(1, "a heart"), (2, "two hearts"), (5, "five hearts"), (9, "many hearts")]
)
def test_several_are_counted(number: int, start: str) -> None:
    assert wording.several(np.random.default_rng(0), {"kind": "heart"}, number) == start


def test_the_words_of_a_relation_name_both_and_the_side() -> None:
    random, known = np.random.default_rng(1), set(wording.VOCABULARY_TEXTS)
    for side in SIDES:
        phrase = wording.relation(random, {"kind": "star"}, side, {"kind": "heart"})
        assert phrase.text.startswith("the star ")
        assert phrase.text.endswith(" the heart")
        assert set(phrase.text.split()) <= known
    for relation in EXTREMES:
        phrase = wording.relation(random, {"kind": "star"}, relation, None)
        assert phrase.text.split()[0::2] == ["the", "star"]
        assert set(phrase.text.split()) <= known


@pytest.mark.parametrize("changes", [{"kind": "cat"}, {"colour": "beige"}, {"size": "huge"}])
def test_what_is_not_known_is_refused(changes: dict) -> None:
    name = next(iter(changes))
    with pytest.raises(ValueError, match=f"^{name}: must be one of"):
        Thing(**{"kind": "star", "colour": "red", **changes})
    with pytest.raises(ValueError, match=f"^{name}: must be None or one of"):
        Phrase(text="", **changes)


def test_a_phrase_of_nothing_and_a_word_for_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^kind: "):
        Phrase(text="a")
    with pytest.raises(ValueError, match=r"^name: "):
        wording.synonyms("zebra")


@pytest.mark.parametrize(
    ("relation", "anchor"), [("left", None), ("largest", Phrase(text="a star", kind="star"))]
)
def test_a_relation_without_its_anchor_is_refused(relation: str, anchor: Phrase | None) -> None:
    with pytest.raises(ValueError, match=r"^relation: "):
        RelationPhrase(
            text="", subject=Phrase(text="a", kind="star"), relation=relation, anchor=anchor
        )


def _read(text: str) -> dict[str, str]:
    """A slow reader that looks each word up among all synonyms."""
    attributes = {"kind": KIND_NAMES, "colour": COLOURS, "texture": TEXTURES, "size": SIZES}
    endings = {"stripes": "striped", "spots": "spotted", "checks": "checked"}
    words = [endings.get(word, word) for word in text.split()]
    return {
        attribute: name
        for attribute, names in attributes.items()
        for name in names
        if set(wording.synonyms(name)) & set(words)
    }
