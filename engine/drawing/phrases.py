"""Things that captions speak of, and phrases whose truth is known for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KIND_NAMES = (
    "arrow",
    "bar",
    "crescent",
    "cross",
    "disc",
    "drop",
    "fish",
    "flower",
    "heart",
    "leaf",
    "ring",
    "square",
    "star",
    "triangle",
)
COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
TEXTURES = ("plain", "striped", "spotted", "checked")
SIZES = ("small", "large")
_ATTRIBUTES = {"kind": KIND_NAMES, "colour": COLOURS, "texture": TEXTURES, "size": SIZES}
SIDES = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}
_ACROSS = {"left": "above", "right": "above", "above": "left", "below": "left"}
EXTREMES = ("largest", "smallest")
# An object is clearly the largest when it covers this many times what the next one does.
_CLEARLY = 1.5


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A drawn object as people would describe it; its size is relative to the scene."""

    kind: str
    colour: str
    texture: str = "plain"
    size: str = "small"

    def __post_init__(self) -> None:
        for name, known in _ATTRIBUTES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: must be one of {known}, but got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A thing in a scene: the middle (x, y) of what is seen of it, and the area of all of it."""

    thing: Thing
    centre: tuple[float, float]
    area: float

    @property
    def radius(self) -> float:
        """Of a disc of its area."""
        return float(np.sqrt(self.area / np.pi))


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """What a text says of a thing; None: nothing. Its `kind` is None for "something red"."""

    text: str
    kind: str | None = None
    colour: str | None = None
    texture: str | None = None
    size: str | None = None

    def __post_init__(self) -> None:
        said = [getattr(self, name) for name in _ATTRIBUTES]
        if said == [None] * len(said):
            raise ValueError("kind: a phrase must say something of a thing, but all four are None")
        for (name, known), value in zip(_ATTRIBUTES.items(), said, strict=True):
            if value is not None and value not in known:
                raise ValueError(f"{name}: must be None or one of {known}, but got {value!r}")

    def matches(self, thing: Thing) -> bool:
        """Whether it is true of a thing."""
        return all(getattr(self, name) in (None, getattr(thing, name)) for name in _ATTRIBUTES)

    def meant(self, placed: Sequence[Placed]) -> npt.NDArray[np.bool_]:
        """(N,) which of a scene's things it means."""
        return np.array([self.matches(item.thing) for item in placed], dtype=bool)


@dataclass(frozen=True, kw_only=True)
class RelationPhrase:
    """Things known by where they are or how large.

    relation: a side ("left", "right", "above", "below") of what `anchor` means, or "largest" or
    "smallest" of what `subject` means, without an anchor.
    """

    text: str
    subject: Phrase
    relation: str
    anchor: Phrase | None = None

    def __post_init__(self) -> None:
        known = EXTREMES if self.anchor is None else tuple(SIDES)
        if self.relation not in known:
            raise ValueError(f"relation: must be one of {known}, but got {self.relation!r}")

    def meant(self, placed: Sequence[Placed]) -> npt.NDArray[np.bool_]:
        """(N,) which of a scene's things it means."""
        subjects = self.subject.meant(placed)
        if self.anchor is None:
            return subjects & _extreme(placed, subjects, self.relation)
        beyond = _offsets(placed, self.relation) > 0
        np.fill_diagonal(beyond, val=False)
        anchors = self.anchor.meant(placed)
        return np.asarray(subjects & (beyond & anchors).any(axis=1))

    def is_clear(self, placed: Sequence[Placed]) -> bool:
        """Whether people would agree: one anchor, not all subjects meant, no close call."""
        subjects, meant = self.subject.meant(placed), self.meant(placed)
        if not meant.any() or (subjects == meant).all():
            return False
        if self.anchor is None:
            areas = np.sort(np.array([item.area for item in placed])[subjects])
            first, second = areas[:2] if self.relation == "smallest" else areas[-2:]
            return bool(second > first * _CLEARLY)
        anchors = self.anchor.meant(placed)
        if anchors.sum() != 1 or (anchors & subjects).any():
            return False
        radii = np.array([item.radius for item in placed])
        along = np.abs(_offsets(placed, self.relation)[:, anchors][:, 0])
        across = np.abs(_offsets(placed, _ACROSS[self.relation])[:, anchors][:, 0])
        apart = along > 0.7 * (radii + radii[anchors])
        return bool(apart[subjects].all() and (across < 1.5 * along)[meant].all())


def _offsets(placed: Sequence[Placed], side: str) -> npt.NDArray[np.float64]:
    """(N, N) pixels by which the first lies to that side of the second."""
    axis, sign = SIDES[side]
    along = np.array([item.centre[axis] for item in placed], dtype=np.float64) * sign
    return np.asarray(along[:, None] - along[None])


def _extreme(
    placed: Sequence[Placed], subjects: npt.NDArray[np.bool_], relation: str
) -> npt.NDArray[np.bool_]:
    areas = np.array([item.area for item in placed], dtype=np.float64)
    if not subjects.any():
        return subjects
    bound = areas[subjects].max() if relation == "largest" else areas[subjects].min()
    return np.asarray(areas == bound)
