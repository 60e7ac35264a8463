"""What the generator gives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.generation.grid import CropBox
from engine.geometry import Boxes, Mask, mask_to_box
from engine.rle import Rle, segments_of

LEVELS = ("whole", "part", "subpart")


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedMask:
    """One mask; boxes are (4,) xyxy in pixels of the image, `point_xy` is the click that made it.

    Of a mask that a detector's box made, `box_score` is how sure of an object the detector is, and
    `point_xy` the middle of the box.

    `number`: its place among all that the model gave for the image.
    `area` in pixels; `predicted_iou` and `stability_score` in [0, 1], but until the choice is made
    `predicted_iou` is as the model says, which may pass 1 by a little. Once it is made, `part_of`
    is the number of the smallest other mask of the image that holds this one, and `level` says how
    deep: one of LEVELS, of which the last also stands for all below it.
    """

    number: int
    rle: Rle
    box_xyxy: Boxes
    crop: CropBox
    area: int
    predicted_iou: float
    stability_score: float
    point_xy: tuple[float, float]
    box_score: float = 1.0
    part_of: int | None = None
    level: str = LEVELS[0]

    @property
    def score(self) -> float:
        """How good the model thinks the mask is; masks are ranked by it."""
        return self.predicted_iou * self.stability_score * self.box_score

    def redrawn(self, shape: Mask, x0: int, y0: int) -> "GeneratedMask":
        """With the pixels (h, w) of a part of the image that begins at (x0, y0)."""
        height, width = self.rle.size
        return replace(
            self,
            rle=segments_of(shape.T, x0, y0, height).encoded(width),
            box_xyxy=mask_to_box(shape) + np.array([x0, y0, x0, y0], dtype=np.float32),
            area=int(np.count_nonzero(shape)),
        )


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

    def include(self, other: "Rejections") -> None:
        """What `other` counted went too."""
        self.counts += other.counts
        self.reasons |= other.reasons


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
    predicted_iou, stability, area, crop_edge, duplicate_box, duplicate_mask, contained, max_masks,
    covered; of a replay also below_thresholds, either of the first two. Of several reasons the
    first that was found counts. `candidates` where they were asked for. `savings`: the bounds of
    the config, by name, that were lowered because memory ran out, and to what.
    """

    masks: list[GeneratedMask]
    num_proposed: int
    rejections: dict[str, int]
    candidates: Candidates | None = None
    savings: Mapping[str, int] = field(default_factory=dict)
