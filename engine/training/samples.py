"""Labelled images in, training crops out."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine import rle
from engine.geometry import Boxes, box_area, masks_to_boxes
from engine.model.closer_look import CloserLook
from engine.rle import Rle
from engine.training.augment import Crop, choose_crop, close_crop, recolour, turn
from engine.training.config import ScaleLaw

Pixels = npt.NDArray[np.uint8]
_CACHED_IMAGES = 512
_CACHE_ZOOM = 2


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """image (H, W, 3) uint8 RGB; masks, one each object, of the image's size.

    `complete` says that every object has its mask, so that what no mask covers is background.
    `crowds` are regions of many objects without a mask each, where no prediction counts as wrong;
    such an image is not complete.
    """

    image: Pixels
    masks: list[Rle]
    complete: bool = True
    crowds: Sequence[Rle] = ()

    @cached_property
    def boxes(self) -> Boxes:
        """(N, 4) xyxy of each object."""
        return np.reshape([rle.box(mask) for mask in self.masks], (-1, 4)).astype(np.float32)

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """(N,) how much of the image each object covers."""
        return np.array([rle.area(mask) for mask in self.masks]) / self.image[..., 0].size

    @cached_property
    def covered(self) -> Pixels:
        """(H, W), 255 where any object is."""
        return rle.union(self.masks, self.image.shape[:2]).view(np.uint8) * np.uint8(255)

    @cached_property
    def identity(self) -> int:
        """A number of 64 bits that names what the image shows, whatever its masks."""
        digest = hashlib.sha256(np.ascontiguousarray(self.image).tobytes())
        return int.from_bytes(digest.digest()[:8], "big")

    def measured(self) -> Self:
        """The same; what crops ask of its objects is known from now on, also where it is sent."""
        _ = self.boxes, self.shares, self.covered
        return self


class LabelledImages(Protocol):
    """Images with masks, by index; what a training or a measurement is given."""

    def __len__(self) -> int:
        """How many."""

    def load(self, index: int) -> LabelledImage:
        """Image `index`."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One crop of S x S pixels, with N objects, N from 0 on.

    image (S, S, 3) uint8; targets (N, h, w) float32 in [0, 1], the share of each cell that the
    object covers; boxes (N, 4) xyxy of what is seen, in pixels; background (B, 2) positions (x, y)
    where no object is, none where objects may lack masks.
    """

    image: Pixels
    targets: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    background: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A crop of S x S pixels: image (S, S, 3) uint8; boxes (N, 4) xyxy of all objects seen."""

    image: Pixels
    boxes: Boxes


