"""A model whose masks are known exactly: it finds the disks of a drawn scene."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engine.geometry import Frame, Mask
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Prediction
from engine.model.prompts import Prompts

HW = (160, 220)
SIDE, CELLS = 256, 128


@dataclass
class DiskModel:
    """A stand-in for a `Predictor`: a click on a disk gives its middle, the disk, and a halo.

    The image says where a crop lies: red is the column, green the row. Logits are the distance to
    the edge in frame pixels, times `slope`. A click on nothing gives faint noise.
    """

    disks: list[tuple[float, float, float]]
    slope: float = 2.0
    scores: tuple[float, float, float] = (0.6, 0.9, 0.5)
    version: str = "disks"
    batches: list[int] = field(default_factory=list)
    embedded: list[tuple[int, int]] = field(default_factory=list)

    def embed(self, pixels: npt.NDArray[np.uint8]) -> ImageEmbedding:
        frame = Frame(original_hw=(pixels.shape[0], pixels.shape[1]), side=SIDE)
        self.embedded.append(frame.original_hw)
        corner = torch.tensor(pixels[0, 0, :2].astype(np.float32))[:, None, None]
        return ImageEmbedding(features=corner, skips=None, frame=frame, encoder_id="disks")

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool
    ) -> Prediction:
        assert multimask
        assert prompts.points is not None
        self.batches.append(len(prompts))
        corner = embedding.features[:, 0, 0].numpy()
        answers = [
            self._answer(point[0] + corner, corner, embedding.frame) for point in prompts.points
        ]
        logits = torch.stack([answer[0] for answer in answers])
        return Prediction(logits, torch.tensor([answer[1] for answer in answers]), embedding.frame)

    def _answer(
        self, point: npt.NDArray[np.float32], corner: npt.NDArray[np.float32], frame: Frame
    ) -> tuple[torch.Tensor, tuple[float, ...]]:
        cells = (np.arange(CELLS) + 0.5) * SIDE / CELLS / frame.scale
        x, y = np.meshgrid(cells + corner[0], cells + corner[1])
        for centre_x, centre_y, radius in self.disks:
            if np.hypot(point[0] - centre_x, point[1] - centre_y) < radius:
                distance = np.hypot(x - centre_x, y - centre_y)
                depths = [factor * radius - distance for factor in (0.5, 1.0, 1.6)]
                logits = torch.tensor(np.stack(depths) * self.slope * frame.scale)
                return logits.float(), self.scores
        return torch.full((3, CELLS, CELLS), -0.1), (0.1, 0.1, 0.1)


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
