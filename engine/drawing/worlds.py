"""Worlds to learn from before any photograph: whole scenes, each made by its seed alone.

Photograph-like ones teach that regions are told apart by texture as well as by colour and that
objects have parts; microscope-like ones teach crowds of blurred blobs. No real image is in them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.drawing import camera, microscopy, natural
from engine.drawing.scenes import Scene
from engine.geometry import Mask

FAMILIES = ("natural", "objects", "fluorescence", "histology", "brightfield")
_MICROSCOPES = {
    "fluorescence": microscopy.draw_fluorescence,
    "histology": microscopy.draw_histology,
    "brightfield": microscopy.draw_brightfield,
}


@dataclass(frozen=True, kw_only=True)
class WorldStyle:
    """Which worlds are drawn. The five shares are relative; radius of nuclei in pixels.

    visible: the share of an object that must be seen; jpeg: how often a scene is compressed.
    """

    hw: tuple[int, int] = (320, 320)
    natural: float = 0.45
    objects: float = 0.2
    fluorescence: float = 0.17
    histology: float = 0.1
    brightfield: float = 0.08
    nucleus_radius: tuple[float, float] = (3.0, 30.0)
    visible: float = 0.35
    min_area: int = 20
    jpeg: float = 0.35

    def __post_init__(self) -> None:
        if min(self.hw) < 32:
            raise ValueError(f"hw: must be at least 32 each way, but got {self.hw}")
        for name in FAMILIES:
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: must be 0 or more, but got {getattr(self, name)}")
        if sum(getattr(self, name) for name in FAMILIES) <= 0:
            raise ValueError("natural: one of the five shares must be over 0, but all are 0")
        if not 1 <= self.nucleus_radius[0] <= self.nucleus_radius[1]:
            raise ValueError(
                f"nucleus_radius: must be 1 <= low <= high, but got {self.nucleus_radius}"
            )
        for name in ("visible", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in 0..1, but got {getattr(self, name)}")
        if self.min_area < 1:
            raise ValueError(f"min_area: must be at least 1, but got {self.min_area}")

    def family(self, random: np.random.Generator) -> str:
        """One of the five, by its share."""
        shares = np.array([getattr(self, name) for name in FAMILIES])
        return FAMILIES[int(random.choice(len(FAMILIES), p=shares / shares.sum()))]


def draw_world(seed: int, style: WorldStyle) -> Scene:
    """The world number `seed` of `style`."""
    random = np.random.default_rng([seed, 31])
    family = style.family(random)
    image, masks, kinds = _drawn(random, family, style)
    if random.random() < style.jpeg:
        # Nobody saves what is hardly brighter than black at a low quality.
        lowest = 80 if family in _MICROSCOPES else 45
        image = camera.compressed(image, int(random.integers(lowest, 96)))
    return Scene(image=image, masks=masks, kinds=kinds)


def _drawn(
    random: np.random.Generator, family: str, style: WorldStyle
) -> tuple[npt.NDArray[np.uint8], Mask, tuple[str, ...]]:
    if family in _MICROSCOPES:
        image, seen = _MICROSCOPES[family](random, style.hw, style.nucleus_radius)
        return image, *microscopy.masks_of(seen, style.visible, style.min_area)
    draw = natural.draw_natural if family == "natural" else natural.draw_objects
    board, image = draw(random, style.hw)
    return image, *board.seen(style.visible, style.min_area)
