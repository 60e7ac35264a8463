"""What makes a proposed mask worth keeping, in the frame that the model sees."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.generation.grid import CropBox
from engine.geometry import Boxes, Frame

# SAM allows 20 pixels; its crops are about a thousand wide.
_EDGE_SHARE = 0.02


def picture_area(logits: Tensor, frame: Frame) -> Tensor:
    """(..., h, w) logits of a frame -> the part that shows the picture and not the padding."""
    height, width = picture_hw((logits.shape[-2], logits.shape[-1]), frame)
    return logits[..., :height, :width]


def picture_hw(logits_hw: tuple[int, int], frame: Frame) -> tuple[int, int]:
    """How many rows and columns of low-resolution logits show the picture."""
    (rows, columns), (height, width) = logits_hw, frame.resized_hw
    return -(-height * rows // frame.side), -(-width * columns // frame.side)


def stability_scores(logits: Tensor, threshold: float, offset: float) -> Tensor:
    """(N, h, w) logits -> (N,) IoU of the masks cut at `threshold` + and - `offset`.

    The higher mask lies inside the lower one, so this is the ratio of their areas; 0 where both are
    empty. From SAM's `calculate_stability_score`.
    """
    high = (logits > threshold + offset).flatten(1).sum(dim=1)
    low = (logits > threshold - offset).flatten(1).sum(dim=1)
    return high / low.clamp(min=1)


def boxes_of(masks: Tensor) -> Tensor:
    """(N, h, w) bool -> (N, 4) xyxy, half-open, float32; zeros for an empty mask."""
    rows, columns = masks.any(dim=2), masks.any(dim=1)
    y0, y1 = _extent(rows)
    x0, x1 = _extent(columns)
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """(N, L) bool -> first and one past the last True, both 0 where there is none."""
    length = occupied.shape[1]
    places = torch.arange(length, device=occupied.device)
    first = torch.where(occupied, places, length).amin(dim=1)
    last = torch.where(occupied, places + 1, 0).amax(dim=1)
    return torch.minimum(first, last), last


def cut_by_crop(boxes: Boxes, crop: CropBox, hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(N, 4) xyxy in the image -> (N,) whether a box ends at an edge of the crop.

    Edges that are also edges of the image cut nothing off.
    """
    x0, y0, x1, y1 = crop.xyxy
    height, width = hw
    tolerance = _EDGE_SHARE * max(crop.hw)
    inner = np.array([x0 > 0, y0 > 0, x1 < width, y1 < height])
    near = np.abs(boxes - np.array(crop.xyxy, dtype=np.float32)) <= tolerance
    return np.asarray((near & inner).any(axis=1))
