"""A model that gets better with each click, in a way that can be worked out on paper."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engine import rle
from engine.geometry import Frame, Mask
from engine.model.closer_look import CloserLook
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Prediction
from engine.model.prompts import Prompts
from engine.training.samples import LabelledImage

SIDE = 64


@dataclass
class BandModel:
    """A stand-in for a `Predictor`. Objects are bands of columns; frame and image are 64 x 64.

    After click k the model knows the first `growth[k - 1]` columns of the band that was clicked on,
    and takes `overshoot` columns behind them for more of it. Three masks are that, less a column,
    less two; only the first is expected to be good.
    """

    bands: list[tuple[int, int]]
    growth: tuple[int, ...]
    overshoot: int = 0
    version: str = "bands"
    closer_look: CloserLook | None = None
    asked: list[tuple[int, int, bool]] = field(default_factory=list)
    points_seen: list[npt.NDArray[np.float32]] = field(default_factory=list)
    logits_seen: list[npt.NDArray[np.float32] | None] = field(default_factory=list)
    embedded: int = 0

    def embed(self, pixels: npt.NDArray[np.uint8]) -> ImageEmbedding:
        assert pixels.shape == (SIDE, SIDE, 3)
        self.embedded += 1
        frame = Frame(original_hw=(SIDE, SIDE), side=SIDE)
        return ImageEmbedding(
            features=torch.zeros(1, 1, 1), skips=None, frame=frame, encoder_id="bands"
        )

    def predict_each(
        self, embeddings: Sequence[ImageEmbedding], prompts: Sequence[Prompts], *, multimask: bool
    ) -> list[Prediction]:
        pairs = zip(embeddings, prompts, strict=True)
        return [self.predict(*pair, multimask=multimask) for pair in pairs]

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool
    ) -> Prediction:
        assert prompts.points is not None
        assert prompts.labels is not None
        num, clicks = prompts.labels.shape
        self.asked.append((num, clicks, multimask))
        self.points_seen.append(prompts.points)
        self.logits_seen.append(prompts.mask_logits)
        logits = torch.full((num, 3 if multimask else 1, SIDE, SIDE), -4.0)
        for row, points in enumerate(prompts.points):
            x0, x1 = next(band for band in self.bands if band[0] <= points[0, 0] < band[1])
            known = min(self.growth[clicks - 1], x1 - x0) + self.overshoot
            for which in range(logits.shape[1]):
                logits[row, which, :, x0 : x0 + known - which] = 4.0
        iou = torch.tensor([[0.9, 0.6, 0.3][: logits.shape[1]]] * num)
        return Prediction(logits, iou, embedding.frame)


def band(x0: int, x1: int) -> Mask:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[:, x0:x1] = True
    return mask


@dataclass
class Labelled:
    """Images in memory."""

    masks: list[list[Mask]]
    loaded: list[int] = field(default_factory=list)
    crowds: list[list[Mask]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.masks)

    def load(self, index: int) -> LabelledImage:
        self.loaded.append(index)
        pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
        crowds = rle.encode(self.crowds[index]) if self.crowds else []
        return LabelledImage(image=pixels, masks=rle.encode(self.masks[index]), crowds=crowds)


class Bands:
    model = staticmethod(BandModel)
    mask = staticmethod(band)
    labelled = staticmethod(Labelled)


@pytest.fixture
def bands() -> Any:
    """`bands.model(...)`, `bands.mask(...)`, `bands.labelled(...)`."""
    return Bands()
