"""All masks of an image: a grid of clicks, three masks a click, and what of them is worth keeping.

The same masks as `SamAutomaticMaskGenerator` gives, in a fraction of its time and memory: what
cannot stay is dropped at the model's own low resolution, and only the rest is enlarged.
"""

import numpy as np
import numpy.typing as npt
import torch

from engine.generation.config import GenerationConfig
from engine.generation.finish import Finishing, finish
from engine.generation.grid import CropBox, crop_boxes, points_in, uncovered_points
from engine.generation.masks import Generated, Rejections
from engine.generation.memory import Bounds
from engine.generation.propose import Proposed, View, propose
from engine.generation.replay import floor_of
from engine.geometry import Boxes
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor


class MaskGenerator:
    """Masks of whole images by one model and one config. Without state, so safe to share.

    Takes memory for a batch of clicks and for what of the grids' masks may stay, in float16 and cut
    to their boxes; of those at full resolution a strip is in memory at a time.
    """

    def __init__(self, predictor: Predictor, config: GenerationConfig) -> None:
        self._predictor = predictor.computing_in(config.precision)
        self._config = config

    def generate(
        self,
        pixels: npt.NDArray[np.uint8],
        embedding: ImageEmbedding | None = None,
        *,
        keep_candidates: bool = False,
    ) -> Generated:
        """Masks of an image (H, W, 3) uint8 RGB; the same call gives the same masks in their order.

        `embedding`, of the whole image, saves encoding it once more. With `keep_candidates` all
        that is over `floor_of` the config is brought to full size and kept, for `replay`. Where
        memory runs out, it goes on with smaller batches and says so in `savings`.
        """
        proposed = self.propose(pixels, embedding, keep_candidates=keep_candidates)
        return finish(proposed, self._config)

    @torch.inference_mode()
    def propose(
        self,
        pixels: npt.NDArray[np.uint8],
        embedding: ImageEmbedding | None = None,
        *,
        keep_candidates: bool = False,
    ) -> Proposed:
        """The model's part of `generate`; the rest is `finish`, also in another process."""
        config = self._config
        asking = _Asking(
            self._predictor, floor_of(config) if keep_candidates else config, keep_candidates
        )
        hw = (pixels.shape[0], pixels.shape[1])
        embedding = embedding or self._predictor.embed(pixels)
        whole, *crops = crop_boxes(hw, config)
        asking.click(whole, hw, embedding, points_in(whole, config))
        for crop in crops:
            asking.click(crop, hw, self._embed(pixels, crop), points_in(crop, config))
        if config.uncovered_points_per_side:
            points = _uncovered(asking.proposed(), hw, config)
            asking.click(whole, hw, embedding, points)
        return asking.proposed()

    def _embed(self, pixels: npt.NDArray[np.uint8], crop: CropBox) -> ImageEmbedding:
        x0, y0, x1, y1 = crop.xyxy
        return self._predictor.embed(np.ascontiguousarray(pixels[y0:y1, x0:x1]))


class _Asking:
    """Clicks on one image, crop by crop."""

    def __init__(
        self, predictor: Predictor, config: GenerationConfig, keep_candidates: bool
    ) -> None:
        self._predictor = predictor
        self._config = config
        self._bounds = Bounds(config, quickest_batch=predictor.prompts_at_once)
        self._proposed = Proposed(keep_candidates=keep_candidates)

    def click(
        self, crop: CropBox, image_hw: tuple[int, int], embedding: ImageEmbedding, points: Boxes
    ) -> None:
        """Click on `points` (P, 2) of a crop, whose embedding is given."""
        frame = embedding.frame
        view = View(crop, image_hw, frame, self._predictor.logits_hw(frame))
        propose(
            self._predictor, view, embedding, points, self._config, self._proposed, self._bounds
        )

    def proposed(self) -> Proposed:
        """All that was proposed so far."""
        self._proposed.savings = self._bounds.savings
        return self._proposed


def _uncovered(proposed: Proposed, hw: tuple[int, int], config: GenerationConfig) -> Boxes:
    """Where the second pass clicks: on what none of the masks so far covers."""
    finishing, unheard = Finishing(config), Rejections()
    found = [mask.rle for crop in proposed.crops for mask in finishing.distinct(crop, unheard)]
    return uncovered_points(found, hw, config)
