"""Combinations that training never sees: pairs of kind and colour, and of kind and texture.

A model that finds "a blue star" without ever having seen one knows what both words mean. A fixed
hash says which pairs are held out, so that all machines and versions agree.
"""

from collections.abc import Sequence
from hashlib import sha256
from itertools import product
from typing import Literal

import numpy as np

from engine.drawing.phrases import COLOURS, KIND_NAMES, SIZES, TEXTURES, Phrase, Thing

Combinations = Literal["seen", "unseen", "all"]
_SHARE = 0.15
_PLAIN, _LARGE = 0.4, 0.4


def _held_out(kinds: Sequence[str], others: Sequence[str]) -> frozenset[tuple[str, str]]:
    """About `_SHARE` of the pairs, spread so that each kind and each other occurs in training."""
    wanted = round(_SHARE * len(kinds) * len(others))
    most_of_kind, most_of_other = -(-wanted // len(kinds)), -(-wanted // len(others))
    chosen: list[tuple[str, str]] = []
    for pair in sorted(product(kinds, others), key=_draw):
        kind, other = pair
        of_kind = sum(kind == taken for taken, _ in chosen)
        of_other = sum(other == taken for _, taken in chosen)
        if len(chosen) < wanted and of_kind < most_of_kind and of_other < most_of_other:
            chosen.append(pair)
    return frozenset(chosen)


def _draw(pair: tuple[str, str]) -> bytes:
    return sha256(f"maskloop held out: {' '.join(pair)}".encode()).digest()


HELD_OUT_COLOURS = _held_out(KIND_NAMES, COLOURS)
HELD_OUT_TEXTURES = _held_out(KIND_NAMES, [name for name in TEXTURES if name != "plain"])


def is_held_out(said: Thing | Phrase) -> bool:
    """Whether a thing is of, or a phrase names, a pair that is held out."""
    return (said.kind, said.colour) in HELD_OUT_COLOURS or (
        (said.kind, said.texture) in HELD_OUT_TEXTURES
    )


def some_thing(random: np.random.Generator, combinations: Combinations, **fixed: str) -> Thing:
    """Any thing with the `fixed` attributes; "unseen": of a held-out pair, "seen": of none."""
    while True:
        chosen = {
            "kind": KIND_NAMES[random.integers(len(KIND_NAMES))],
            "colour": COLOURS[random.integers(len(COLOURS))],
            "texture": "plain" if random.random() < _PLAIN else TEXTURES[random.integers(1, 4)],
            "size": SIZES[int(random.random() < _LARGE)],
        }
        thing = Thing(**{**chosen, **fixed})
        if combinations == "all" or (combinations == "unseen") == is_held_out(thing):
            return thing
