"""Small holes and islands out of a mask."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from engine.geometry import Mask, mask_to_box

_PIXELS_AT_ONCE = 1 << 22
_CORNERS_TOO = np.ones((3, 3), dtype=np.bool_)


def remove_small_regions(mask: Mask, min_area: int) -> Mask:
    """(H, W) bool -> without islands and holes of fewer than `min_area` pixels.

    Pixels of an island also touch by their corners, those of a hole only by their sides. A hole is
    enclosed by the mask; a notch at the image's border is none. When every island is small, the
    largest stays. After SAM's `remove_small_regions`.
    """
    x0, y0, x1, y1 = (int(value) for value in mask_to_box(mask))
    if min_area <= 1 or x0 == x1:
        return mask
    cleaned = np.zeros_like(mask)
    # Everything that is enclosed by the mask lies in its box.
    cleaned[y0:y1, x0:x1] = _without_islands(_without_holes(mask[y0:y1, x0:x1], min_area), min_area)
    return cleaned


def _without_holes(mask: Mask, min_area: int) -> Mask:
    labels, count = ndimage.label(~mask)
    small = _sizes(labels, count) < min_area
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    small[border] = False
    small[0] = False
    return np.asarray(mask | small[labels])


def _without_islands(mask: Mask, min_area: int) -> Mask:
    labels, count = ndimage.label(mask, structure=_CORNERS_TOO)
    sizes = _sizes(labels, count)
    keep = sizes >= min_area
    if not keep[1:].any():
        keep[1 + int(sizes[1:].argmax())] = True
    keep[0] = False
    return np.asarray(keep[labels])


def _sizes(labels: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
    """Pixels of each label, 0 (the rest) first."""
    sizes = np.zeros(count + 1, dtype=np.int64)
    # numpy counts in 64 bits, for which a large mask's labels would be copied at once.
    for rows in np.array_split(labels, -(-labels.size // _PIXELS_AT_ONCE)):
        sizes += np.bincount(rows.ravel(), minlength=count + 1)
    return sizes
