"""What the mask generator does, by the names of SAM's `SamAutomaticMaskGenerator`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """A grid of clicks, the filters on what they give, and what counts as a duplicate.

    points_per_side: clicks along each side of the image; points_per_batch: clicks decoded at once.
    pred_iou_thresh: lowest IoU that the model predicts for its own mask.
    stability_score_thresh, stability_score_offset: lowest IoU between the mask cut `offset` logits
        above and below `mask_threshold`. SAM's offset is 1; small models have flatter logits.
    box_nms_thresh: of masks whose boxes have a higher IoU, the best stays; mask_nms_thresh: the
        same for the masks themselves; containment_thresh: the same for the share of the smaller
        mask that lies inside the other, where 1 keeps all parts of a whole.
    crop_n_layers: layer i runs the grid on 4^i crops of the image too; crop_overlap_ratio: how far
        they overlap, as a share of the image's shorter side; crop_n_points_downscale_factor: layer
        i has fewer points a side by this factor to the power i.
    min_mask_region_area: smaller islands are dropped and smaller holes filled, in pixels.
    min_mask_area, in pixels, and max_mask_area_fraction, of the image: what a mask may cover.
    max_masks: the best of an image that stay.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    mask_threshold: float = 0.0
    pred_iou_thresh: float = 0.7
    stability_score_thresh: float = 0.8
    stability_score_offset: float = 0.5
    box_nms_thresh: float = 0.7
    mask_nms_thresh: float = 0.7
    containment_thresh: float = 0.8
    crop_n_layers: int = 0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 16
    min_mask_area: int = 16
    max_mask_area_fraction: float = 0.95
    max_masks: int = 1000

    def __post_init__(self) -> None:
        for name, low, high in (
            ("points_per_side", 1, 512),
            ("points_per_batch", 1, 4096),
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
            "mask_nms_thresh",
            "containment_thresh",
            "max_mask_area_fraction",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in [0, 1], but got {getattr(self, name)}")
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
