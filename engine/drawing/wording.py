"""Words for things: synonyms, orders of adjectives, sentences. A small closed vocabulary."""

import re
from collections.abc import Sequence

import numpy as np

from engine.drawing.phrases import Phrase, RelationPhrase

_Random = np.random.Generator
# The first of each is its name; plurals stand beside the nouns.
_NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "arrow": (("arrow", "arrows"),),
    "bar": (("bar", "bars"), ("stick", "sticks"), ("rod", "rods")),
    "crescent": (("crescent", "crescents"), ("moon", "moons")),
    "cross": (("cross", "crosses"), ("plus", "pluses")),
    "disc": (("disc", "discs"), ("circle", "circles"), ("ball", "balls")),
    "drop": (("drop", "drops"), ("teardrop", "teardrops")),
    "fish": (("fish", "fishes"),),
    "flower": (("flower", "flowers"), ("blossom", "blossoms")),
    "heart": (("heart", "hearts"),),
    "leaf": (("leaf", "leaves"),),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
    "square": (("square", "squares"), ("box", "boxes")),
    "star": (("star", "stars"),),
    "triangle": (("triangle", "triangles"),),
}
_ANYTHING = (("thing", "things"), ("object", "objects"))
_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "orange": ("orange",),
    "yellow": ("yellow", "golden"),
    "green": ("green",),
    "turquoise": ("turquoise", "cyan"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "plain": ("plain",),
    "striped": ("striped", "banded"),
    "spotted": ("spotted", "dotted"),
    "checked": ("checked", "chequered"),
    "small": ("small", "little"),
    "large": ("large", "big"),
}
_WITH = {"striped": "with stripes", "spotted": "with spots", "checked": "with checks"}
GROUNDS = ("white", "grey", "black", "brown", "green", "blue", "sandy")
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
_MANY = "many"
TEMPLATES = (
    "{}",
    "a picture of {}",
    "a drawing of {}",
    "there is {}",
    "here is {}",
    "{} in a picture",
)
# For what may be several, which "is" does not suit.
WHOLE_TEMPLATES = ("{}", "a picture of {}", "a drawing of {}")
# Their words occur in training, these sentences do not.
HELD_OUT_TEMPLATES = ("{} is here", "a picture with {}", "there is a drawing of {}")
_SIDES = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_EXTREMES = {"largest": ("largest", "biggest"), "smallest": ("smallest",)}
_JOINTS = "a an the and on ground something"


def _words() -> tuple[str, ...]:
    texts = [word for forms in (*_NOUNS.values(), _ANYTHING) for pair in forms for word in pair]
    texts += [word for forms in _ADJECTIVES.values() for word in forms]
    texts += [word for sides in (_SIDES, _EXTREMES) for forms in sides.values() for word in forms]
    texts += [*_WITH.values(), *GROUNDS, *_COUNTS.values(), _MANY, _JOINTS]
    texts += [*TEMPLATES, *HELD_OUT_TEMPLATES]
    return tuple(sorted(set(re.findall("[a-z]+", " ".join(texts)))))


VOCABULARY_TEXTS = _words()
"""Every word that a phrase or caption can have: what a tokenizer has to keep."""


def synonyms(name: str) -> tuple[str, ...]:
    """The words for a kind, colour, texture or size, its name first; ValueError for others."""
    if name in _NOUNS:
        return tuple(singular for singular, _ in _NOUNS[name])
    if name in _ADJECTIVES:
        return _ADJECTIVES[name]
    raise ValueError(f"name: must be a kind, colour, texture or size, but got {name!r}")


def phrase(
    random: _Random,
    said: dict[str, str],
    templates: Sequence[str] = TEMPLATES,
    *,
    plainly: bool = False,
) -> Phrase:
    """A phrase that says `said` (kind, colour, texture, size); `plainly`: by the names alone."""
    template = str(random.choice(templates))
    return Phrase(text=template.format(indefinite(random, said, plainly=plainly)), **said)


def relation(
    random: _Random, subject: dict[str, str], side: str, anchor: dict[str, str] | None
) -> RelationPhrase:
    """ "the red star left of the blue ring", or, without an anchor, "the largest red star"."""
    first = _noun_phrase(random, subject)
    if anchor is None:
        text = f"the {random.choice(_EXTREMES[side])} {first}"
        return RelationPhrase(
            text=text, subject=Phrase(text=f"a {first}", **subject), relation=side
        )
    second = _noun_phrase(random, anchor)
    return RelationPhrase(
        text=f"the {first} {random.choice(_SIDES[side])} the {second}",
        subject=Phrase(text=f"the {first}", **subject),
        relation=side,
        anchor=Phrase(text=f"the {second}", **anchor),
    )


def said(phrase: Phrase) -> dict[str, str]:
    """What a phrase says, by attribute."""
    found = {name: getattr(phrase, name) for name in ("kind", "colour", "texture", "size")}
    return {name: value for name, value in found.items() if value is not None}


def indefinite(random: _Random, said: dict[str, str], *, plainly: bool = False) -> str:
    """ "a striped red star", "an orange bar with spots", "something red"."""
    if "kind" not in said and (plainly or random.random() < 0.5):
        return "something " + " and ".join(_adjectives(random, said, plainly=plainly))
    noun = _noun_phrase(random, said, plainly=plainly)
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def several(random: _Random, said: dict[str, str], number: int) -> str:
    """ "two red stars"; one is "a red star", over five are "many red stars"."""
    if number == 1:
        return indefinite(random, said)
    return f"{_COUNTS.get(number, _MANY)} {_noun_phrase(random, said, plural=True)}"


def on_ground(random: _Random, text: str, ground: str) -> str:
    """ "a red star on a green ground"."""
    article = str(random.choice(["a", "the"]))
    return f"{text} on {article} {ground} ground"


def _noun_phrase(
    random: _Random, said: dict[str, str], *, plural: bool = False, plainly: bool = False
) -> str:
    forms = _NOUNS[said["kind"]] if "kind" in said else _ANYTHING
    noun = forms[0 if plainly else int(random.integers(len(forms)))][plural]
    before, behind = dict(said), ""
    if not plainly and said.get("texture") in _WITH and random.random() < 0.25:
        behind = " " + _WITH[before.pop("texture")]
    return " ".join([*_adjectives(random, before, plainly=plainly), noun]) + behind


def _adjectives(random: _Random, said: dict[str, str], *, plainly: bool) -> list[str]:
    """Size, texture, colour, in the order that English has them."""
    names = [said[name] for name in ("size", "texture", "colour") if name in said]
    return [
        name if plainly else str(random.choice(_ADJECTIVES[name], p=_first(_ADJECTIVES[name])))
        for name in names
    ]


def _first(forms: tuple[str, ...]) -> list[float]:
    """The name itself twice as often as its synonyms together."""
    return [1.0] if len(forms) == 1 else [2 / 3] + [1 / 3 / (len(forms) - 1)] * (len(forms) - 1)
