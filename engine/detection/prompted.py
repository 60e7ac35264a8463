"""Boxes of a detector as prompts: the masks that the promptable model makes of them."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from engine.detection.detector import Detections, Detector
from engine.generation.filters import boxes_of, picture_area, stability_scores
from engine.generation.grid import CropBox
from engine.generation.masks import Generated, GeneratedMask
from engine.generation.windows import Window, WindowUpscaler
from engine.geometry import Boxes, Frame
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import Answer, InteractivePredictor
from engine.model.predictor import Predictor, framed
from engine.model.prompts import Prompts
from engine.model.sam import PromptableSam

_PIXELS_PER_STRIP = 1 << 20
_THRESHOLD = 0.0
# SAM's is 1 for large models; small ones draw less steep logits (`engine.generation.config`).
_STABILITY_OFFSET = 0.5


@dataclass(frozen=True)
class BoxFinder:
    """A detector with the model whose frames it sees."""

    detector: Detector
    model: PromptableSam
    device: torch.device

    @torch.inference_mode()
    def find(self, pixels: npt.NDArray[np.uint8]) -> Detections:
        """Boxes in an image (H, W, 3) uint8 RGB."""
        height, width = pixels.shape[:2]
        frame = Frame(original_hw=(height, width), side=self.detector.side)
        boxes, scores = self.detector.find(framed(self.model, pixels, frame, self.device))
        found = boxes.cpu().numpy() / np.tile(frame.scale_xy, 2)
        found = np.clip(found, 0, [width, height, width, height])
        # What lies in the padding is nothing.
        real = ((found[:, 2:] - found[:, :2]) >= 1).all(axis=1)
        return Detections(found[real].astype(np.float32), scores.cpu().numpy()[real])


def masks_in_boxes(
    predictor: Predictor,
    pixels: npt.NDArray[np.uint8],
    embedding: ImageEmbedding,
    detections: Detections,
) -> Generated:
    """The mask that `predictor` makes of each box, best first: what a person who draws it gets.

    Of masks without a pixel there are none. pixels: (H, W, 3) uint8 RGB; `embedding` is of them.
    """
    asking = InteractivePredictor.on(predictor, pixels, embedding)
    masks: list[GeneratedMask] = []
    step = predictor.prompts_at_once
    for start in range(0, len(detections), step):
        boxes = detections.boxes[start : start + step]
        answers = asking.first(Prompts(boxes=boxes), multimask=False)
        for number, (answer,) in enumerate(answers, start=start):
            mask = _mask(answer, number, boxes[number - start])
            if mask is not None:
                masks.append(replace(mask, box_score=float(detections.scores[number])))
    masks.sort(key=lambda mask: -mask.score)
    num_empty = len(detections) - len(masks)
    return Generated(
        masks=masks,
        num_proposed=len(detections),
        rejections={"area": num_empty} if num_empty else {},
    )


def _mask(answer: Answer, number: int, box: Boxes) -> GeneratedMask | None:
    """The answer to `box` (4,) xyxy at full size; None without a pixel."""
    frame, logits = answer.look.embedding.frame, answer.logits[None].float()
    leaned_on = picture_area(logits, frame, margin=1)
    cells = boxes_of(leaned_on > _THRESHOLD)
    if not cells.any():
        return None
    stability = stability_scores(picture_area(logits, frame), _THRESHOLD, _STABILITY_OFFSET)
    [window] = Window.around_each(logits, np.array([0]), cells.numpy().astype(np.int64))
    upscaler = WindowUpscaler((logits.shape[1], logits.shape[2]), frame)
    enlarged = upscaler.enlarge(
        window, _THRESHOLD, _STABILITY_OFFSET, pixels_at_once=_PIXELS_PER_STRIP
    )
    (left, top), _ = answer.look.corners
    height, width = answer.look.image_hw
    segments = enlarged.segments.moved(left, top, height)
    if not segments.area:
        return None
    x0, y0, x1, y1 = (float(value) for value in box)
    return GeneratedMask(
        number=number,
        rle=segments.encoded(width),
        box_xyxy=segments.box,
        crop=CropBox(0, (0, 0, width, height)),
        area=segments.area,
        predicted_iou=answer.iou,
        stability_score=float(stability[0]),
        point_xy=((x0 + x1) / 2, (y0 + y1) / 2),
    )
