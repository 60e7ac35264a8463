"""What the mask generator does, by the names of SAM's `SamAutomaticMaskGenerator`."""

from dataclasses import dataclass, replace
from typing import Literal

from engine.identity import config_hash
from engine.precision import Precision

PointGrid = tuple[tuple[float, float], ...]
"""Points (x, y) as shares of the width and the height."""


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """A grid of clicks, the filters on what they give, and what counts as a duplicate.

    points_per_side: clicks along each side of the image; point_grids: clicks of one's own instead,
        a grid for each layer of crops, the whole image first.
    uncovered_points_per_side: where no mask is after that, a second pass clicks on a grid of as
        many points a side; 0 for none.
    points_per_batch: most clicks decoded at once, on a CPU fewer; pixels_per_strip: most pixels of
        a mask brought to full size at once. Both bound memory, are halved where it runs out all the
        same, and decide about no mask.
    precision: of the model's matrix products, "float32" or "bfloat16", which a GPU and some CPUs
        compute several times faster, and which moves masks by a little.
    pred_iou_thresh: a mask must have a higher predicted IoU.
    stability_score_thresh, stability_score_offset: lowest IoU between the mask cut `offset` logits
        above and below `mask_threshold`. SAM's offset is 1; small models have flatter logits.
    stability_at: where that IoU is measured: in "pixels" of the image, as SAM does, or in the
        "logits" as the model gives them, which is quicker.
    ranked_by: of two masks that are one the better stays: by "predicted_iou", as in SAM, or by
        "score", which is that times the stability.
    box_nms_thresh: of masks of one crop whose boxes have a higher IoU, the best stays;
        crop_nms_thresh: of different crops, the one from the smaller crop.
    mask_nms_thresh: the same for the masks themselves; containment_thresh: the same for the share
        of the smaller mask that lies inside the other, where 1 keeps all parts of a whole.
    crop_n_layers: layer i runs the grid on 4^i crops of the image too; crop_overlap_ratio: how far
        they overlap, as a share of the image's shorter side; crop_n_points_downscale_factor: layer
        i has fewer points a side by this factor to the power i; crop_edge_atol: a mask that comes
        so near, in pixels, to an edge of its crop inside the image is cut off, and goes.
    min_mask_region_area: smaller islands are dropped and smaller holes filled, in pixels.
    min_mask_area, in pixels, and max_mask_area_fraction, of the image: what a mask may cover.
    max_masks: the best of an image that stay.
    overlaps: pixels of several masks are kept by all of them, as in SAM ("keep"), or belong to the
        "best" or to the "smallest" alone.
    """

    points_per_side: int = 32
    point_grids: tuple[PointGrid, ...] = ()
    uncovered_points_per_side: int = 0
    points_per_batch: int = 256
    pixels_per_strip: int = 1 << 22
    precision: Precision = "float32"
    mask_threshold: float = 0.0
    pred_iou_thresh: float = 0.7
    stability_score_thresh: float = 0.8
    stability_score_offset: float = 0.5
    stability_at: Literal["pixels", "logits"] = "logits"
    ranked_by: Literal["predicted_iou", "score"] = "score"
    box_nms_thresh: float = 0.7
    crop_nms_thresh: float = 0.7
    mask_nms_thresh: float = 0.7
    containment_thresh: float = 0.8
    crop_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    crop_edge_atol: float = 20.0
    min_mask_region_area: int = 16
    min_mask_area: int = 16
    max_mask_area_fraction: float = 0.95
    max_masks: int = 1000
    overlaps: Literal["keep", "best", "smallest"] = "keep"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("points_per_side", 1, 512),
            ("uncovered_points_per_side", 0, 512),
            ("points_per_batch", 1, 4096),
            ("pixels_per_strip", 1, 2**30),
            ("crop_n_layers", 0, 4),
            ("crop_n_points_downscale_factor", 1, 64),
            ("min_mask_region_area", 0, 2**30),
            ("min_mask_area", 1, 2**30),
            ("max_masks", 1, 100_000),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(
                    f"{name}: must be a whole number from {low} to {high}, but got {value!r}"
                )
        for name in (
            "pred_iou_thresh",
            "stability_score_thresh",
            "box_nms_thresh",
            "crop_nms_thresh",
            "mask_nms_thresh",
            "containment_thresh",
            "max_mask_area_fraction",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in [0, 1], but got {getattr(self, name)}")
        for name, known in (
            ("stability_at", ("pixels", "logits")),
            ("ranked_by", ("predicted_iou", "score")),
            ("overlaps", ("keep", "best", "smallest")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: must be {' or '.join(known)}, but got {getattr(self, name)!r}"
                )
        if self.stability_at == "pixels" and self.ranked_by == "score":
            raise ValueError(
                "ranked_by: must be predicted_iou where stability_at is pixels, but got 'score'"
            )
        if not 0 <= self.crop_edge_atol < 2**30:
            raise ValueError(
                f"crop_edge_atol: must be pixels, 0 or more, but got {self.crop_edge_atol}"
            )
        if not 0 <= self.crop_overlap_ratio < 1:
            raise ValueError(
                f"crop_overlap_ratio: must be in [0, 1), but got {self.crop_overlap_ratio}"
            )
        if not 0 < self.stability_score_offset <= 100:
            raise ValueError(
                "stability_score_offset: must be in (0, 100], "
                f"but got {self.stability_score_offset}"
            )
        if not -100 <= self.mask_threshold <= 100:
            raise ValueError(
                f"mask_threshold: must be in [-100, 100] logits, but got {self.mask_threshold}"
            )
        self._check_grids()

    def _check_grids(self) -> None:
        if self.point_grids and len(self.point_grids) != self.crop_n_layers + 1:
            raise ValueError(
                f"point_grids: must be one for the image and each of {self.crop_n_layers} layers "
                f"of crops, but got {len(self.point_grids)}"
            )
        for number, grid in enumerate(self.point_grids):
            outside = [point for point in grid if len(point) != 2 or not _in_unit_square(point)]
            if outside or not grid:
                raise ValueError(
                    "point_grids: must be points [x, y] from 0 to below 1 in each grid, "
                    f"but got {list(outside[0]) if outside else 'none'} in grid {number}"
                )

    def key(self) -> str:
        """16 hex digits that name what decides about masks: all but the bounds of memory."""
        return config_hash(replace(self, points_per_batch=1, pixels_per_strip=1))


def _in_unit_square(point: tuple[float, float]) -> bool:
    return all(0 <= value < 1 for value in point)


# `SamAutomaticMaskGenerator` as it comes.
REFERENCE = GenerationConfig(
    pred_iou_thresh=0.88,
    stability_score_thresh=0.95,
    stability_score_offset=1.0,
    stability_at="pixels",
    ranked_by="predicted_iou",
    mask_nms_thresh=1.0,
    containment_thresh=1.0,
    min_mask_region_area=0,
    min_mask_area=1,
    max_mask_area_fraction=1.0,
    max_masks=100_000,
)

# How SA-1B was made: Kirillov et al., 2023, appendix B.
PAPER = replace(
    REFERENCE,
    crop_n_layers=2,
    crop_n_points_downscale_factor=2,
    min_mask_region_area=100,
    max_mask_area_fraction=0.95,
)
