"""All masks of an image: a grid of clicks, three masks a click, and what of them is worth keeping.

The same masks as `SamAutomaticMaskGenerator` gives, in a fraction of its time and memory: what
cannot stay is dropped at the model's own low resolution, and only the rest is enlarged.
"""

import numpy as np
import numpy.typing as npt
import torch

from engine.generation.config import GenerationConfig
from engine.generation.finish import Finisher
from engine.generation.grid import CropBox, crop_boxes, points_in
from engine.generation.masks import Candidates, Generated, GeneratedMask, Rejections
from engine.generation.propose import View, propose
from engine.generation.replay import among, floor_of
from engine.generation.select import best_of_image, distinct, rank
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor


class MaskGenerator:
    """Masks of whole images by one model and one config. Without state, so safe to share.

    Takes memory for a batch of clicks and for what of a grid's masks may stay, in float16 and cut
    to their boxes; of those at full resolution a strip is in memory at a time.
    """

    def __init__(self, predictor: Predictor, config: GenerationConfig) -> None:
        self._predictor = predictor
        self._config = config

    @torch.inference_mode()
    def generate(
        self,
        pixels: npt.NDArray[np.uint8],
        embedding: ImageEmbedding | None = None,
        *,
        keep_candidates: bool = False,
    ) -> Generated:
        """Masks of an image (H, W, 3) uint8 RGB; the same call gives the same masks in their order.

        `embedding`, of the whole image, saves encoding it once more. With `keep_candidates` all
        that is over `floor_of` the config is brought to full size and kept, for `replay`.
        """
        rejections = Rejections()
        crops: list[list[GeneratedMask]] = []
        candidates: list[GeneratedMask] = []
        num_proposed = 0
        for crop in crop_boxes((pixels.shape[0], pixels.shape[1]), self._config):
            view = self._view(pixels, crop, embedding)
            if keep_candidates:
                finished = self._finished(view, rejections, num_proposed)
                candidates += finished
                crops.append(among(finished, self._config, rejections))
            else:
                crops.append(self._distinct(view, rejections, num_proposed))
            num_proposed += 3 * len(points_in(crop, self._config))
        masks = best_of_image(crops, self._config, rejections)
        kept = Candidates(masks=candidates, rejected=rejections.reasons)
        return Generated(
            masks=masks,
            num_proposed=num_proposed,
            rejections=dict(+rejections.counts),
            candidates=kept if keep_candidates else None,
        )

    def _view(
        self, pixels: npt.NDArray[np.uint8], crop: CropBox, embedding: ImageEmbedding | None
    ) -> View:
        if crop.layer > 0 or embedding is None:
            x0, y0, x1, y1 = crop.xyxy
            embedding = self._predictor.embed(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
        return View(crop, (pixels.shape[0], pixels.shape[1]), embedding)

    def _distinct(self, view: View, rejections: Rejections, first: int) -> list[GeneratedMask]:
        config = self._config
        proposals = propose(self._predictor, view, config, rejections, first=first)
        if not proposals:
            return []
        finisher = self._finisher(view)
        return distinct(
            [rank(proposal.iou, proposal.stability, config) for proposal in proposals],
            [proposal.number for proposal in proposals],
            lambda index: finisher.mask(proposals[index]),
            config,
            rejections,
            bounds=finisher.bounds(proposals),
        )

    def _finished(self, view: View, rejections: Rejections, first: int) -> list[GeneratedMask]:
        """All masks of a crop over the floor."""
        floor = floor_of(self._config)
        finisher = self._finisher(view)
        proposals = propose(self._predictor, view, floor, rejections, first=first)
        return [finisher.mask(proposal) for proposal in proposals]

    def _finisher(self, view: View) -> Finisher:
        return Finisher(view, self._predictor.logits_hw(view.frame), self._config)
