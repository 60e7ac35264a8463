"""When an object is so small in the frame that it is worth a look of its own, and how near.

An object of a few cells has no shape in the frame of its whole image. Once a first answer says
where it is, a window around it is encoded by itself (`engine.model.interactive`). Such a zoom is
usual in interactive segmentation (Sofiiuk et al., f-BRS, 2020).
"""

from dataclasses import dataclass

import numpy as np

from engine.geometry import Boxes, Window


@dataclass(frozen=True, kw_only=True)
class CloserLook:
    """What is small, and how close to go.

    A mask is small when it covers less than `max_area` pixels of its image's frame. The window's
    side is `context` times that of the box around the mask and the clicks, at least `min_side`
    pixels; one that is not `min_zoom` times smaller than the image is not worth encoding. It is
    seen in a frame of `side` pixels, which a part of the image's own frame costs a part of.
    """

    max_area: float
    side: int
    context: float = 3.0
    min_side: int = 64
    min_zoom: float = 1.3

    def window(self, box: Boxes, image_hw: tuple[int, int]) -> Window | None:
        """The square around a box (4,) xyxy, moved into the image; None when it is too large."""
        height, width = image_hw
        x0, y0, x1, y1 = (float(value) for value in box)
        side = max(self.min_side, round(self.context * max(x1 - x0, y1 - y0)))
        if side * self.min_zoom > max(image_hw):
            return None
        left = int(np.clip((x0 + x1 - side) / 2, 0, max(0, width - side)))
        top = int(np.clip((y0 + y1 - side) / 2, 0, max(0, height - side)))
        return left, top, min(left + side, width), min(top + side, height)
