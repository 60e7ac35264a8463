"""Which things a captioned scene has: some alike, others with their kind or their colour."""

from dataclasses import dataclass, replace

import numpy as np

from engine.drawing.combinations import HELD_OUT_TEXTURES, Combinations, some_thing
from engine.drawing.phrases import Thing

_Random = np.random.Generator
_THEMES = {"mixed": 0.3, "kin": 0.4, "crowd": 0.3}


@dataclass(frozen=True, kw_only=True)
class Cast:
    """needed: things without which the scene makes no sense; extras: if there is room."""

    needed: tuple[Thing, ...]
    extras: tuple[Thing, ...]

    @property
    def colours(self) -> set[str]:
        """Those of all its things."""
        return {thing.colour for thing in (*self.needed, *self.extras)}


def some_cast(random: _Random, number: tuple[int, int], combinations: Combinations) -> Cast:
    """Things for a scene, `number` (from, to) of them, more in a crowd.

    Among "unseen" combinations some things are of a held-out pair and all others are not; one of
    those has its kind, another its colour (or texture).
    """
    count = round(float(np.exp(random.uniform(*np.log(number)))))
    theme = str(random.choice(list(_THEMES), p=list(_THEMES.values())))
    around: Combinations = "seen" if combinations == "unseen" else combinations
    if theme == "mixed" and combinations != "unseen":
        things = [some_thing(random, around) for _ in range(count)]
        return Cast(needed=tuple(things[:1]), extras=tuple(things[1:]))
    hero = some_thing(random, combinations)
    shared = _shared(random, hero, combinations)
    needed = [hero, *(_kin(random, hero, shared, by_kind, around) for by_kind in (True, False))]
    copies = int(random.integers(3, 8)) if theme == "crowd" else int(random.integers(0, 2))
    extras = [_alike(random, hero, shared, combinations, theme) for _ in range(copies)]
    for _ in range(count - len(needed) - (copies if theme == "kin" else 0)):
        akin = random.random() < 0.5
        by_kind = bool(random.random() < 0.5)
        extras.append(
            _kin(random, hero, shared, by_kind, around) if akin else some_thing(random, around)
        )
    return Cast(needed=_shuffled(random, needed), extras=_shuffled(random, extras))


def _shared(random: _Random, hero: Thing, combinations: Combinations) -> str:
    """The attribute that, with its kind, makes the hero what it is."""
    if combinations == "unseen":
        return "texture" if (hero.kind, hero.texture) in HELD_OUT_TEXTURES else "colour"
    return str(random.choice(["colour", "texture"], p=[0.75, 0.25]))


def _kin(random: _Random, hero: Thing, shared: str, by_kind: bool, around: Combinations) -> Thing:
    """Of the hero's kind with another colour (or texture), or the other way round."""
    same, other = ("kind", shared) if by_kind else (shared, "kind")
    while True:
        thing = some_thing(random, around, **{same: getattr(hero, same)})
        if getattr(thing, other) != getattr(hero, other):
            return thing


def _alike(
    random: _Random, hero: Thing, shared: str, combinations: Combinations, theme: str
) -> Thing:
    """Another of the hero's pair; a crowd is small, so that there is room for it."""
    same = {name: getattr(hero, name) for name in ("kind", shared)}
    thing = some_thing(random, combinations, **same)
    return replace(thing, size="small") if theme == "crowd" else thing


def _shuffled(random: _Random, things: list[Thing]) -> tuple[Thing, ...]:
    return tuple(things[index] for index in random.permutation(len(things)))
