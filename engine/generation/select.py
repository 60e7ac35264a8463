"""Which of an image's masks stay: filters, and of masks that show the same the best.

The order of steps is that of SAM's `SamAutomaticMaskGenerator`; masks inside masks and the best of
all are ours, and so is how small regions are found (`engine.generation.clean`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.generation.clean import remove_small_regions
from engine.generation.config import GenerationConfig
from engine.generation.filters import index_box, is_cut_by_crop
from engine.generation.hierarchy import nested
from engine.generation.masks import GeneratedMask, Rejections
from engine.generation.nms import box_nms, by_score, mask_nms
from engine.generation.overlaps import without_overlaps
from engine.generation.regions import has_small_regions
from engine.geometry import Boxes, box_area, box_iou, intersection_area


def distinct(
    ranks: Sequence[float],
    numbers: Sequence[int],
    mask_of: Callable[[int], GeneratedMask],
    config: GenerationConfig,
    rejections: Rejections,
    *,
    bounds: tuple[Boxes, Boxes] | None = None,
) -> list[GeneratedMask]:
    """Of N masks of one crop those that pass all filters, best first, no two with like boxes.

    They are looked at from the best to the worst, and `mask_of` makes only those that may stay:
    nearly all that a grid gives are duplicates of a better mask. `bounds`: boxes (N, 4) inside and
    around each mask's, which show that without making it. Why others went is added to `rejections`.
    """
    kept = _Kept(config.box_nms_thresh)
    for index in map(int, by_score(ranks)):
        if bounds is not None and kept.has_surely(bounds[0][index], bounds[1][index]):
            rejections.add("duplicate_box", numbers[index])
            continue
        mask = mask_of(index)
        reason = _refusal(mask, config) or ("duplicate_box" if kept.has(mask) else None)
        if reason is None:
            kept.add(mask)
        else:
            rejections.add(reason, mask.number)
    return kept.masks


def distinct_of(
    masks: Sequence[GeneratedMask], config: GenerationConfig, rejections: Rejections
) -> list[GeneratedMask]:
    """`distinct`, of masks that are made already."""
    sound: list[GeneratedMask] = []
    for mask in masks:
        reason = _refusal(mask, config)
        if reason is None:
            sound.append(mask)
        else:
            rejections.add(reason, mask.number)
    ranks = [_rank_of(mask, config) for mask in sound]
    return _apart(sound, ranks, config.box_nms_thresh, rejections)


def rank(predicted_iou: float, stability: float, config: GenerationConfig) -> float:
    """How good a mask is among others."""
    return predicted_iou if config.ranked_by == "predicted_iou" else predicted_iou * stability


def best_of_image(
    crops: Sequence[Sequence[GeneratedMask]], config: GenerationConfig, rejections: Rejections
) -> list[GeneratedMask]:
    """The distinct masks of all crops of an image -> the image's, best first."""
    found = [mask for masks in crops for mask in masks]
    if config.crop_n_layers or config.uncovered_points_per_side:
        # The more zoomed crop wins, as in SAM, and the first pass over the second.
        found = _apart(
            found, [-_crop_area(mask) for mask in found], config.crop_nms_thresh, rejections
        )
    found = _cleaned(found, config, rejections)
    rejections.add("area", *(mask.number for mask in found if mask.area < config.min_mask_area))
    large = [mask for mask in found if mask.area >= config.min_mask_area]
    masks = _not_inside(large, config, rejections)
    ranked = [masks[i] for i in by_score([_rank_of(mask, config) for mask in masks])]
    best, rest = ranked[: config.max_masks], ranked[config.max_masks :]
    rejections.add("max_masks", *(mask.number for mask in rest))
    shapes = {mask.number: mask for mask in best}
    return nested([_in_range(mask) for mask in without_overlaps(best, config, rejections)], shapes)


