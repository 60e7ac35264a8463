"""Labelled images in, training crops out."""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine import rle
from engine.geometry import Mask
from engine.rle import Rle
from engine.training.augment import Crop, choose_crop, recolour, turn

Pixels = npt.NDArray[np.uint8]
_CACHED_IMAGES = 512
_CACHE_ZOOM = 2


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """image (H, W, 3) uint8 RGB; masks, one each object, of the image's size.

    `complete` says that every object has its mask, so that what no mask covers is background.
    """

    image: Pixels
    masks: list[Rle]
    complete: bool = True


class LabelledImages(Protocol):
    """Images with masks, by index; what a training or a measurement is given."""

    def __len__(self) -> int:
        """How many."""

    def load(self, index: int) -> LabelledImage:
        """Image `index`."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One crop: image (side, side, 3) uint8, masks (N, side, side) bool, N from 0 on.

    background: (B, 2) positions (x, y) where no object is; none where objects may lack masks.
    """

    image: Pixels
    masks: Mask
    background: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Kept:
    """An image at the cache's size; covered (H, W) uint8, 255 where any object is."""

    labelled: LabelledImage
    boxes: list[npt.NDArray[np.float32]]
    covered: Pixels

    def place(self, random: np.random.Generator) -> tuple[float, float] | None:
        """The middle (x, y) of one object's box, None without objects."""
        if not self.boxes:
            return None
        x0, y0, x1, y1 = self.boxes[int(random.integers(len(self.boxes)))]
        return float(x0 + x1) / 2, float(y0 + y1) / 2


def _keep(labelled: LabelledImage) -> _Kept:
    covered = np.zeros(labelled.image.shape[:2], dtype=np.uint8)
    for mask in labelled.masks:
        covered[rle.decode(mask)] = 255
    return _Kept(labelled, [rle.box(mask) for mask in labelled.masks], covered)


class CropSource:
    """Random crops of labelled images; images are kept at twice the size that the model sees."""

    def __init__(self, images: LabelledImages, side: int) -> None:
        self._images = images
        self._side = side
        self._cache: OrderedDict[int, _Kept] = OrderedDict()

    def sample(
        self,
        index: int,
        random: np.random.Generator,
        *,
        scale: tuple[float, float],
        num_masks: int,
        num_background: int,
        min_area: int,
    ) -> Sample:
        """A crop of image `index` with at most `num_masks` objects of `min_area` pixels or more.

        The window holds the middle of one object's box, so that few crops are empty also where few
        objects have masks.
        """
        kept = self._kept(index)
        labelled = kept.labelled
        hw = labelled.image.shape[:2]
        crop = choose_crop(hw, self._side, scale, random, around=kept.place(random))
        image = np.zeros((self._side, self._side, 3), dtype=np.uint8)
        # As at prediction: what lies outside the image has the mean colour.
        image[:] = 127
        crop.paste(labelled.image, image, Image.Resampling.BILINEAR)
        order = [i for i in random.permutation(len(labelled.masks)) if crop.meets(kept.boxes[i])]
        masks = self._masks(labelled, crop, order[: 4 * num_masks], num_masks, min_area)
        covered = np.full((self._side, self._side), 255, dtype=np.uint8)
        crop.paste(kept.covered, covered, Image.Resampling.BILINEAR)
        count = num_background if labelled.complete else 0
        background = _background(covered > 0, count, random)
        image, masks, background = turn(image, masks, background, random)
        return Sample(image=recolour(image, random), masks=masks, background=background)

    def _kept(self, index: int) -> _Kept:
        if index not in self._cache:
            self._cache[index] = _keep(shrink(self._images.load(index), _CACHE_ZOOM * self._side))
            while len(self._cache) > _CACHED_IMAGES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(index)
        return self._cache[index]

    def _masks(
        self, labelled: LabelledImage, crop: Crop, order: list[int], num_masks: int, min_area: int
    ) -> Mask:
        chosen: list[Mask] = []
        for index in order:
            pasted = np.zeros((self._side, self._side), dtype=np.uint8)
            whole = rle.decode(labelled.masks[index]).astype(np.uint8) * 255
            crop.paste(whole, pasted, Image.Resampling.BILINEAR)
            inside = pasted >= 128
            if inside.sum() >= min_area:
                chosen.append(inside)
            if len(chosen) == num_masks:
                break
        return np.stack(chosen) if chosen else np.zeros((0, self._side, self._side), dtype=bool)


def shrink(labelled: LabelledImage, longest: int) -> LabelledImage:
    """The image with its longest side at most `longest`; masks that vanish are left out."""
    height, width = labelled.image.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return labelled
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = np.asarray(Image.fromarray(labelled.image).resize(size, Image.Resampling.BILINEAR))
    small = [_shrink_mask(mask, size) for mask in labelled.masks]
    kept = [mask for mask in small if rle.area(mask)]
    return replace(labelled, image=image, masks=kept)


def _shrink_mask(mask: Rle, size: tuple[int, int]) -> Rle:
    picture = Image.fromarray(rle.decode(mask).astype(np.uint8) * 255)
    resized = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    return rle.encode((resized >= 128)[None])[0]


def _background(covered: Mask, count: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    places = np.flatnonzero(~covered)
    if count == 0 or not len(places):
        return np.zeros((0, 2), dtype=np.float32)
    flat = random.choice(places, size=count)
    width = covered.shape[1]
    return np.stack([flat % width + 0.5, flat // width + 0.5], axis=1).astype(np.float32)
