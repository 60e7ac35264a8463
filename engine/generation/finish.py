"""From an image's proposals at low resolution to its masks. Needs no model."""

from collections.abc import Sequence

import numpy as np

from engine.generation.config import GenerationConfig
from engine.generation.masks import Candidates, Generated, GeneratedMask, Rejections
from engine.generation.memory import Bounds
from engine.generation.propose import CropProposals, Proposal, Proposed
from engine.generation.select import best_of_image, distinct, distinct_of, rank
from engine.generation.windows import WindowUpscaler
from engine.geometry import Boxes


def finish(proposed: Proposed, config: GenerationConfig) -> Generated:
    """The masks that stay of an image's proposals, which `config` made."""
    finishing = Finishing(config)
    rejections = Rejections()
    rejections.include(proposed.rejections)
    candidates: list[GeneratedMask] = []
    crops: list[list[GeneratedMask]] = []
    for crop in proposed.crops:
        if proposed.keep_candidates:
            finished = finishing.all_of(crop)
            candidates += finished
            crops.append(distinct_of(finished, config, rejections))
        else:
            crops.append(finishing.distinct(crop, rejections))
    masks = best_of_image(crops, config, rejections)
    kept = Candidates(masks=candidates, rejected=rejections.reasons)
    return Generated(
        masks=masks,
        num_proposed=proposed.num_proposed,
        rejections=dict(+rejections.counts),
        candidates=kept if proposed.keep_candidates else None,
        savings={**proposed.savings, **finishing.savings},
    )


class Finishing:
    """Brings proposals of one image to full resolution."""

    def __init__(self, config: GenerationConfig) -> None:
        self._config = config
        self._bounds = Bounds(config)

    @property
    def savings(self) -> dict[str, int]:
        """Bounds of memory that were lowered."""
        return self._bounds.savings

    def distinct(self, crop: CropProposals, rejections: Rejections) -> list[GeneratedMask]:
        """The distinct masks of a crop; why others went is added to `rejections`."""
        proposals = crop.proposals
        if not proposals:
            return []
        finisher = _CropFinisher(crop, self._config, self._bounds)
        return distinct(
            [rank(proposal.iou, proposal.stability, self._config) for proposal in proposals],
            [proposal.number for proposal in proposals],
            lambda index: finisher.mask(proposals[index]),
            self._config,
            rejections,
            bounds=finisher.bounds(proposals),
        )

    def all_of(self, crop: CropProposals) -> list[GeneratedMask]:
        """All masks of a crop, in the order of their numbers."""
        finisher = _CropFinisher(crop, self._config, self._bounds)
        return [finisher.mask(proposal) for proposal in crop.proposals]


class _CropFinisher:
    """Brings the proposals of one crop to full resolution."""

    def __init__(self, crop: CropProposals, config: GenerationConfig, bounds: Bounds) -> None:
        self._view = crop.view
        self._config = config
        self._bounds = bounds
        self._upscaler = WindowUpscaler(crop.view.logits_hw, crop.view.frame)

    def mask(self, proposal: Proposal) -> GeneratedMask:
        """The proposal in its image."""
        config, crop = self._config, self._view.crop
        enlarged, _ = self._bounds.within(
            "pixels_per_strip",
            lambda pixels: self._upscaler.enlarge(
                proposal.window,
                config.mask_threshold,
                config.stability_score_offset,
                pixels_at_once=pixels,
            ),
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
        inner = np.stack([proposal.inner for proposal in proposals])
        return inner + corner, np.stack([proposal.outer for proposal in proposals]) + corner
