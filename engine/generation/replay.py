"""Other thresholds on candidates that were kept: the same masks as generating again, no model."""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import groupby

from engine.generation.config import GenerationConfig
from engine.generation.masks import GeneratedMask, Rejections
from engine.generation.select import best_of_image, distinct_of

# What decides which of the candidates stay, or nothing; all else decides what the candidates are.
REPLAYED = frozenset(
    {
        "points_per_batch",
        "pixels_per_strip",
        "pred_iou_thresh",
        "stability_score_thresh",
        "ranked_by",
        "box_nms_thresh",
        "crop_nms_thresh",
        "crop_edge_atol",
        "mask_nms_thresh",
        "containment_thresh",
        "min_mask_region_area",
        "min_mask_area",
        "max_mask_area_fraction",
        "max_masks",
        "overlaps",
    }
)
_FLOORS = ("pred_iou_thresh", "stability_score_thresh")
_FLOOR_SHARE = 0.5


def floor_of(config: GenerationConfig) -> GenerationConfig:
    """The thresholds down to which candidates are kept: half of those of `config`."""
    return replace(config, **{name: _FLOOR_SHARE * getattr(config, name) for name in _FLOORS})


def check_replayable(made: GenerationConfig, wanted: GenerationConfig) -> None:
    """Raise ValueError unless candidates kept by `made` hold all that `wanted` could keep."""
    for name in (item.name for item in fields(made)):
        value, known = getattr(wanted, name), getattr(made, name)
        if name not in REPLAYED and value != known:
            raise ValueError(
                f"{name}: decides what is proposed, so {value!r} needs generating again; "
                f"the candidates were made with {known!r}"
            )
    if made.uncovered_points_per_side:
        raise ValueError(
            "uncovered_points_per_side: where the second pass clicks depends on the masks of the "
            "first, so other thresholds need generating again"
        )
    floor = floor_of(made)
    for name in _FLOORS:
        if getattr(wanted, name) < getattr(floor, name):
            raise ValueError(
                f"{name}: must be at least {getattr(floor, name):g}, the floor down to which "
                f"candidates were kept, but got {getattr(wanted, name):g}"
            )


def replay(
    candidates: Sequence[GeneratedMask], config: GenerationConfig
) -> tuple[list[GeneratedMask], Rejections]:
    """The masks of one image that `config` keeps of its candidates, in the order of their numbers.

    They are those of `MaskGenerator.generate` with `config`, for a config that `check_replayable`
    lets pass.
    """
    rejections = Rejections()
    by_crop = [list(group) for _, group in groupby(candidates, key=lambda mask: mask.crop)]
    crops = [distinct_of(group, config, rejections) for group in by_crop]
    return best_of_image(crops, config, rejections), rejections
