"""How many clicks a mask takes: the protocol of interactive segmentation.

The first click is in the middle of the object, of three answers the one with the highest predicted
IoU counts; each further click is in the middle of the largest error, with the logits of the answer
before. IoU is of the whole image at its own resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.geometry import Mask
from engine.model.interactive import Answer, InteractivePredictor
from engine.model.prompts import Prompts
from engine.training.clicks import next_click


@dataclass(frozen=True, kw_only=True)
class ClickTrace:
    """One object: `ious[i]` is the IoU after click i + 1.

    Of the three answers to the first click, `expected_iou` is what the model predicted of the one
    it chose, and `oracle_iou` the true IoU of the best.
    """

    ious: npt.NDArray[np.float64]
    expected_iou: float
    oracle_iou: float

    def at(self, num_clicks: int) -> float:
        """The IoU at a click, not the best so far."""
        return float(self.ious[num_clicks - 1])

    def num_clicks_to(self, target: float) -> int:
        """The first click that reaches `target`; the number of all clicks when none does."""
        reached = np.flatnonzero(self.ious >= target)
        return int(reached[0]) + 1 if reached.size else len(self.ious)


@dataclass(frozen=True)
class _Given:
    """What a click gave: the answer that counts, its mask and IoU, and the best IoU of all."""

    answer: Answer
    mask: Mask
    iou: float
    oracle_iou: float


@dataclass
class _State:
    """An object that is being clicked on."""

    truth: Mask
    points: list[tuple[float, float]]
    labels: list[int]
    ious: list[float]
    first: _Given | None = None
    last: _Given | None = None

    @property
    def perfect(self) -> bool:
        return bool(self.ious) and self.ious[-1] == 1.0

    def click(self) -> None:
        x, y, label = next_click(self.truth, None if self.last is None else self.last.mask)
        self.points.append((x, y))
        self.labels.append(label)

    def take(self, answers: Sequence[Answer]) -> None:
        self.last = _given(answers, self.truth)
        self.first = self.first or self.last
        self.ious.append(self.last.iou)

    def trace(self) -> ClickTrace:
        assert self.first is not None, "every object gets a first click"
        return ClickTrace(
            ious=np.array(self.ious),
            expected_iou=self.first.answer.iou,
            oracle_iou=self.first.oracle_iou,
        )


def click_traces(
    predictor: InteractivePredictor,
    truths: Mask,
    *,
    num_clicks: int,
    num_needed: int,
    target: float,
) -> list[ClickTrace]:
    """Click on each object of one image.

    truths: (N, H, W) bool, none empty. All objects get `num_needed` clicks; of the others up to
    `num_clicks` only those that have not reached `target`, since nobody asks for the rest: the last
    IoU is repeated, as for a perfect mask, on which there is nothing to click.
    """
    states = [_State(truth, [], [], []) for truth in truths]
    for round_number in range(num_clicks):
        active = [
            state for state in states if not _finished(state, round_number, num_needed, target)
        ]
        if active:
            _round(predictor, active)
        for state in states:
            state.ious += state.ious[-1:] * (round_number + 1 - len(state.ious))
    return [state.trace() for state in states]


def random_click_ious(
    predictor: InteractivePredictor, truths: Mask, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(N,) the IoU after one click at a random pixel of each object; truths as `click_traces`."""
    points = np.array([[_random_point(truth, random)] for truth in truths], dtype=np.float32)
    prompts = Prompts(points=points, labels=np.ones((len(truths), 1), dtype=np.int64))
    answers = predictor.first(prompts, multimask=True)
    return np.array([_given(each, truth).iou for each, truth in zip(answers, truths, strict=True)])


def _random_point(truth: Mask, random: np.random.Generator) -> tuple[float, float]:
    row, column = divmod(int(random.choice(np.flatnonzero(truth))), truth.shape[1])
    return column + 0.5, row + 0.5


def _finished(state: _State, round_number: int, num_needed: int, target: float) -> bool:
    return state.perfect or (round_number >= num_needed and max(state.ious) >= target)


def _round(predictor: InteractivePredictor, states: list[_State]) -> None:
    """One click on each, in one call: three masks for a first click, then one."""
    for state in states:
        state.click()
    prompts = Prompts(
        points=np.array([state.points for state in states], dtype=np.float32),
        labels=np.array([state.labels for state in states], dtype=np.int64),
    )
    earlier = [state.last.answer for state in states if state.last is not None]
    found = (
        predictor.again(prompts, earlier) if earlier else predictor.first(prompts, multimask=True)
    )
    for state, answers in zip(states, found, strict=True):
        state.take(answers)


def _given(answers: Sequence[Answer], truth: Mask) -> _Given:
    """Enlarged one by one, for a photograph's masks fill megabytes."""
    chosen = max(range(len(answers)), key=lambda number: answers[number].iou)
    masks = [answer.mask() for answer in answers]
    ious = [_iou(truth, mask) for mask in masks]
    return _Given(answers[chosen], masks[chosen], ious[chosen], max(ious))


def _iou(a: Mask, b: Mask) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0
