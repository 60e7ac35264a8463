"""What a person sees at a glance: what stands out."""

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.geometry import Mask
from engine.rle import Rle


def prominence(pixels: npt.NDArray[np.uint8], mask: Rle) -> float:
    """How much an object stands out: the root of its area, weighed by its contrast.

    Contrast is the distance in [0, 1] between the mean colours of the object and of what surrounds
    it in its box, grown by a quarter.
    """
    area = rle.area(mask)
    if area == 0:
        return 0.0
    inside, window = _window(pixels, mask)
    if inside.all():
        return float(np.sqrt(area))
    difference = window[inside].mean(axis=0) - window[~inside].mean(axis=0)
    contrast = float(np.abs(difference).mean()) / 255
    return float(np.sqrt(area) * (0.1 + contrast))


def _window(pixels: npt.NDArray[np.uint8], mask: Rle) -> tuple[Mask, npt.NDArray[np.uint8]]:
    x0, y0, x1, y1 = (int(value) for value in rle.box(mask))
    margin_x, margin_y = (x1 - x0) // 4 + 1, (y1 - y0) // 4 + 1
    rows = slice(max(0, y0 - margin_y), y1 + margin_y)
    columns = slice(max(0, x0 - margin_x), x1 + margin_x)
    return rle.decode(mask)[rows, columns], pixels[rows, columns]
