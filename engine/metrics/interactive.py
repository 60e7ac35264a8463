"""How many clicks a mask takes: the protocol of interactive segmentation.

The first click is in the middle of the object, of three answers the one with the highest predicted
IoU counts; each further click is in the middle of the largest error, with the logits of the answer
before. IoU is of the whole image at its own resolution.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.geometry import Frame, Mask
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor, upscale_logits
from engine.model.prompts import Prompts
from engine.training.clicks import next_click


@dataclass(frozen=True)
class ClickTrace:
    """One object: `ious[i]` is the IoU after click i + 1."""

    ious: npt.NDArray[np.float64]

    def at(self, num_clicks: int) -> float:
        """The IoU at a click, not the best so far."""
        return float(self.ious[num_clicks - 1])

    def num_clicks_to(self, target: float) -> int:
        """The first click that reaches `target`; the number of all clicks when none does."""
        reached = np.flatnonzero(self.ious >= target)
        return int(reached[0]) + 1 if reached.size else len(self.ious)


@dataclass
class _State:
    """An object that is being clicked on."""

    truth: Mask
    points: list[tuple[float, float]]
    labels: list[int]
    ious: list[float]
    mask: Mask | None = None
    logits: Tensor | None = None

    @property
    def perfect(self) -> bool:
        return bool(self.ious) and self.ious[-1] == 1.0

    def click(self) -> None:
        x, y, label = next_click(self.truth, self.mask)
        self.points.append((x, y))
        self.labels.append(label)

    def answer(self, mask: Mask, logits: Tensor) -> None:
        self.mask, self.logits = mask, logits
        self.ious.append(_iou(self.truth, mask))


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
    return [ClickTrace(np.array(state.ious)) for state in states]


def _finished(state: _State, round_number: int, num_needed: int, target: float) -> bool:
    return state.perfect or (round_number >= num_needed and max(state.ious) >= target)


def _round(predictor: Predictor, embedding: ImageEmbedding, states: list[_State]) -> None:
    """One click on each, one answer for all: three masks for a first click, then one."""
    first = states[0].mask is None
    for state in states:
        state.click()
    prediction = predictor.predict(embedding, _prompts(states), multimask=first)
    best = torch.from_numpy(prediction.best())
    logits = prediction.logits[torch.arange(len(states)), best]
    masks = _masks(logits, prediction.frame)
    for state, mask, low in zip(states, masks, logits, strict=True):
        state.answer(mask, low)


def _prompts(states: list[_State]) -> Prompts:
    earlier = [state.logits for state in states if state.logits is not None]
    return Prompts(
        points=np.array([state.points for state in states], dtype=np.float32),
        labels=np.array([state.labels for state in states], dtype=np.int64),
        mask_logits=torch.stack(earlier).float().numpy() if earlier else None,
    )


def _masks(logits: Tensor, frame: Frame) -> Mask:
    """(N, h, w) -> (N, H, W) bool, enlarged one by one: a photograph's logits fill megabytes."""
    return np.stack([(upscale_logits(one[None], frame) > 0)[0].numpy() for one in logits])


def _iou(a: Mask, b: Mask) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0
