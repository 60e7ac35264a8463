"""Clicks in, masks at low resolution out, of which the hopeless went."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from engine.generation.config import GenerationConfig
from engine.generation.filters import boxes_of, picture_area, stability_scores
from engine.generation.grid import CropBox, points_in
from engine.generation.masks import Rejections
from engine.generation.windows import Window
from engine.geometry import Frame
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Candidates, Predictor
from engine.model.prompts import Prompts

# Stability at low resolution tells that at full resolution so well for masks of so many cells.
_STABILITY_MARGIN = 0.15
_STABILITY_CELLS = 64
# SAM's clicks stand in the middle of the frame's pixel that they name.
_HALF_PIXEL = 0.5


@dataclass(frozen=True)
class View:
    """One crop as the model sees it: its place in the image, and its embedding."""

    crop: CropBox
    image_hw: tuple[int, int]
    embedding: ImageEmbedding

    @property
    def frame(self) -> Frame:
        """The frame of the crop."""
        return self.embedding.frame


@dataclass(frozen=True)
class Proposal:
    """One mask of a crop at low resolution.

    number: its place among all of the image; window: its logits; box: (4,) xyxy of its cells over
    the threshold; iou as predicted; stability of the logits; point: the click that made it, (x, y)
    in pixels of the crop.
    """

    number: int
    window: Window
    box: Tensor
    iou: float
    stability: float
    point: tuple[float, float]


def propose(
    predictor: Predictor,
    view: View,
    config: GenerationConfig,
    rejections: Rejections,
    *,
    first: int,
) -> list[Proposal]:
    """Masks for the crop's grid of clicks, numbered from `first`; says why others went."""
    points = points_in(view.crop, config)
    # As in SAM, no threshold lets everything pass.
    min_iou = config.pred_iou_thresh or -math.inf
    size = min(config.points_per_batch, predictor.prompts_at_once)
    found: list[Proposal] = []
    for start in range(0, len(points), size):
        batch = points[start : start + size]
        prompts = Prompts.single_points(batch + _HALF_PIXEL / view.frame.scale_xy)
        candidates = predictor.candidates(view.embedding, prompts, min_iou=min_iou)
        rejections.add_unnamed("predicted_iou", 3 * len(batch) - len(candidates.iou))
        found += _stable(candidates, batch, view, config, rejections, first + 3 * start)
    return found


def _stable(
    candidates: Candidates,
    points: np.ndarray,
    view: View,
    config: GenerationConfig,
    rejections: Rejections,
    first: int,
) -> Iterator[Proposal]:
    """Those that are not empty and, as far as low resolution tells, stable; points (B, 2)."""
    seen = picture_area(candidates.logits, view.frame)
    stability = stability_scores(seen, config.mask_threshold, config.stability_score_offset)
    masks = seen > config.mask_threshold
    boxes, areas = boxes_of(masks), masks.flatten(1).sum(dim=1)
    if config.stability_at == "logits":
        reach = boxes
        unstable = stability < config.stability_score_thresh
    else:
        reach = boxes_of(seen > config.mask_threshold - config.stability_score_offset)
        unstable = stability < config.stability_score_thresh - _STABILITY_MARGIN
        unstable &= areas >= _STABILITY_CELLS
    for row, which in enumerate(candidates.which.tolist()):
        number = first + which
        if areas[row] == 0:
            rejections.add("area", number)
        elif unstable[row]:
            rejections.add("stability", number)
        else:
            x, y = (float(value) for value in points[which // 3])
            yield Proposal(
                number=number,
                window=Window.around(candidates.logits[row], reach[row]),
                box=boxes[row],
                iou=float(candidates.iou[row]),
                stability=float(stability[row]),
                point=(x, y),
            )
