"""Boxes, points and the frame that a model sees.

Boxes are `xyxy` with half-open pixels (width = x1 - x0); XYWH exists only in tables and files.
Points are `(x, y)` in pixels of the original image. Sizes are `(height, width)`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Window = tuple[int, int, int, int]
"""A part of an image: (x0, y0, x1, y1) in whole pixels, half-open."""


def box_xyxy_to_xywh(boxes: npt.ArrayLike) -> Boxes:
    """(N, 4) xyxy -> (N, 4) XYWH."""
    boxes = np.asarray(boxes, dtype=np.float32)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def box_area(boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """(N, 4) xyxy -> (N,) areas; an empty box has area 0."""
    boxes = np.asarray(boxes, dtype=np.float32)
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1], dtype=np.float32)


def intersection_area(a: Boxes, b: Boxes) -> npt.NDArray[np.float32]:
    """(..., 4) and (..., 4) xyxy, broadcast -> (...) what they share."""
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., 2:], b[..., 2:])
    sides = np.clip(high - low, 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1], dtype=np.float32)


def box_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """(N, 4) and (M, 4) xyxy -> (N, M) intersection over union; 0 where both are empty."""
    left, right = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    inter = intersection_area(left[:, None], right[None])
    union = box_area(left)[:, None] + box_area(right)[None, :] - inter
    iou = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return np.asarray(iou, dtype=np.float32)


def mask_to_box(mask: Mask) -> Boxes:
    """(H, W) bool -> (4,) xyxy, half-open; zeros for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return np.zeros(4, dtype=np.float32)
    columns = np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


def masks_to_boxes(masks: Mask) -> Boxes:
    """(N, H, W) bool -> (N, 4) xyxy."""
    return np.stack([mask_to_box(mask) for mask in masks]) if len(masks) else np.zeros((0, 4), "f4")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """SAM's resize: the longest side becomes `side`, the rest is padded at the bottom and right."""

    original_hw: tuple[int, int]
    side: int

    def __post_init__(self) -> None:
        if min(self.original_hw) < 1:
            raise ValueError(f"original_hw: must be positive, but got {self.original_hw}")
        if self.side < 1:
            raise ValueError(f"side: must be positive, but got {self.side}")

    @property
    def scale(self) -> float:
        """Frame pixels per original pixel along the longer side."""
        return self.side / max(self.original_hw)

    @property
    def resized_hw(self) -> tuple[int, int]:
        """The size of the picture inside the frame."""
        height, width = self.original_hw
        return max(1, int(height * self.scale + 0.5)), max(1, int(width * self.scale + 0.5))

    @property
    def scale_xy(self) -> npt.NDArray[np.float32]:
        """(2,) frame pixels per original pixel along each side, which the rounded size gives."""
        (resized_height, resized_width), (height, width) = self.resized_hw, self.original_hw
        return np.array([resized_width / width, resized_height / height], dtype=np.float32)

    def to_frame(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(..., 2) points (x, y) in original pixels -> frame pixels."""
        return points * self.scale_xy
