"""Crops: pixels and masks stay together through every scale, turn and border."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine import rle
from engine.model.closer_look import CloserLook
from engine.training.augment import choose_crop, recolour, turn
from engine.training.samples import CropSource, LabelledImage, Sample, shrink

SIDE, STRIDE = 64, 2


class Painted:
    """White objects on black, so that pixels tell which masks are due."""

    def __init__(self, hw: tuple[int, int]) -> None:
        self.hw = hw

    def __len__(self) -> int:
        return 1

    def load(self, _: int) -> LabelledImage:
        image = np.zeros((*self.hw, 3), dtype=np.uint8)
        masks = np.zeros((2, *self.hw), dtype=bool)
        height, width = self.hw
        masks[0, height // 8 : height // 2, width // 8 : width // 2] = True
        masks[1, height // 2 + 4 : height - 4, width // 2 + 4 : width - 4] = True
        image[masks[0]] = 255
        image[masks[1]] = 255
        return LabelledImage(image=image, masks=rle.encode(masks))


def sample(hw: tuple[int, int], seed: int, **changes: object) -> Sample:
    options: dict = {"scale": (0.8, 2.0), "num_masks": 4, "num_background": 3, "min_area": 5}
    return CropSource(Painted(hw), SIDE, STRIDE).sample(
        0, np.random.default_rng(seed), **{**options, **changes}
    )


@pytest.fixture
def without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.training.samples.recolour", lambda image, _: image)


@pytest.mark.parametrize("hw", [(64, 64), (40, 200), (300, 90), (500, 640)])
@pytest.mark.usefixtures("without_colours")
def test_masks_cover_the_pixels_of_their_objects(hw: tuple[int, int]) -> None:
    for seed in range(12):
        made = sample(hw, seed)
        assert made.image.shape == (SIDE, SIDE, 3)
        white = made.image[..., 0].reshape(SIDE // STRIDE, STRIDE, -1, STRIDE).mean(axis=(1, 3))
        covered = made.targets.sum(axis=0)
        assert np.abs(np.where(white == 127, 0, white / 255) - covered).mean() < 0.06
        for x, y in made.background:
            assert not covered[int(y) // STRIDE, int(x) // STRIDE]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_hold_what_is_seen_of_their_objects(seed: int) -> None:
    made = sample((500, 640), seed)
    for target, (x0, y0, x1, y1) in zip(made.targets, made.boxes, strict=True):
        rows, columns = np.nonzero(target >= 0.5)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * STRIDE
        assert np.abs(seen - (x0, y0, x1, y1)).max() <= STRIDE


@pytest.mark.usefixtures("without_colours")
def test_what_lies_outside_the_image_is_grey_and_never_background() -> None:
    made = sample((64, 16), 0, scale=(1.0, 1.0))
    grey = (made.image == 127).all(axis=2)
    assert grey.mean() == pytest.approx(0.75, abs=0.02)
    for x, y in made.background:
        assert not grey[int(y), int(x)]


def test_an_image_that_may_lack_masks_teaches_no_background() -> None:
    class Reviewed(Painted):
        def load(self, index: int) -> LabelledImage:
            return replace(super().load(index), complete=False)

    source = CropSource(Reviewed((64, 64)), SIDE, STRIDE)
    options = {"scale": (1.0, 1.0), "num_masks": 4, "num_background": 3, "min_area": 5}
    made = source.sample(0, np.random.default_rng(0), **options)
    assert len(made.background) == 0
    assert len(made.targets) == 2


def test_the_same_seed_gives_the_same_sample() -> None:
    a, b, c = sample((90, 120), 1), sample((90, 120), 1), sample((90, 120), 2)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.targets, b.targets)
    assert not np.array_equal(a.image, c.image)


def test_at_most_as_many_masks_as_asked_and_none_too_small() -> None:
    for seed in range(10):
        assert len(sample((64, 64), seed, num_masks=1).targets) <= 1
        assert len(sample((64, 64), seed, min_area=100_000).targets) == 0


def test_what_covers_most_of_the_image_may_be_left_out() -> None:
    class Covered(Painted):
        def load(self, index: int) -> LabelledImage:
            found = super().load(index)
            everything = rle.encode(np.ones((1, *self.hw), dtype=bool))
            return replace(found, masks=[*everything, *found.masks])

    source = CropSource(Covered((64, 64)), SIDE, STRIDE)
    options: dict = {"scale": (1.0, 1.0), "num_masks": 4, "num_background": 0, "min_area": 5}
    for max_cover, count in ((1.0, 3), (0.9, 2)):
        made = source.sample(0, np.random.default_rng(0), max_cover=max_cover, **options)
        assert len(made.targets) == count


def test_without_augmentation_an_image_of_the_frame_s_size_is_itself() -> None:
    made = sample((64, 64), 3, scale=(1.0, 1.0), augment=False)
    assert np.array_equal(made.image, Painted((64, 64)).load(0).image)
    assert sorted(made.boxes.tolist()) == [[8, 8, 32, 32], [36, 36, 60, 60]]


def test_a_large_image_is_kept_small() -> None:
    big = Painted((400, 1000)).load(0)
    small = shrink(big, 100)
    assert small.image.shape == (40, 100, 3)
    for before, after in zip(big.masks, small.masks, strict=True):
        assert rle.area(after) == pytest.approx(rle.area(before) / 100, rel=0.1)


def test_a_crop_shows_an_object_however_lonely() -> None:
    class Lonely(Painted):
        def load(self, _: int) -> LabelledImage:
            mask = np.zeros((1, *self.hw), dtype=bool)
            mask[0, 10:30, 350:380] = True
            return LabelledImage(image=np.zeros((*self.hw, 3), np.uint8), masks=rle.encode(mask))

    source = CropSource(Lonely((400, 400)), SIDE, STRIDE)
    options = {"scale": (2.0, 2.0), "num_masks": 4, "num_background": 0, "min_area": 1}
    for seed in range(20):
        assert len(source.sample(0, np.random.default_rng(seed), **options).targets) == 1


def test_a_closer_look_shows_one_object_in_its_frame() -> None:
    class Two(Painted):
        def load(self, _: int) -> LabelledImage:
            masks = np.zeros((2, *self.hw), dtype=bool)
            masks[0, 0:20, 380:400] = True
            masks[1, 200:230, 100:120] = True
            image = np.repeat(masks.any(axis=0)[..., None], 3, axis=2).astype(np.uint8) * 255
            return LabelledImage(image=image, masks=rle.encode(masks))

    source = CropSource(Two((300, 400)), SIDE, STRIDE)
    closer = CloserLook(max_area=500, side=32, context=3.0)
    options = {"scale": (1.0, 1.0), "num_masks": 4, "num_background": 2, "min_area": 1}
    shares = []
    for seed in range(40):
        made = source.sample(0, np.random.default_rng(seed), closer=closer, **options)
        assert made.image.shape == (32, 32, 3)
        [target] = made.targets
        assert target.shape == (16, 16)
        assert (made.background < 32).all()
        [[x0, y0, x1, y1]] = made.boxes
        shares.append(max(x1 - x0, y1 - y0) / 32)
    assert 1 / 4.6 < min(shares) < 1 / 3.5
    assert 1 / 2.5 < max(shares) < 1 / 1.9


@pytest.mark.parametrize("hw", [(500, 640), (20, 200)])
@pytest.mark.usefixtures("without_colours")
def test_masks_cover_the_pixels_of_their_objects_also_close(hw: tuple[int, int]) -> None:
    closer = CloserLook(max_area=500, side=SIDE)
    for seed in range(12):
        made = sample(hw, seed, closer=closer)
        white = made.image[..., 0].reshape(SIDE // STRIDE, STRIDE, -1, STRIDE).mean(axis=(1, 3))
        covered = made.targets.sum(axis=0)
        assert np.abs(np.where(white == 127, 0, white / 255) - covered).mean() < 0.06


def test_turns_take_pixels_masks_and_points_along() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[2, 6, 0] = 200
    masks = (image[..., 0] > 0)[None].astype(np.float32)
    seen = set()
    for seed in range(40):
        points = np.array([[6.5, 2.5]], dtype=np.float32)
        random = np.random.default_rng(seed)
        turned, moved, places = turn(Image.fromarray(image), masks, points, random)
        (x, y), (row, column) = places[0], np.argwhere(moved[0])[0]
        assert (int(y), int(x)) == (row, column)
        assert turned.getpixel((int(column), int(row))) == (200, 0, 0)
        seen.add((int(row), int(column)))
    assert len(seen) == 8, "all symmetries of the square"


def test_a_crop_stays_inside_the_image_and_the_frame() -> None:
    for seed in range(50):
        random = np.random.default_rng(seed)
        hw = tuple(int(v) for v in random.integers(1, 300, 2))
        place = float(random.uniform(0, hw[1])), float(random.uniform(0, hw[0]))
        crop = choose_crop(hw, SIDE, (0.5, 3.0), random, around=place if seed % 2 else None)
        x0, y0, x1, y1 = crop.box
        if seed % 2:
            assert x0 <= place[0] <= x1
            assert y0 <= place[1] <= y1
        assert 0 <= x0 < x1 <= hw[1] + 1e-6
        assert 0 <= y0 < y1 <= hw[0] + 1e-6
        assert 0 <= crop.left < crop.right <= SIDE
        assert 0 <= crop.top < crop.bottom <= SIDE


def test_colours_change_and_the_size_does_not() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    made = [recolour(Image.fromarray(pixels), np.random.default_rng(seed)) for seed in range(30)]
    assert {(image.mode, image.size) for image in made} == {("RGB", (24, 16))}
    assert len({image.tobytes() for image in made}) > 25


def test_noise_is_normal_about_the_colour() -> None:
    grey = Image.new("RGB", (256, 256), (100, 100, 100))
    spreads = []
    for seed in range(60):
        values = np.asarray(recolour(grey, np.random.default_rng(seed)), dtype=np.float64)
        # Without noise one colour stays one colour.
        if values[..., 0].std() and values.min() > 0 and values.max() < 255:
            spreads.append(values.std())
            assert abs(np.median(values) - values.mean()) < 0.7
            within = np.abs(values - values.mean()) < values.std()
            assert 0.6 < within.mean() < 0.76, "two thirds lie within one standard deviation"
    assert len(spreads) > 3
    assert 2 < min(spreads) < max(spreads) < 16
