"""Clicks in, masks at low resolution out: filtered, and without duplicates by their boxes."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.generation.config import GenerationConfig
from engine.generation.filters import boxes_of, picture_area, stability_scores
from engine.generation.grid import CropBox, points_in
from engine.generation.nms import box_nms
from engine.geometry import Frame
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Prediction, Predictor
from engine.model.prompts import Prompts


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

    @property
    def share_of_image(self) -> float:
        """How much of the image's area the crop has."""
        return float(np.prod(self.crop.hw) / np.prod(self.image_hw))


@dataclass(frozen=True)
class Proposed:
    """N masks of a crop at low resolution.

    logits: (N, h, w) float16; boxes: (N, 4) xyxy of the mask, in cells; iou, stability: (N,);
    points: (N, 2) the click that made it, in pixels of the crop.
    """

    logits: Tensor
    boxes: Tensor
    iou: Tensor
    stability: Tensor
    points: Tensor

    def __len__(self) -> int:
        return len(self.iou)

    def __getitem__(self, which: Tensor) -> "Proposed":
        return Proposed(
            self.logits[which],
            self.boxes[which],
            self.iou[which],
            self.stability[which],
            self.points[which],
        )

    @property
    def score(self) -> Tensor:
        """(N,) as `GeneratedMask.score`."""
        return self.iou * self.stability


def propose(
    predictor: Predictor, view: View, config: GenerationConfig, tally: Counter[str]
) -> Proposed:
    """Masks for the crop's grid of clicks, best first; `tally` counts all, and why others went."""
    points = points_in(view.crop, config)
    batches = []
    for start in range(0, len(points), config.points_per_batch):
        batch = points[start : start + config.points_per_batch]
        prompts = Prompts.single_points(batch)
        prediction = predictor.predict(view.embedding, prompts, multimask=True)
        batches.append(_filtered(prediction, torch.from_numpy(batch), view, config, tally))
    proposed = _concatenated(batches)
    kept = box_nms(proposed.boxes.numpy(), proposed.score.numpy(), config.box_nms_thresh)
    tally["duplicate_box"] += len(proposed) - len(kept)
    return proposed[torch.from_numpy(kept)]


def _filtered(
    prediction: Prediction,
    points: Tensor,
    view: View,
    config: GenerationConfig,
    tally: Counter[str],
) -> Proposed:
    """Those of B * M masks that pass, cheapest test first; points (B, 2)."""
    logits, iou = prediction.logits.flatten(0, 1), prediction.iou.flatten()
    masks_per_point = prediction.iou.shape[1]
    tally["proposed"] += iou.numel()
    index = _passing(iou >= config.pred_iou_thresh, "predicted_iou", tally)
    seen = picture_area(logits[index], view.frame)
    stability = stability_scores(seen, config.mask_threshold, config.stability_score_offset)
    stable = _passing(stability >= config.stability_score_thresh, "stability", tally)
    masks = seen[stable] > config.mask_threshold
    share = masks.flatten(1).float().mean(dim=1) * view.share_of_image
    fitting = (share > 0) & (share <= config.max_mask_area_fraction)
    fits = _passing(fitting, "area", tally)
    index = index[stable][fits]
    return Proposed(
        # Half the memory; what the mask is, the side of the threshold, hardly ever changes.
        logits=logits[index].half(),
        boxes=boxes_of(masks[fits]),
        iou=iou[index],
        stability=stability[stable][fits],
        points=points[index // masks_per_point],
    )


def _passing(passes: Tensor, reason: str, tally: Counter[str]) -> Tensor:
    """The indices where `passes`; the others are counted."""
    index = passes.nonzero().squeeze(1)
    tally[reason] += passes.numel() - index.numel()
    return index


def _concatenated(batches: list[Proposed]) -> Proposed:
    return Proposed(
        torch.cat([batch.logits for batch in batches]),
        torch.cat([batch.boxes for batch in batches]),
        torch.cat([batch.iou for batch in batches]),
        torch.cat([batch.stability for batch in batches]),
        torch.cat([batch.points for batch in batches]),
    )
