"""Clicks in, masks at low resolution out, of which the hopeless went."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from engine.generation.config import GenerationConfig
from engine.generation.extents import Extents
from engine.generation.filters import boxes_of, picture_area, stability_scores
from engine.generation.grid import CropBox
from engine.generation.masks import Rejections
from engine.generation.memory import Bounds
from engine.generation.windows import Window
from engine.geometry import Boxes, Frame
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import LikelyMasks, Predictor
from engine.model.prompts import Prompts
from engine.threads import each_image

# SAM's clicks stand in the middle of the frame's pixel that they name.
_HALF_PIXEL = 0.5


@dataclass(frozen=True)
class View:
    """One crop as the model sees it: its place in the image, its frame, the size of its logits."""

    crop: CropBox
    image_hw: tuple[int, int]
    frame: Frame
    logits_hw: tuple[int, int]


@dataclass(frozen=True)
class Proposal:
    """One mask of a crop at low resolution.

    number: its place among all of the image; window: its logits; inner, outer: (4,) xyxy in
    pixels of the crop, inside and around the mask's box; iou as predicted; stability of the logits;
    point: the click that made it, (x, y) in pixels of the crop.
    """

    number: int
    window: Window
    inner: Boxes
    outer: Boxes
    iou: float
    stability: float
    point: tuple[float, float]


@dataclass(frozen=True)
class CropProposals:
    """The proposals of one crop."""

    view: View
    proposals: list[Proposal]


@dataclass
class Proposed:
    """What the model gave for one image, without tensors, so that another process can go on.

    num_proposed counts all, rejections those that are gone already; savings: as in `Generated`.
    """

    keep_candidates: bool
    crops: list[CropProposals] = field(default_factory=list)
    num_proposed: int = 0
    rejections: Rejections = field(default_factory=Rejections)
    savings: Mapping[str, int] = field(default_factory=dict)


def propose(
    predictor: Predictor,
    view: View,
    embedding: ImageEmbedding,
    points: Boxes,
    config: GenerationConfig,
    proposed: Proposed,
    bounds: Bounds,
) -> None:
    """Add to `proposed` the masks for clicks (P, 2) in pixels of a crop, and why others went."""
    first = proposed.num_proposed
    size = bounds.of("points_per_batch")
    extents = Extents(view.logits_hw, view.frame, predictor.device)

    def batch(start: int) -> tuple[list[Proposal], Rejections]:
        """Of `size` clicks, in parts where memory is short."""
        found, gone = list[Proposal](), Rejections()
        end = min(start + size, len(points))
        while start < end:
            rest = points[start:end]
            decode = partial(
                _decode, predictor, view, extents, embedding, rest, config, first + 3 * start
            )
            (likely, rejected), taken = bounds.within("points_per_batch", decode)
            found += likely
            gone.include(rejected)
            start += taken
        return found, gone

    starts = range(0, len(points), size)
    kept: list[Proposal] = []
    for found, gone in each_image(batch, starts, at_once=predictor.batches_at_once):
        kept += found
        proposed.rejections.include(gone)
    proposed.crops.append(CropProposals(view, kept))
    proposed.num_proposed += 3 * len(points)


@torch.inference_mode()
def _decode(
    predictor: Predictor,
    view: View,
    extents: Extents,
    embedding: ImageEmbedding,
    points: Boxes,
    config: GenerationConfig,
    first: int,
    size: int,
) -> tuple[list[Proposal], Rejections]:
    """The masks of the first `size` clicks."""
    batch, gone = points[:size], Rejections()
    prompts = Prompts.single_points(batch + _HALF_PIXEL / view.frame.scale_xy)
    # As in SAM, no threshold lets everything pass.
    min_iou = config.pred_iou_thresh or -math.inf
    candidates = predictor.candidates(embedding, prompts, min_iou=min_iou)
    gone.add_unnamed("predicted_iou", 3 * len(batch) - len(candidates.iou))
    return list(_likely(candidates, batch, view, extents, config, gone, first)), gone


def _likely(
    candidates: LikelyMasks,
    points: np.ndarray,
    view: View,
    extents: Extents,
    config: GenerationConfig,
    rejections: Rejections,
    first: int,
) -> Iterator[Proposal]:
    """Those that are not empty and, where that is judged here, stable; points (B, 2)."""
    logits, threshold = candidates.logits, config.mask_threshold
    offset = config.stability_score_offset
    leaned_on = picture_area(logits, view.frame, margin=1)
    masks = leaned_on > threshold
    at_pixels = config.stability_at == "pixels"
    boxes = boxes_of(masks)
    reach = boxes_of(leaned_on > threshold - offset) if at_pixels else boxes
    stability = stability_scores(picture_area(logits, view.frame), threshold, offset)
    stable, box, around, iou, which = (
        each.cpu().numpy() for each in (stability, boxes, reach, candidates.iou, candidates.which)
    )
    numbers = first + which
    is_empty = box[:, 2] == 0
    is_unstable = ~is_empty & (not at_pixels) & (stable < config.stability_score_thresh)
    rejections.add("area", *numbers[is_empty].tolist())
    rejections.add("stability", *numbers[is_unstable].tolist())
    rows = np.flatnonzero(~(is_empty | is_unstable))
    windows = Window.around_each(logits, rows, around[rows].astype(np.int64))
    inner, outer = extents.bounds(logits[rows], threshold)
    for place, (row, window) in enumerate(zip(rows, windows, strict=True)):
        x, y = (float(value) for value in points[which[row] // 3])
        yield Proposal(
            number=int(numbers[row]),
            window=window,
            inner=inner[place],
            outer=outer[place],
            iou=float(iou[row]),
            stability=float(stable[row]),
            point=(x, y),
        )
