"""Small objects are seen closer: where, from what, and how the answers fit into the image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import binary_dilation

from engine.geometry import Frame, Mask
from engine.model.closer_look import CloserLook
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import Answer, InteractivePredictor, Look
from engine.model.predictor import Prediction, Predictor
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model

SIDE, STRIDE = 256, 4
HW = (400, 500)


@dataclass
class BrightModel:
    """A stand-in for a `Predictor`: a mask is all that is bright in what it sees.

    Of three answers the first is that, the others are grown by 1 and 30 cells; the first is
    expected to be best.
    """

    closer_look: CloserLook | None
    embedded: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    asked: list[Prompts] = field(default_factory=list)

    def embed(self, pixels: npt.NDArray[np.uint8], *, side: int = SIDE) -> ImageEmbedding:
        hw = (pixels.shape[0], pixels.shape[1])
        self.embedded.append((hw, side))
        frame = Frame(original_hw=hw, side=side)
        cells = side // STRIDE
        seen = torch.zeros(1, cells, cells)
        for row in range(cells):
            for column in range(cells):
                x, y = ((at + 0.5) * STRIDE / frame.scale for at in (column, row))
                if x < hw[1] and y < hw[0]:
                    seen[0, row, column] = float(pixels[int(y), int(x), 0])
        return ImageEmbedding(features=seen, skips=None, frame=frame, encoder_id="bright")

    def embed_each(
        self, images: Sequence[npt.NDArray[np.uint8]], *, side: int
    ) -> list[ImageEmbedding]:
        return [self.embed(pixels, side=side) for pixels in images]

    def predict_each(
        self, embeddings: Sequence[ImageEmbedding], prompts: Sequence[Prompts], *, multimask: bool
    ) -> list[Prediction]:
        pairs = zip(embeddings, prompts, strict=True)
        return [self.predict(*pair, multimask=multimask) for pair in pairs]

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool
    ) -> Prediction:
        self.asked.append(prompts)
        bright = (embedding.features[0] > 127).numpy()
        shapes = [bright]
        if multimask:
            shapes += [binary_dilation(bright, iterations=count) for count in (1, 30)]
        one = torch.stack([torch.from_numpy(np.where(shape, 6.0, -6.0)) for shape in shapes])
        logits = one.float()[None].repeat(len(prompts), 1, 1, 1)
        iou = torch.tensor([[0.9, 0.6, 0.3][: len(shapes)]] * len(prompts))
        return Prediction(logits, iou, embedding.frame)

    def logits_hw(self, frame: Frame) -> tuple[int, int]:
        return frame.side // STRIDE, frame.side // STRIDE


def scene(x0: int, y0: int, x1: int, y1: int) -> tuple[npt.NDArray[np.uint8], Mask]:
    mask = np.zeros(HW, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=2), mask


def on(model: BrightModel, pixels: npt.NDArray[np.uint8]) -> InteractivePredictor:
    predictor: Any = model
    return InteractivePredictor.on(predictor, pixels, model.embed(pixels))


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


CLOSER = CloserLook(max_area=1500, side=128, context=3.0, min_side=40)
MIDDLE = Prompts.single_points([[308.0, 208.0]])


def test_a_small_object_is_seen_in_a_window_around_it() -> None:
    pixels, truth = scene(300, 200, 317, 215)
    model = BrightModel(CLOSER)
    [[best, grown, largest]] = on(model, pixels).first(MIDDLE, multimask=True)
    [_, (window_hw, side)] = model.embedded
    assert side == 128
    assert 45 <= window_hw[0] == window_hw[1] <= 75
    assert best.look.window == grown.look.window
    assert largest.look.is_whole, "in the window it would be cut"
    [[coarse, *_]] = on(BrightModel(None), pixels).first(MIDDLE, multimask=True)
    assert iou(coarse.mask(), truth) < iou(best.mask(), truth) > 0.8


def test_the_closer_look_starts_from_the_first_answer() -> None:
    pixels, _ = scene(300, 200, 317, 215)
    model = BrightModel(CLOSER)
    [[best, *_]] = on(model, pixels).first(MIDDLE, multimask=True)
    x0, y0, _, _ = best.look.window
    asked = model.asked[-1]
    assert asked.points is not None
    assert asked.points[:, 0].tolist() == [[308.0 - x0, 208.0 - y0]] * 3
    assert asked.mask_logits is not None
    start = Answer(logits=torch.from_numpy(asked.mask_logits[0]), iou=0.0, look=best.look)
    [[coarse, *_]] = on(BrightModel(None), pixels).first(MIDDLE, multimask=True)
    assert iou(start.mask(), coarse.mask()) > 0.9


@pytest.mark.parametrize("corner", [(0, 0), (483, 0), (0, 385), (483, 385)])
def test_an_object_at_the_edge_is_seen_closer_as_well(corner: tuple[int, int]) -> None:
    x, y = corner
    pixels, truth = scene(x, y, x + 17, y + 15)
    click = Prompts.single_points([[x + 8.0, y + 7.0]])
    [[best, *_]] = on(BrightModel(CLOSER), pixels).first(click, multimask=True)
    assert not best.look.is_whole
    assert iou(best.mask(), truth) > 0.8


def test_a_large_object_is_not_looked_at_again() -> None:
    pixels, _ = scene(100, 100, 300, 300)
    model = BrightModel(CLOSER)
    [[best, *_]] = on(model, pixels).first(Prompts.single_points([[200, 200]]), multimask=True)
    assert best.look.is_whole
    assert len(model.embedded) == 1


def test_the_next_click_is_answered_in_the_same_window() -> None:
    pixels, _ = scene(300, 200, 317, 215)
    model = BrightModel(CLOSER)
    clicks = on(model, pixels)
    [[best, *_]] = clicks.first(MIDDLE, multimask=True)
    two = Prompts.clicks([(308.0, 208.0), (314.0, 212.0)], [1, 0])
    [[again]] = clicks.again(two, [best])
    assert again.look is best.look
    assert len(model.embedded) == 2
    assert model.asked[-1].mask_logits is not None
    np.testing.assert_array_equal(model.asked[-1].mask_logits[0], best.logits.numpy())


def test_a_click_beyond_the_window_widens_it() -> None:
    pixels, _ = scene(300, 200, 317, 215)
    model = BrightModel(CLOSER)
    clicks = on(model, pixels)
    [[best, *_]] = clicks.first(MIDDLE, multimask=True)
    [[wider]] = clicks.again(Prompts.clicks([(308.0, 208.0), (390.0, 208.0)], [1, 1]), [best])
    assert wider.look.holds(np.array([300, 200, 390, 215], dtype=np.float32))
    assert not wider.look.is_whole
    [[whole]] = clicks.again(Prompts.clicks([(308.0, 208.0), (20.0, 20.0)], [1, 1]), [best])
    assert whole.look.is_whole or whole.look.holds(whole.box), "a window so wide is the image"


def test_prompts_of_several_windows_are_answered_each_in_its_own() -> None:
    pixels, truth = scene(300, 200, 317, 215)
    pixels[40:52, 60:72] = 255
    model = BrightModel(CLOSER)
    clicks = on(model, pixels)
    window = (290, 190, 330, 230)
    near = clicks.answered(np.zeros((32, 32), dtype=np.float32), window)
    far = clicks.answered(np.zeros((32, 32), dtype=np.float32), (50, 30, 90, 70))
    points = np.array([[[65.0, 45.0]], [[308.0, 208.0]]], dtype=np.float32)
    prompts = Prompts(points=points, labels=np.ones((2, 1), dtype=np.int64))
    [[first], [second]] = clicks.again(prompts, [far, near])
    assert first.look.window == (50, 30, 90, 70)
    assert second.look.window == window
    assert iou(second.mask(), truth) > 0.8


@pytest.mark.parametrize(
    ("window", "closer", "message"),
    [
        pytest.param((0, 0, 501, 10), CLOSER, "in the image, 500 x 400", id="beyond the image"),
        pytest.param((9, 9, 9, 20), CLOSER, "in the image", id="empty"),
        pytest.param((0, 0, 50, 50), None, "whole images only", id="a model that takes none"),
    ],
)
def test_windows_that_make_no_sense(
    window: tuple[int, int, int, int], closer: CloserLook | None, message: str
) -> None:
    clicks = on(BrightModel(closer), scene(300, 200, 317, 215)[0])
    with pytest.raises(ValueError, match=f"window: must be .*{message}"):
        clicks.look(window)


def test_logits_of_another_size_are_refused() -> None:
    clicks = on(BrightModel(CLOSER), scene(300, 200, 317, 215)[0])
    with pytest.raises(ValueError, match=r"mask_logits: must have shape \(32, 32\)"):
        clicks.answered(np.zeros((64, 64), dtype=np.float32), (0, 0, 50, 50))


def test_logits_keep_their_place_from_look_to_look() -> None:
    model = BrightModel(CLOSER)
    pixels, truth = scene(300, 200, 360, 240)
    whole = Look.whole(model.embed(pixels))
    window = (280, 180, 380, 260)
    closer = Look(window, HW, model.embed(pixels[180:260, 280:380], side=128))
    logits = torch.where(closer.embedding.features[0] > 127, 6.0, -6.0)
    there = Answer(logits=logits, iou=0.9, look=closer)
    assert iou(there.mask(), truth) > 0.8
    back = Answer(logits=there.seen_in(whole), iou=0.9, look=whole)
    assert iou(back.mask(), truth) > 0.8
    assert there.seen_in(closer) is logits
    np.testing.assert_allclose(there.box, [300, 200, 360, 240], atol=4)
    np.testing.assert_allclose(back.box, [300, 200, 360, 240], atol=10)


def test_nano_sees_windows_in_a_smaller_frame() -> None:
    predictor = Predictor(build_model(ModelConfig(), seed=0), version="x")
    assert predictor.closer_look is not None
    pixels = np.random.default_rng(0).integers(0, 255, (300, 420, 3), dtype=np.uint8)
    clicks = InteractivePredictor.on(predictor, pixels, predictor.embed(pixels))
    answer = clicks.answered(np.zeros((64, 64), dtype=np.float32), (100, 80, 180, 160))
    assert answer.look.embedding.features.shape[1:] == (16, 16)
    [[again]] = clicks.again(Prompts.single_points([[140.0, 120.0]]), [answer])
    assert again.logits.shape == (64, 64)
    assert again.mask().shape == (300, 420)
    rows, columns = np.nonzero(again.mask())
    assert all(80 <= row < 160 for row in rows)
    assert all(100 <= column < 180 for column in columns)
