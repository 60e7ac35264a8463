"""Images and prompts in pixels of the original in, masks of the original's size out."""

import numpy as np
import pytest
import torch

from engine.drawing.scenes import SceneStyle, draw_scene
from engine.geometry import Frame
from engine.model import weights
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor, to_frame, upscale_logits
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model
from engine.training.clicks import next_click


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(build_model(ModelConfig(architecture="nano_tiny"), seed=0), version="v1")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("hw", [(64, 64), (300, 120), (1, 1), (90, 400), (128, 127)])
def test_masks_have_the_size_of_the_image(predictor: Predictor, hw: tuple[int, int]) -> None:
    embedding = predictor.embed(picture(*hw))
    prediction = predictor.predict(
        embedding, Prompts.single_points([[0.5, 0.5], [hw[1] - 0.5, hw[0] - 0.5]]), multimask=True
    )
    assert prediction.masks().shape == (2, 3, *hw)
    assert prediction.best().shape == (2,)
    assert bool(((prediction.iou >= 0) & (prediction.iou <= 1)).all())


def test_one_mask_without_multimask(predictor: Predictor) -> None:
    embedding = predictor.embed(picture(50, 60))
    prompts = Prompts(boxes=np.array([[5, 5, 30, 40]], dtype=np.float32))
    assert predictor.predict(embedding, prompts, multimask=False).masks().shape == (1, 1, 50, 60)


def test_a_batch_gives_what_each_prompt_gives_alone(predictor: Predictor) -> None:
    embedding = predictor.embed(picture(80, 100))
    prompts = Prompts.single_points(np.random.default_rng(1).uniform(0, 80, (9, 2)))
    together = predictor.predict(embedding, prompts, multimask=True)
    for row in range(len(prompts)):
        alone = predictor.predict(embedding, prompts[row : row + 1], multimask=True)
        torch.testing.assert_close(alone.logits[0], together.logits[row], atol=1e-4, rtol=1e-4)


def test_in_bfloat16_it_gives_nearly_the_same(predictor: Predictor) -> None:
    other = predictor.computing_in("bfloat16")
    pixels, prompts = picture(80, 100), Prompts.single_points([[20.0, 30.0], [70.0, 50.0]])
    embedding = predictor.embed(pixels)
    exact = predictor.predict(embedding, prompts, multimask=True)
    near = other.predict(other.embed(pixels), prompts, multimask=True)
    assert near.logits.dtype == near.iou.dtype == torch.float32
    assert not torch.equal(near.logits, exact.logits)
    torch.testing.assert_close(near.logits, exact.logits, atol=0.05, rtol=0.05)
    torch.testing.assert_close(near.iou, exact.iou, atol=0.01, rtol=0.01)
    likely = other.candidates(embedding, prompts, min_iou=-1.0)
    torch.testing.assert_close(
        likely.logits.float(), exact.logits.flatten(0, 1), atol=0.05, rtol=0.05
    )
    # The one that it was made from computes as before.
    assert torch.equal(predictor.predict(embedding, prompts, multimask=True).iou, exact.iou)


@pytest.mark.parametrize("architecture", ["nano_tiny", "nano"])
def test_images_together_give_what_each_gives_alone(architecture: str) -> None:
    predictor = Predictor(build_model(ModelConfig(architecture=architecture), seed=0), version="v1")
    random = np.random.default_rng(2)
    images = [picture(*hw) for hw in random.integers(20, 90, (11, 2))]
    embeddings = predictor.embed_each(images, side=128)
    hw = predictor.logits_hw(embeddings[0].frame)
    prompts = [
        Prompts(
            points=random.uniform(0, 20, (count, 2, 2)).astype(np.float32),
            labels=np.ones((count, 2), dtype=np.int64),
            mask_logits=random.normal(0, 3, (count, *hw)).astype(np.float32)
            if number % 3
            else None,
        )
        for number, count in enumerate(random.integers(1, 4, len(images)))
    ]
    together = predictor.predict_each(embeddings, prompts, multimask=True)
    for pixels, own, found in zip(images, prompts, together, strict=True):
        embedding = predictor.embed(pixels, side=128)
        alone = predictor.predict(embedding, own, multimask=True)
        assert alone.frame == found.frame
        torch.testing.assert_close(alone.logits, found.logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(alone.iou, found.iou, atol=1e-4, rtol=1e-4)
    assert predictor.predict_each([], [], multimask=True) == []


def test_prompts_that_are_not_alike_are_not_asked_together(predictor: Predictor) -> None:
    embedding = predictor.embed(picture(50, 60))
    one = Prompts.single_points([[3.0, 3.0]])
    two = Prompts.clicks([(3.0, 3.0), (4.0, 4.0)], [1, 1])
    with pytest.raises(ValueError, match="prompts: must be alike to be asked together"):
        predictor.predict_each([embedding, embedding], [one, two], multimask=True)


def test_an_embedding_survives_bytes(predictor: Predictor) -> None:
    embedding = predictor.embed(picture(80, 100))
    again = ImageEmbedding.from_bytes(embedding.to_bytes())
    assert (again.encoder_id, again.frame) == (embedding.encoder_id, embedding.frame)
    prompts = Prompts.single_points([[40.0, 40.0]])
    a = predictor.predict(embedding, prompts, multimask=True).logits
    b = predictor.predict(again, prompts, multimask=True).logits
    torch.testing.assert_close(a, b, atol=0.02, rtol=0.01)


def test_what_is_new_can_be_made_what_is_kept(predictor: Predictor) -> None:
    embedding = predictor.embed(picture(80, 100))
    kept = ImageEmbedding.from_bytes(embedding.to_bytes())
    made = embedding.as_kept()
    assert made.skips is not None
    assert kept.skips is not None
    pairs = [(made.features, kept.features), *zip(made.skips, kept.skips, strict=True)]
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs)
    assert made.to_bytes() == embedding.to_bytes()
    assert not torch.equal(made.features, embedding.features)


