"""Which masks to offer a person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.detection.detector import Detections
from engine.detection.prompted import masks_in_boxes
from engine.generation.masks import Generated, GeneratedMask
from engine.generation.nms import mask_nms
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """What is worth offering: rejecting a wrong proposal costs a person time too.

    min_predicted_iou, min_stability_score: as the model rates its mask; max_overlap: the largest
    IoU, or share of the smaller mask inside the larger, that two proposals may have; min_area in
    pixels; max_proposals of an image.
    """

    min_predicted_iou: float = 0.75
    min_stability_score: float = 0.8
    max_overlap: float = 0.5
    min_area: int = 16
    max_proposals: int = 200

    def __post_init__(self) -> None:
        for name in ("min_predicted_iou", "min_stability_score", "max_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in [0, 1], but got {getattr(self, name)}")
        if self.min_area < 1:
            raise ValueError(f"min_area: must be at least 1, but got {self.min_area}")
        if self.max_proposals < 0:
            raise ValueError(f"max_proposals: must be 0 or more, but got {self.max_proposals}")


def confident(generated: Generated, config: ProposalConfig) -> list[GeneratedMask]:
    """The masks worth offering, best first."""
    good = [
        mask
        for mask in generated.masks
        if mask.predicted_iou >= config.min_predicted_iou
        and mask.stability_score >= config.min_stability_score
        and mask.area >= config.min_area
    ]
    if not good:
        return []
    apart = mask_nms(
        [mask.rle for mask in good],
        [mask.area for mask in good],
        [mask.score for mask in good],
        iou_threshold=config.max_overlap,
        containment_threshold=config.max_overlap,
    )
    return [good[index] for index in apart.kept[: config.max_proposals]]


def looked_at_closely(
    predictor: Predictor,
    pixels: npt.NDArray[np.uint8],
    embedding: ImageEmbedding,
    masks: Sequence[GeneratedMask],
) -> Generated:
    """The masks that the boxes of a grid's `masks` give: small objects are seen enlarged for them.

    A grid sees an image whole, a person's prompt has a closer look. pixels: (H, W, 3) uint8 RGB.
    """
    boxes = np.array([mask.box_xyxy for mask in masks], dtype=np.float32).reshape(-1, 4)
    found = Detections(boxes, np.ones(len(boxes), dtype=np.float32))
    return masks_in_boxes(predictor, pixels, embedding, found)
