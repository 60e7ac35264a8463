"""How many clicks a mask takes: the protocol of interactive segmentation.

The first click is in the middle of the object, of three answers the one with the highest predicted
IoU counts; each further click is in the middle of the largest error, with the logits of the answer
before. IoU is of the whole image at its own resolution.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from engine.geometry import Mask
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Prediction, Predictor, upscale_logits
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
class _Answer:
    """What a click gave: mask (H, W), logits (h, w), what the model expects, the best of all."""

    mask: Mask
    logits: Tensor
    iou: float
    expected_iou: float
    oracle_iou: float


@dataclass
class _State:
    """An object that is being clicked on."""

    truth: Mask
    points: list[tuple[float, float]]
    labels: list[int]
    ious: list[float]
    first: _Answer | None = None
    last: _Answer | None = None

    @property
    def perfect(self) -> bool:
        return bool(self.ious) and self.ious[-1] == 1.0

    def click(self) -> None:
        x, y, label = next_click(self.truth, None if self.last is None else self.last.mask)
        self.points.append((x, y))
        self.labels.append(label)

    def answer(self, answer: _Answer) -> None:
        self.first = self.first or answer
        self.last = answer
        self.ious.append(answer.iou)

    def trace(self) -> ClickTrace:
        assert self.first is not None, "every object gets a first click"
        return ClickTrace(
            ious=np.array(self.ious),
            expected_iou=self.first.expected_iou,
            oracle_iou=self.first.oracle_iou,
        )


def click_traces(
    predictor: Predictor,
    embedding: ImageEmbedding,
    truths: Mask,
    *,
    num_clicks: int,
    num_needed: int,
    target: float,
) -> list[ClickTrace]:
    """Click on each object of one image, all of them in one call a round.

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
            _round(predictor, embedding, active)
        for state in states:
            state.ious += state.ious[-1:] * (round_number + 1 - len(state.ious))
    return [state.trace() for state in states]


def random_click_ious(
    predictor: Predictor, embedding: ImageEmbedding, truths: Mask, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(N,) the IoU after one click at a random pixel of each object; truths as `click_traces`."""
    points = np.array([[_random_point(truth, random)] for truth in truths], dtype=np.float32)
    prompts = Prompts(points=points, labels=np.ones((len(truths), 1), dtype=np.int64))
    prediction = predictor.predict(embedding, prompts, multimask=True)
    return np.array([_answer(prediction, row, truth).iou for row, truth in enumerate(truths)])


def _random_point(truth: Mask, random: np.random.Generator) -> tuple[float, float]:
    row, column = divmod(int(random.choice(np.flatnonzero(truth))), truth.shape[1])
    return column + 0.5, row + 0.5


def _finished(state: _State, round_number: int, num_needed: int, target: float) -> bool:
    return state.perfect or (round_number >= num_needed and max(state.ious) >= target)


def _round(predictor: Predictor, embedding: ImageEmbedding, states: list[_State]) -> None:
    """One click on each, one answer for all: three masks for a first click, then one."""
    multimask = states[0].first is None
    for state in states:
        state.click()
    prediction = predictor.predict(embedding, _prompts(states), multimask=multimask)
    for row, state in enumerate(states):
        state.answer(_answer(prediction, row, state.truth))


def _prompts(states: list[_State]) -> Prompts:
    earlier = [state.last.logits.float().numpy() for state in states if state.last is not None]
    return Prompts(
        points=np.array([state.points for state in states], dtype=np.float32),
        labels=np.array([state.labels for state in states], dtype=np.int64),
        mask_logits=np.stack(earlier) if earlier else None,
    )


def _answer(prediction: Prediction, row: int, truth: Mask) -> _Answer:
    """What prompt `row` got; enlarged one by one, for a photograph's logits fill megabytes."""
    logits = prediction.logits[row]
    masks: Mask = (upscale_logits(logits, prediction.frame) > 0).numpy()
    ious = [_iou(truth, mask) for mask in masks]
    chosen = int(prediction.iou[row].argmax())
    return _Answer(
        mask=masks[chosen],
        logits=logits[chosen],
        iou=ious[chosen],
        expected_iou=float(prediction.iou[row, chosen]),
        oracle_iou=max(ious),
    )


def _iou(a: Mask, b: Mask) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0
