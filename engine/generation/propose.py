"""Clicks in, masks at low resolution out, of which the hopeless went."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from engine.generation.config import GenerationConfig
from engine.generation.filters import boxes_of, core_of, picture_area, stability_scores
from engine.generation.grid import CropBox, points_in
from engine.generation.masks import Rejections
from engine.generation.windows import Window
from engine.geometry import Frame
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import LikelyMasks, Predictor
from engine.model.prompts import Prompts

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

    number: its place among all of the image; window: its logits; box, core: (4,) xyxy of its cells
    over the threshold, and of those inside them (`WindowUpscaler.bounds`); iou as predicted;
    stability of the logits; point: the click that made it, (x, y) in pixels of the crop.
    """

    number: int
    window: Window
    box: Tensor
    core: Tensor
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
        found += _likely(candidates, batch, view, config, rejections, first + 3 * start)
    return found


def _likely(
    candidates: LikelyMasks,
    points: np.ndarray,
    view: View,
    config: GenerationConfig,
    rejections: Rejections,
    first: int,
) -> Iterator[Proposal]:
    """Those that are not empty and, where that is judged here, stable; points (B, 2)."""
    logits, threshold = candidates.logits, config.mask_threshold
    offset = config.stability_score_offset
    stability = stability_scores(picture_area(logits, view.frame), threshold, offset)
    leaned_on = picture_area(logits, view.frame, margin=1)
    masks = leaned_on > threshold
    boxes, cores = boxes_of(masks), boxes_of(core_of(masks))
    at_pixels = config.stability_at == "pixels"
    reach = boxes_of(leaned_on > threshold - offset) if at_pixels else boxes
    for row, which in enumerate(candidates.which.tolist()):
        number = first + which
        if boxes[row, 2] == 0:
            rejections.add("area", number)
        elif not at_pixels and stability[row] < config.stability_score_thresh:
            rejections.add("stability", number)
        else:
            x, y = (float(value) for value in points[which // 3])
            yield Proposal(
                number=number,
                window=Window.around(logits[row], reach[row]),
                box=boxes[row],
                core=cores[row],
                iou=float(candidates.iou[row]),
                stability=float(stability[row]),
                point=(x, y),
            )
