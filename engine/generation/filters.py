"""What makes a proposed mask worth keeping."""

import numpy as np
import torch
from torch import Tensor

from engine.generation.grid import CropBox
from engine.geometry import Boxes, Frame


def picture_area(logits: Tensor, frame: Frame, margin: int = 0) -> Tensor:
    """(..., h, w) logits of a frame -> the part that shows the picture and not the padding.

    `margin`: cells of padding more, on which the picture's last pixels lean.
    """
    (rows, columns), (height, width) = logits.shape[-2:], frame.resized_hw
    last_row, last_column = -(-height * rows // frame.side), -(-width * columns // frame.side)
    return logits[..., : last_row + margin, : last_column + margin]


def stability_scores(logits: Tensor, threshold: float, offset: float) -> Tensor:
    """(N, h, w) logits -> (N,) float64 IoU of the masks cut at `threshold` + and - `offset`.

    The higher mask lies inside the lower one, so this is the ratio of their areas; 0 where both are
    empty. From SAM's `calculate_stability_score`.
    """
    high = (logits > threshold + offset).flatten(1).sum(dim=1)
    low = (logits > threshold - offset).flatten(1).sum(dim=1)
    return high.double() / low.clamp(min=1)


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


def index_box(box: Boxes) -> Boxes:
    """(..., 4) xyxy, half-open -> from the first to the last pixel's index, as SAM has boxes.

    Overlaps of boxes are measured so, because thresholds were chosen so.
    """
    return box - np.array([0, 0, 1, 1], dtype=np.float32)


def is_cut_by_crop(box: Boxes, crop: CropBox, hw: tuple[int, int], atol: float) -> bool:
    """Whether a box (4,) xyxy in the image ends within `atol` pixels of an edge of its crop.

    Near an edge of the image nothing is cut off. From SAM's `is_box_near_crop_edge`.
    """
    if crop.xyxy == (0, 0, hw[1], hw[0]):
        return False
    image = np.array([0, 0, hw[1], hw[0]], dtype=np.float32)
    ends = index_box(box)
    near_crop = np.abs(ends - np.array(crop.xyxy, dtype=np.float32)) <= atol
    return bool((near_crop & (np.abs(ends - image) > atol)).any())