def test_an_embedding_of_another_encoder_is_refused(predictor: Predictor) -> None:
    other = Predictor(build_model(ModelConfig(architecture="nano_tiny"), seed=1), version="v2")
    with pytest.raises(ValueError, match=f"must be of encoder {predictor.encoder_id}"):
        predictor.predict(
            other.embed(picture(20, 20)), Prompts.single_points([[1.0, 1.0]]), multimask=True
        )


def test_logits_of_an_answer_can_be_given_back(predictor: Predictor) -> None:
    embedding = predictor.embed(picture(64, 64))
    first = predictor.predict(embedding, Prompts.clicks([(30, 30)], [1]), multimask=True)
    again = Prompts.clicks([(30, 30), (5, 5)], [1, 0], first.logits[0, 0].numpy())
    assert predictor.predict(embedding, again, multimask=False).logits.isfinite().all()
    wrong = Prompts.clicks([(30, 30)], [1], np.zeros((8, 8), dtype=np.float32))
    with pytest.raises(ValueError, match="mask_logits: must have shape"):
        predictor.predict(embedding, wrong, multimask=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "must have points, boxes or text"),
        ({"points": np.zeros((1, 1, 2), "f4")}, "must come together"),
        ({"points": np.zeros((1, 1, 2), "f4"), "labels": np.array([[7]])}, "must be -1, 0 or 1"),
        ({"boxes": np.zeros((1, 3), "f4")}, "boxes: must have shape"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(
    values: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Prompts(**values)


def test_pixels_of_another_kind_are_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="must be"):
        predictor.embed(np.zeros((4, 4), dtype=np.uint8))


def test_a_blob_of_logits_lands_where_it_was_in_the_image() -> None:
    frame = Frame(original_hw=(100, 200), side=128)
    logits = torch.full((1, 64, 64), -4.0)
    # The picture fills the upper half of the frame; its middle is (32, 16) in cells of two pixels.
    logits[0, 14:18, 30:34] = 4.0
    rows, columns = np.nonzero(upscale_logits(logits, frame)[0].numpy() > 0)
    assert abs(rows.mean() - 49.5) < 1
    assert abs(columns.mean() - 99.5) < 1


def test_the_frame_keeps_flat_colours() -> None:
    frame = Frame(original_hw=(30, 60), side=128)
    small = to_frame(np.full((30, 60, 3), 77, dtype=np.uint8), frame)
    assert small.shape == (1, 3, 64, 128)
    assert bool((small == 77).all())


def test_the_shipped_model_finds_what_is_clicked() -> None:
    model, _ = weights.load(weights.shipped())
    predictor = Predictor(model, version="shipped")
    ious = []
    for seed in range(4):
        scene = draw_scene(seed, SceneStyle.shapes())
        embedding = predictor.embed(scene.image)
        for mask in scene.masks[:4]:
            x, y, _ = next_click(mask)
            found = predictor.predict(embedding, Prompts.clicks([(x, y)], [1]), multimask=True)
            best = found.masks()[0, found.best()[0]]
            ious.append((best & mask).sum() / (best | mask).sum())
    assert np.mean(ious) > 0.5