@dataclass
class _Kept:
    """Masks of one crop whose boxes are unlike."""

    threshold: float
    masks: list[GeneratedMask] = field(default_factory=list)
    _boxes: Boxes = field(default_factory=lambda: np.zeros((64, 4), dtype=np.float32))

    def add(self, mask: GeneratedMask) -> None:
        if len(self.masks) == len(self._boxes):
            self._boxes = np.concatenate([self._boxes, np.zeros_like(self._boxes)])
        self._boxes[len(self.masks)] = index_box(mask.box_xyxy)
        self.masks.append(mask)

    def has(self, mask: GeneratedMask) -> bool:
        """Whether the box of one is like that of `mask`."""
        ious = box_iou(index_box(mask.box_xyxy)[None], self._boxes[: len(self.masks)])
        return bool((ious > self.threshold).any())

    def has_surely(self, inner: Boxes, outer: Boxes) -> bool:
        """Whether the box of one is like any box (4,) between `inner` and `outer`."""
        boxes = self._boxes[: len(self.masks)]
        shared = intersection_area(index_box(inner), boxes)
        most = box_area(index_box(outer)) + box_area(boxes) - shared
        return bool((shared > self.threshold * most).any())


def _refusal(mask: GeneratedMask, config: GenerationConfig) -> str | None:
    """Why a mask goes whatever others there are, or None."""
    if 0 < config.pred_iou_thresh >= mask.predicted_iou:
        return "predicted_iou"
    if mask.stability_score < config.stability_score_thresh:
        return "stability"
    height, width = mask.rle.size
    if not 0 < mask.area <= config.max_mask_area_fraction * float(height * width):
        return "area"
    if is_cut_by_crop(mask.box_xyxy, mask.crop, mask.rle.size, config.crop_edge_atol):
        return "crop_edge"
    return None


def _rank_of(mask: GeneratedMask, config: GenerationConfig) -> float:
    return rank(mask.predicted_iou, mask.stability_score, config)


def _in_range(mask: GeneratedMask) -> GeneratedMask:
    return replace(mask, predicted_iou=min(1.0, max(0.0, mask.predicted_iou)))


def _crop_area(mask: GeneratedMask) -> int:
    height, width = mask.crop.hw
    return height * width


def _apart(
    masks: Sequence[GeneratedMask],
    scores: npt.ArrayLike,
    threshold: float,
    rejections: Rejections,
) -> list[GeneratedMask]:
    """Without masks whose box is like that of one with a better score, best first."""
    if not masks:
        return []
    boxes = index_box(np.stack([mask.box_xyxy for mask in masks]))
    kept = box_nms(boxes, scores, threshold).tolist()
    gone = set(range(len(masks))) - set(kept)
    rejections.add("duplicate_box", *(masks[index].number for index in gone))
    return [masks[index] for index in kept]


def _cleaned(
    masks: Sequence[GeneratedMask], config: GenerationConfig, rejections: Rejections
) -> list[GeneratedMask]:
    """Without small islands and holes; of masks that became alike one that needed it less stays."""
    if config.min_mask_region_area <= 1:
        return list(masks)
    min_area = config.min_mask_region_area
    dirty = has_small_regions([mask.rle for mask in masks], min_area).tolist()
    cleaned = [
        _without_small_regions(mask, min_area) if is_dirty else mask
        for mask, is_dirty in zip(masks, dirty, strict=True)
    ]
    unchanged = [float(new is old) for new, old in zip(cleaned, masks, strict=True)]
    threshold = max(config.box_nms_thresh, config.crop_nms_thresh)
    return _apart(cleaned, unchanged, threshold, rejections)


def _without_small_regions(mask: GeneratedMask, min_area: int) -> GeneratedMask:
    before, x0, y0 = rle.decode_box(mask.rle)
    return mask.redrawn(remove_small_regions(before, min_area), x0, y0)


def _not_inside(
    masks: Sequence[GeneratedMask], config: GenerationConfig, rejections: Rejections
) -> list[GeneratedMask]:
    """Without masks that overlap a better one by too much, or lie in it by too much."""
    if min(config.mask_nms_thresh, config.containment_thresh) >= 1 or not masks:
        return list(masks)
    # Whatever the crop: a part that is seen enlarged is no reason against its whole.
    result = mask_nms(
        [mask.rle for mask in masks],
        [mask.area for mask in masks],
        [_rank_of(mask, config) for mask in masks],
        iou_threshold=config.mask_nms_thresh,
        containment_threshold=config.containment_thresh,
    )
    rejections.add("duplicate_mask", *(masks[index].number for index in result.duplicates))
    rejections.add("contained", *(masks[index].number for index in result.contained))
    return [masks[index] for index in result.kept]
