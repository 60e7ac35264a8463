"""From a proposal at low resolution to a mask of its image."""

from collections.abc import Sequence

import numpy as np
import torch

from engine.generation.config import GenerationConfig
from engine.generation.masks import GeneratedMask
from engine.generation.propose import Proposal, View
from engine.generation.windows import WindowUpscaler
from engine.geometry import Boxes


class Finisher:
    """Brings the proposals of one crop to full resolution."""

    def __init__(self, view: View, logits_hw: tuple[int, int], config: GenerationConfig) -> None:
        self._view = view
        self._config = config
        self._upscaler = WindowUpscaler(logits_hw, view.frame)

    def mask(self, proposal: Proposal) -> GeneratedMask:
        """The proposal in its image."""
        config, crop = self._config, self._view.crop
        enlarged = self._upscaler.enlarge(
            proposal.window, config.mask_threshold, config.stability_score_offset
        )
        left, top, _, _ = crop.xyxy
        height, width = self._view.image_hw
        segments = enlarged.segments.moved(left, top, height)
        at_pixels = config.stability_at == "pixels"
        return GeneratedMask(
            number=proposal.number,
            rle=segments.encoded(width),
            box_xyxy=segments.box,
            crop=crop,
            area=segments.area,
            predicted_iou=proposal.iou,
            stability_score=enlarged.stability if at_pixels else proposal.stability,
            point_xy=(left + proposal.point[0], top + proposal.point[1]),
        )

    def bounds(self, proposals: Sequence[Proposal]) -> tuple[Boxes, Boxes]:
        """(N, 4) boxes in the image inside and around those of the masks, as far as is sure."""
        x, y, _, _ = self._view.crop.xyxy
        corner = np.array([x, y, x, y], dtype=np.float32)
        inner, outer = self._upscaler.bounds(
            torch.stack([proposal.box for proposal in proposals]),
            torch.stack([proposal.core for proposal in proposals]),
        )
        return inner + corner, outer + corner
