"""All masks of an image: a grid of clicks, three masks a click, and what of them is worth keeping.

After SAM's `SamAutomaticMaskGenerator`, with two differences: filters and box duplicates are judged
at the model's own low resolution first, so that only what stays is enlarged; and duplicates are
also found by the masks themselves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from engine import rle
from engine.generation.clean import remove_small_regions
from engine.generation.config import GenerationConfig
from engine.generation.filters import cut_by_crop
from engine.generation.grid import CropBox, crop_boxes
from engine.generation.nms import box_nms, by_score, mask_nms
from engine.generation.propose import Proposed, View, propose
from engine.generation.windows import Window, WindowUpscaler
from engine.geometry import Boxes, mask_to_box
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor
from engine.rle import Rle


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedMask:
    """One mask; boxes are (4,) xyxy in pixels of the image, `point_xy` is the click that made it.

    `area` in pixels; `predicted_iou` and `stability_score` in [0, 1].
    """

    rle: Rle
    box_xyxy: Boxes
    crop_box_xyxy: Boxes
    area: int
    predicted_iou: float
    stability_score: float
    point_xy: tuple[float, float]

    @property
    def score(self) -> float:
        """How good the model thinks the mask is, in [0, 1]; masks are ranked by it."""
        return self.predicted_iou * self.stability_score


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The masks of one image, best first, and why the others went.

    `num_proposed` counts what the model gave: len(masks) + sum(rejections.values()). Reasons:
    predicted_iou, stability, area, crop_edge, duplicate_box, duplicate_mask, contained, max_masks.
    """

    masks: list[GeneratedMask]
    num_proposed: int
    rejections: dict[str, int]


class MaskGenerator:
    """Masks of whole images by one model and one config. Without state, so safe to share.

    Takes memory for a grid's masks at low resolution in float16 (3 x points x h x w) and for one at
    full resolution at a time.
    """

    def __init__(self, predictor: Predictor, config: GenerationConfig) -> None:
        self._predictor = predictor
        self._config = config

    @torch.inference_mode()
    def generate(
        self, pixels: npt.NDArray[np.uint8], embedding: ImageEmbedding | None = None
    ) -> Generated:
        """Masks of an image (H, W, 3) uint8 RGB; the same call gives the same masks in their order.

        `embedding`, of the whole image, saves encoding it once more.
        """
        tally: Counter[str] = Counter()
        found: list[GeneratedMask] = []
        layers: list[int] = []
        for crop in crop_boxes((pixels.shape[0], pixels.shape[1]), self._config):
            view = self._view(pixels, crop, embedding)
            proposed = propose(self._predictor, view, self._config, tally)
            found += self._finished(proposed, view, tally)
            layers += [crop.layer] * (len(found) - len(layers))
        masks = self._best(found, layers, tally)
        num_proposed = tally.pop("proposed")
        return Generated(masks=masks, num_proposed=num_proposed, rejections=dict(+tally))

    def _view(
        self, pixels: npt.NDArray[np.uint8], crop: CropBox, embedding: ImageEmbedding | None
    ) -> View:
        if crop.layer > 0 or embedding is None:
            x0, y0, x1, y1 = crop.xyxy
            embedding = self._predictor.embed(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
        return View(crop, (pixels.shape[0], pixels.shape[1]), embedding)

    def _finished(
        self, proposed: Proposed, view: View, tally: Counter[str]
    ) -> Iterator[GeneratedMask]:
        """The proposed masks at full resolution, cleaned; those that do not pass there go."""
        upscaler = WindowUpscaler((proposed.logits.shape[1], proposed.logits.shape[2]), view.frame)
        for number in range(len(proposed)):
            window = upscaler.mask(
                proposed.logits[number], proposed.boxes[number], self._config.mask_threshold
            )
            mask = self._mask(window, proposed, number, view)
            if (reason := self._refusal(mask, view)) is None:
                yield mask
            else:
                tally[reason] += 1

    def _mask(self, window: Window, proposed: Proposed, number: int, view: View) -> GeneratedMask:
        left, top, _, _ = view.crop.xyxy
        cleaned = remove_small_regions(window.mask, self._config.min_mask_region_area)
        rows = slice(top + window.y0, top + window.y0 + cleaned.shape[0])
        columns = slice(left + window.x0, left + window.x0 + cleaned.shape[1])
        full = np.zeros(view.image_hw, dtype=np.bool_)
        full[rows, columns] = cleaned
        x, y = (float(value) for value in proposed.points[number])
        return GeneratedMask(
            rle=rle.encode_one(full),
            box_xyxy=mask_to_box(full),
            crop_box_xyxy=np.array(view.crop.xyxy, dtype=np.float32),
            area=int(cleaned.sum()),
            predicted_iou=float(proposed.iou[number]),
            stability_score=float(proposed.stability[number]),
            point_xy=(left + x, top + y),
        )

    def _refusal(self, mask: GeneratedMask, view: View) -> str | None:
        largest = self._config.max_mask_area_fraction * float(np.prod(view.image_hw))
        if not self._config.min_mask_area <= mask.area <= largest:
            return "area"
        if cut_by_crop(mask.box_xyxy[None], view.crop, view.image_hw)[0]:
            return "crop_edge"
        return None

    def _best(
        self, found: Sequence[GeneratedMask], layers: Sequence[int], tally: Counter[str]
    ) -> list[GeneratedMask]:
        """Without duplicates: a closer crop wins, as in SAM, then the better score."""
        if not found:
            return []
        config = self._config
        # Scores are at most 1, so a layer outweighs them.
        ranks = np.array([layer + mask.score for layer, mask in zip(layers, found, strict=True)])
        boxes = np.stack([mask.box_xyxy for mask in found])
        different = box_nms(boxes, ranks, config.box_nms_thresh)
        tally["duplicate_box"] += len(found) - len(different)
        result = mask_nms(
            [found[index].rle for index in different],
            boxes[different],
            ranks[different],
            iou_threshold=config.mask_nms_thresh,
            containment_threshold=config.containment_thresh,
        )
        tally["duplicate_mask"] += len(result.duplicates)
        tally["contained"] += len(result.contained)
        masks = [found[different[index]] for index in result.kept]
        best = [masks[index] for index in by_score([mask.score for mask in masks])]
        tally["max_masks"] += max(0, len(best) - config.max_masks)
        return best[: config.max_masks]
