"""What a careless annotator gets wrong without noticing: masks beside their object, or none."""

import numpy as np

from annotator.submission import AddedMask, Decision
from engine import rle
from engine.rle import Rle


class Slips:
    """Spoils a share `rate` of the masks of one image: half are shifted, half are forgotten."""

    def __init__(self, rate: float, random: np.random.Generator) -> None:
        self._rate = rate
        self._random = random

    def in_decision(self, decision: Decision, proposal: Rle) -> Decision:
        """The decision on `proposal` as it is sent."""
        if decision.action == "rejected" or not self._slips():
            return decision
        shifted = self._shifted(decision.segmentation or proposal)
        return Decision(
            proposal_id=decision.proposal_id,
            action="rejected" if shifted is None else "edited",
            segmentation=shifted,
            clicks=decision.clicks,
            drawn=shifted is not None,
        )

    def in_added(self, added: AddedMask) -> AddedMask | None:
        """A new mask as it is sent; None if it is forgotten."""
        if not self._slips():
            return added
        shifted = self._shifted(added.segmentation)
        if shifted is None:
            return None
        return added.model_copy(update={"segmentation": shifted, "drawn": True})

    def _slips(self) -> bool:
        return bool(self._random.random() < self._rate)

    def _shifted(self, mask: Rle) -> Rle | None:
        return None if self._random.random() < 0.5 else shifted(mask)


def shifted(mask: Rle) -> Rle | None:
    """A mask moved by half its box, towards the middle of the image; None if nothing is left."""
    pixels = rle.decode(mask)
    x0, y0, x1, y1 = (int(value) for value in rle.box(mask))
    right, down = _step(x0, x1, mask.size[1]), _step(y0, y1, mask.size[0])
    moved = np.roll(pixels, (down, right), axis=(0, 1))
    # What leaves the image on one side must not come back on the other.
    moved[: max(0, down)] = moved[len(moved) + min(0, down) :] = False
    moved[:, : max(0, right)] = moved[:, moved.shape[1] + min(0, right) :] = False
    return rle.encode_one(moved) if moved.any() else None


def _step(start: int, end: int, side: int) -> int:
    half = max(1, (end - start) // 2)
    return half if start + end <= side else -half