class CropSource:
    """Random crops of labelled images; images are kept at twice the size that the model sees."""

    def __init__(self, images: LabelledImages, side: int, stride: int) -> None:
        self._images = images
        self._side = side
        self._stride = stride
        self._cache: OrderedDict[int, LabelledImage] = OrderedDict()
        self._lock = Lock()

    def sample(
        self,
        index: int,
        random: np.random.Generator,
        *,
        picks: np.random.Generator | None = None,
        scale: tuple[float, float],
        num_masks: int,
        num_background: int,
        min_area: int,
        size_bias: float = 0.0,
        max_cover: float = 1.0,
        scale_law: ScaleLaw = "log",
        augment: bool = True,
        closer: CloserLook | None = None,
    ) -> Sample:
        """A crop of image `index` with at most `num_masks` objects of `min_area` pixels or more.

        `random` draws what the crop shows, `picks` (by default the same) its objects and places of
        background.

        Of objects whose boxes have areas a and b, the first is chosen (a / b) ** `size_bias` times
        as often; objects of over `max_cover` of the image are left out.
        The window holds the middle of one object's box, so that few crops are empty also where few
        objects have masks. `closer`: the window is about that of a closer look at the object, in
        the frame of such a look.
        """
        picks = random if picks is None else picks
        labelled = self._kept(index)
        side = self._side if closer is None else closer.side
        cells = side // self._stride
        crop = _window(labelled, cells, random, scale, scale_law, closer)
        image = self._picture(labelled, crop, side)
        order = [
            i
            for i in _shuffled(labelled.boxes, picks, size_bias)
            if labelled.shares[i] <= max_cover and crop.meets(labelled.boxes[i])
        ]
        least = 255 * min_area / self._stride**2
        few = order[: 4 * num_masks]
        chosen, covers = _covers(labelled, crop, few, cells, num_masks, least)
        count = num_background if labelled.complete else 0
        places = _background(labelled, crop, cells, count, picks)
        targets = covers.astype(np.float32) / np.float32(255)
        boxes = self._boxes(labelled, crop, chosen, covers)
        places *= self._stride
        if augment:
            corners = np.concatenate([boxes.reshape(-1, 2), places])
            image, targets, corners = turn(image, targets, corners, random)
            image = recolour(image, random)
            boxes, places = _around(corners[: 2 * len(boxes)]), corners[2 * len(boxes) :]
        return Sample(image=np.array(image), targets=targets, boxes=boxes, background=places)

    def scene(
        self,
        index: int,
        random: np.random.Generator,
        *,
        scale: tuple[float, float],
        min_seen: float,
    ) -> Scene:
        """A crop of image `index`, turned and recoloured, and the boxes of its objects.

        Objects of whose box under `min_seen` is in the crop are left out.
        """
        labelled = self._kept(index)
        crop = _window(labelled, self._side // self._stride, random, scale, "log", None)
        image = self._picture(labelled, crop, self._side)
        seen = crop.seen(labelled.boxes) >= min_seen
        boxes = crop.move(labelled.boxes[seen]) * self._stride
        nothing = np.zeros((0, 1, 1), dtype=np.float32)
        image, _, corners = turn(image, nothing, boxes.reshape(-1, 2), random)
        boxes = _around(corners).astype(np.float32)
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 1
        return Scene(image=np.array(recolour(image, random)), boxes=boxes[large])

    def _picture(self, labelled: LabelledImage, crop: Crop, side: int) -> Image.Image:
        # As at prediction: what lies outside the image has the mean colour.
        image = Image.new("RGB", (side, side), (127, 127, 127))
        picture = Image.fromarray(labelled.image)
        crop.paste(picture, image, Image.Resampling.BILINEAR, stride=self._stride)
        return image

    def identity(self, index: int) -> int:
        """A number of 64 bits that names what image `index` shows, whatever its masks."""
        return self._kept(index).identity

    def _kept(self, index: int) -> LabelledImage:
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        kept = shrink(self._images.load(index), _CACHE_ZOOM * self._side)
        with self._lock:
            self._cache[index] = kept
            while len(self._cache) > _CACHED_IMAGES:
                self._cache.popitem(last=False)
        return kept

    def _boxes(
        self, labelled: LabelledImage, crop: Crop, chosen: list[int], covers: Pixels
    ) -> npt.NDArray[np.float32]:
        """The part of each box in the window; an object cut by it is measured by its cells."""
        if not chosen:
            return np.zeros((0, 4), dtype=np.float32)
        whole = labelled.boxes[chosen]
        moved = crop.move(whole)
        seen = masks_to_boxes(np.asarray(covers >= 128))
        low, high = np.array(crop.box[:2]), np.array(crop.box[2:])
        cut = np.any((whole[:, :2] < low) | (whole[:, 2:] > high), axis=1, keepdims=True)
        return np.where(cut, seen, moved).astype(np.float32) * self._stride


def _window(
    labelled: LabelledImage,
    cells: int,
    random: np.random.Generator,
    scale: tuple[float, float],
    law: ScaleLaw,
    closer: CloserLook | None,
) -> Crop:
    """Around an object, or that of a closer look at it."""
    hw = labelled.image.shape[:2]
    if not len(labelled.boxes):
        return choose_crop(hw, cells, scale, random, law=law)
    box = labelled.boxes[int(random.integers(len(labelled.boxes)))]
    if closer is None:
        return choose_crop(hw, cells, scale, random, law=law, around=_middle(box))
    return close_crop(hw, cells, box, closer.context, random)


def _middle(box: npt.NDArray[np.float32]) -> tuple[float, float]:
    x0, y0, x1, y1 = box
    return float(x0 + x1) / 2, float(y0 + y1) / 2


def _shuffled(boxes: Boxes, random: np.random.Generator, size_bias: float) -> list[int]:
    """The objects in an order drawn without replacement, by box area to the `size_bias`."""
    areas = box_area(boxes)
    waits = random.exponential(size=len(areas)) / np.maximum(areas, 1) ** size_bias
    return [int(index) for index in np.argsort(waits)]


def _covers(
    labelled: LabelledImage,
    crop: Crop,
    order: list[int],
    cells: int,
    num_masks: int,
    least: float,
) -> tuple[list[int], Pixels]:
    """Of the masks in `order` those that cover enough: which, and how much of each cell."""
    chosen: list[int] = []
    covers: list[Pixels] = []
    for index in order:
        whole = rle.decode(labelled.masks[index]).view(np.uint8) * np.uint8(255)
        cover = _cover(crop, whole, cells, outside=0)
        # Of an object that covers no cell by half, no mask could be right.
        if cover.sum() >= least and cover.max() >= 128:
            chosen.append(index)
            covers.append(cover)
        if len(chosen) == num_masks:
            break
    return chosen, np.stack(covers) if covers else np.zeros((0, cells, cells), dtype=np.uint8)


def _around(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(2 N, 2) two opposite corners of each box, in any order -> (N, 4) xyxy."""
    ends = corners.reshape(-1, 2, 2)
    return np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)


def _cover(crop: Crop, whole: Pixels, cells: int, *, outside: int) -> Pixels:
    """How much of each cell `whole`, 255 where something is, covers, up to 255."""
    square = Image.new("L", (cells, cells), outside)
    crop.paste(Image.fromarray(whole), square, Image.Resampling.BOX)
    return np.asarray(square)


def _background(
    labelled: LabelledImage, crop: Crop, cells: int, count: int, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """(count, 2) positions (x, y), in cells, where no object is; none if objects are everywhere."""
    nowhere = np.zeros((0, 2), dtype=np.float32)
    if not count:
        return nowhere
    places = np.flatnonzero(_cover(crop, labelled.covered, cells, outside=255) == 0)
    if not len(places):
        return nowhere
    flat = random.choice(places, size=count)
    cell = np.stack([flat % cells, flat // cells], axis=1) + random.random((count, 2))
    return cell.astype(np.float32)


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
