"""What the generator gives."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.generation.grid import CropBox
from engine.geometry import Boxes
from engine.rle import Rle


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedMask:
    """One mask; boxes are (4,) xyxy in pixels of the image, `point_xy` is the click that made it.

    `number`: its place among all that the model gave for the image.
    `area` in pixels; `predicted_iou` and `stability_score` in [0, 1], but until the choice is made
    `predicted_iou` is as the model says, which may pass 1 by a little.
    """

    number: int
    rle: Rle
    box_xyxy: Boxes
    crop: CropBox
    area: int
    predicted_iou: float
    stability_score: float
    point_xy: tuple[float, float]

    @property
    def score(self) -> float:
        """How good the model thinks the mask is; masks are ranked by it."""
        return self.predicted_iou * self.stability_score


@dataclass
class Rejections:
    """Why masks went: how many for each reason, and which, by their numbers, as far as known."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, reason: str, *numbers: int) -> None:
        """The masks of these numbers went for `reason`."""
        self.counts[reason] += len(numbers)
        self.reasons.update(dict.fromkeys(numbers, reason))

    def add_unnamed(self, reason: str, count: int) -> None:
        """As many masks went for `reason` before anyone gave them numbers."""
        self.counts[reason] += count


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What the model gave for an image, above a floor; `rejected` says why masks went, by number.

    masks: in the order of their numbers.
    """

    masks: Sequence[GeneratedMask]
    rejected: dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The masks of one image, best first, and why the others went.

    `num_proposed` counts what the model gave: len(masks) + sum(rejections.values()). Reasons:
    predicted_iou, stability, area, crop_edge, duplicate_box, duplicate_mask, contained, max_masks;
    of a replay also below_thresholds, either of the first two. Of several reasons the first that
    was found counts. `candidates` where they were asked for.
    """

    masks: list[GeneratedMask]
    num_proposed: int
    rejections: dict[str, int]
    candidates: Candidates | None = None
