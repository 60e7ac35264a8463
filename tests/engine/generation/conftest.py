"""A model whose masks are known exactly: it finds the disks of a drawn scene."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engine.geometry import Frame, Mask
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import LikelyMasks, Prediction
from engine.model.prompts import Prompts
from engine.precision import Precision

HW = (160, 220)
SIDE, CELLS = 256, 128


@dataclass
class DiskModel:
    """A stand-in for a `Predictor`: a click on a disk gives its middle, the disk, and a halo.

    The image says where a crop lies: red is the column, green the row. Logits are the distance to
    the edge in frame pixels, times `slope`. A click on nothing gives faint noise. `wave`: how much
    edges and scores hang on where the click is, so that no two masks are equal.
    """

    disks: list[tuple[float, float, float]]
    slope: float = 2.0
    wave: float = 0.0
    side: int = SIDE
    scores: tuple[float, float, float] = (0.6, 0.9, 0.5)
    version: str = "disks"
    batches: list[int] = field(default_factory=list)
    embedded: list[tuple[int, int]] = field(default_factory=list)

    def embed(self, pixels: npt.NDArray[np.uint8]) -> ImageEmbedding:
        frame = Frame(original_hw=(pixels.shape[0], pixels.shape[1]), side=SIDE)
        self.embedded.append(frame.original_hw)
        corner = torch.tensor(pixels[0, 0, :2].astype(np.float32))[:, None, None]
        return ImageEmbedding(features=corner, skips=None, frame=frame, encoder_id="disks")

    prompts_at_once: int = 64
    batches_at_once: int = 1
    device: str = "cpu"

    def computing_in(self, precision: Precision) -> "DiskModel":
        assert precision == "float32", "disks have no products"
        return self

    def logits_hw(self, frame: Frame) -> tuple[int, int]:
        assert frame.side == SIDE
        return CELLS, CELLS

    def candidates(
        self, embedding: ImageEmbedding, prompts: Prompts, *, min_iou: float
    ) -> LikelyMasks:
        answer = self.predict(embedding, prompts)
        good = (answer.iou.flatten() > min_iou).nonzero()[:, 0]
        return LikelyMasks(answer.logits.flatten(0, 1)[good], answer.iou.flatten()[good], good)

    def predict(self, embedding: ImageEmbedding, prompts: Prompts) -> Prediction:
        assert prompts.points is not None
        self.batches.append(len(prompts))
        corner = embedding.features[:, 0, 0].numpy()
        answers = [
            self.answer(point[0] + corner, corner, embedding.frame) for point in prompts.points
        ]
        logits, iou = (torch.stack(each) for each in zip(*answers, strict=True))
        return Prediction(logits, iou, embedding.frame)

    def answer(
        self, point: npt.NDArray[np.float32], corner: npt.NDArray[np.float32], frame: Frame
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (3, h, w) and predicted IoU (3,) for a click at a point of the image."""
        cells = (np.arange(CELLS) + 0.5) * SIDE / CELLS
        x, y = np.meshgrid(*(cells / s + c for s, c in zip(frame.scale_xy, corner, strict=True)))
        for centre_x, centre_y, radius in self.disks:
            if np.hypot(point[0] - centre_x, point[1] - centre_y) < radius:
                distance = np.hypot(x - centre_x, y - centre_y)
                depths = [factor * radius - distance for factor in (0.5, 1.0, 1.6)]
                logits = torch.tensor(np.stack(depths) * self.slope * frame.scale)
                return self._waved(logits.float(), torch.tensor(self.scores), point)
        return torch.full((3, CELLS, CELLS), -0.1), torch.full((3,), 0.1)

    def _waved(
        self, logits: torch.Tensor, scores: torch.Tensor, point: npt.NDArray[np.float32]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wave = self.wave * float(np.sin(point[0] * 1.7) * np.cos(point[1] * 2.3))
        rows = torch.arange(CELLS)[:, None]
        return logits + wave * torch.sin(rows * (1.1 + wave)), scores - 0.05 * abs(wave)


def coordinates(hw: tuple[int, int] = HW) -> npt.NDArray[np.uint8]:
    pixels = np.zeros((*hw, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(hw[1]), np.arange(hw[0])[:, None]
    return pixels


def disk(x: float, y: float, radius: float, hw: tuple[int, int] = HW) -> Mask:
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    return np.asarray(np.hypot(rows + 0.5 - y, columns + 0.5 - x) < radius)


@pytest.fixture
def pixels() -> npt.NDArray[np.uint8]:
    """An image whose pixels say where they are."""
    return coordinates()


@pytest.fixture
def disks() -> Any:
    """`disks.model(...)`, `disks.mask(...)`: the stand-in and its truth."""
    return DiskFactory()


class DiskFactory:
    model = staticmethod(DiskModel)
    mask = staticmethod(disk)
    scene = ((50.0, 40.0, 20.0), (120.0, 60.0, 25.0), (180.0, 120.0, 30.0), (60.0, 120.0, 12.0))
