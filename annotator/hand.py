"""How the simulated annotator makes one mask: click by click, and with a brush if that fails."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from annotator.item import Proposal
from annotator.messages import Logits, PredictAnswer, PredictedMask, PredictRequest
from annotator.submission import Click
from engine import rle
from engine.geometry import Mask, Window
from engine.rle import Rle
from engine.training.clicks import next_click

Ask = Callable[[PredictRequest], PredictAnswer]
_POSITIVE = 1


@dataclass(frozen=True, kw_only=True)
class Skill:
    """How an annotator works on one mask.

    A mask is good at IoU `target_iou`. After `max_clicks` it is drawn with a brush instead, which
    costs as much as `drawing_clicks` clicks. Clicks miss the place that is meant by `jitter_px`
    pixels (standard deviation), but never leave the region that is wrong.
    """

    target_iou: float
    max_clicks: int
    drawing_clicks: int
    seconds_per_click: float
    seconds_per_drawing: float
    jitter_px: float


@dataclass
class Effort:
    """What is left of an item's budget, in clicks, and the seconds that have gone by."""

    clicks_left: int
    seconds: float = 0.0

    def spend(self, clicks: int, seconds: float) -> None:
        """Take clicks from the budget and let time pass."""
        assert clicks <= self.clicks_left, "whoever spends looks first"
        self.clicks_left -= clicks
        self.seconds += seconds


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How far a mask is: what was clicked, what the model made of it, its IoU with the truth."""

    mask: Mask
    iou: float
    clicks: tuple[Click, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    logits: Logits | None = None
    window: Window | None = None
    segmentation: Rle | None = None
    drawn: bool = False


class Hand:
    """Makes masks of one image through `ask`, within one budget."""

    def __init__(self, ask: Ask, skill: Skill, effort: Effort, random: np.random.Generator) -> None:
        self._ask = ask
        self._skill = skill
        self._effort = effort
        self._random = random

    def add(self, truth: Rle) -> Attempt | None:
        """A new mask of an object that nobody proposed; None when the budget ends first."""
        target = rle.decode(truth)
        return self._finish(Attempt(mask=np.zeros_like(target), iou=0.0), truth, target)

    def fix(self, proposal: Proposal, truth: Rle) -> Attempt | None:
        """A proposal corrected to show its object; None when the budget ends first."""
        target = rle.decode(truth)
        return self._finish(self._reopen(proposal, target), truth, target)

    def _reopen(self, proposal: Proposal, target: Mask) -> Attempt:
        # A proposal has no logits to click on from. Its own prompt gives them, as in the page.
        mask = rle.decode(proposal.segmentation)
        attempt = Attempt(mask=mask, iou=_iou(mask, target))
        if proposal.point_coords:
            points = tuple((float(x), float(y)) for x, y in proposal.point_coords)
            attempt = replace(attempt, points=points, labels=(_POSITIVE,) * len(points))
        else:
            x, y, width, height = proposal.bbox
            attempt = replace(attempt, box=(x, y, x + width, y + height))
        answers = self._ask(_request(attempt, multimask=True)).masks
        ious = rle.iou_matrix([answer.segmentation for answer in answers], [proposal.segmentation])
        nearest = answers[int(ious[:, 0].argmax())]
        return replace(attempt, logits=nearest.logits, window=nearest.window)

    def _finish(self, attempt: Attempt, truth: Rle, target: Mask) -> Attempt | None:
        skill, effort = self._skill, self._effort
        may_draw = effort.clicks_left > skill.drawing_clicks
        # Kept back, so that a mask once begun is finished. The last few clicks are a gamble.
        kept = skill.drawing_clicks if may_draw else 0
        for _ in range(min(skill.max_clicks, effort.clicks_left - kept)):
            attempt = self._click(attempt, target)
            if attempt.iou >= skill.target_iou:
                return attempt
        if not may_draw:
            return None
        effort.spend(skill.drawing_clicks, skill.seconds_per_drawing)
        return replace(attempt, mask=target, iou=1.0, segmentation=truth, drawn=True)

    def _click(self, attempt: Attempt, target: Mask) -> Attempt:
        x, y, label = self._aim(target, attempt.mask)
        self._effort.spend(1, self._skill.seconds_per_click)
        at_s = self._effort.seconds
        attempt = replace(
            attempt, points=(*attempt.points, (x, y)), labels=(*attempt.labels, label)
        )
        answer, mask = _best(self._ask(_request(attempt)).masks, target)
        click = Click(
            x=x,
            y=y,
            label=label,
            at_s=at_s,
            predicted_iou=answer.predicted_iou,
            segmentation=answer.segmentation,
        )
        return replace(
            attempt,
            mask=mask,
            iou=_iou(mask, target),
            clicks=(*attempt.clicks, click),
            logits=answer.logits,
            window=answer.window,
            segmentation=answer.segmentation,
        )

    def _aim(self, target: Mask, mask: Mask) -> tuple[float, float, int]:
        x, y, label = next_click(target, mask)
        wrong = target & ~mask if label == _POSITIVE else mask & ~target
        shaky = np.array([x, y]) + self._random.normal(0.0, self._skill.jitter_px, size=2)
        column, row = (int(value) for value in np.floor(shaky))
        height, width = target.shape
        if 0 <= row < height and 0 <= column < width and wrong[row, column]:
            x, y = shaky
        return float(x), float(y), int(label == _POSITIVE)


def _request(attempt: Attempt, *, multimask: bool | None = None) -> PredictRequest:
    return PredictRequest(
        points=attempt.points,
        labels=attempt.labels,
        box=attempt.box,
        logits=attempt.logits,
        window=attempt.window,
        multimask=multimask,
    )


def _best(answers: Sequence[PredictedMask], target: Mask) -> tuple[PredictedMask, Mask]:
    # Whole, part or subpart: a person sees which is meant and presses its key.
    masks = [rle.decode(answer.segmentation) for answer in answers]
    best = int(np.argmax([_iou(mask, target) for mask in masks]))
    return answers[best], masks[best]


def _iou(a: Mask, b: Mask) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0
