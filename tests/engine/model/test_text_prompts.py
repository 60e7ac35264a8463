"""Text prompts: an add-on beside a model that stays as it is, and refuses what it does not know."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import rle
from engine.clip.config import ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.drawing.captions import CaptionStyle, draw_captioned
from engine.drawing.wording import VOCABULARY_TEXTS
from engine.generation.by_text import ByTextConfig, TextMask, all_by_candidates, all_by_map
from engine.model.integrity import WeightsError
from engine.model.predictor import Predictor
from engine.model.prompt_encoder import PADDING, POSITIVE, PromptTensors
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.model.text.prompted import TextPrompted
from engine.model.text.reader import TextReader
from engine.model.text.weights import load_text, text_card, text_to_bytes, write_text

TINY = ModelConfig(architecture="nano_tiny")


def new_clip(seed: int = 0) -> Clip:
    return Clip.new(ClipConfig(tokens=tokens_of(VOCABULARY_TEXTS)), seed=seed)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return new_clip()


@pytest.fixture(scope="module")
def model() -> PromptableSam:
    return build_model(TINY, seed=0)


@pytest.fixture(scope="module")
def plain(model: PromptableSam) -> Predictor:
    return Predictor(model, version="tiny")


@pytest.fixture(scope="module")
def reading(model: PromptableSam, plain: Predictor, clip: Clip) -> Predictor:
    torch.manual_seed(0)
    reader = TextReader(TextPrompted(model, clip.dim), clip, encoder_id=plain.encoder_id)
    return plain.reading(reader)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return draw_captioned(0, CaptionStyle(hw=(128, 160))).image


def saved(folder: Path, model: PromptableSam, clip: Clip) -> Path:
    path = folder / "text.safetensors"
    data = text_to_bytes(TextPrompted(model, clip.dim), dtype=torch.float32)
    write_text(path, data, text_card(data, model, clip, trained_on=()))
    return path


class TestPrompts:
    def test_one_text_is_for_all_points(self) -> None:
        prompts = Prompts(
            points=np.zeros((3, 1, 2), np.float32), labels=np.ones((3, 1), np.int64), text="a star"
        )
        assert prompts.texts == ("a star",) * 3
        assert len(Prompts(text="a star")) == 1
        assert Prompts(text=("a", "b", "c"))[1:].texts == ("b", "c")

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            pytest.param({}, "points, boxes or text", id="nothing"),
            pytest.param({"text": " "}, "must say something", id="an empty text"),
            pytest.param(
                {"text": ("a", "b"), "boxes": np.zeros((3, 4), np.float32)},
                "text: must be 1 or 3, but got 2",
                id="too few texts",
            ),
        ],
    )
    def test_prompts_refuse(self, values: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Prompts(**values)  # type: ignore[arg-type] # wrong on purpose


class TestPredictor:
    def test_clicks_are_answered_bit_for_bit_as_without_the_add_on(
        self, plain: Predictor, reading: Predictor, image: np.ndarray
    ) -> None:
        prompts = Prompts.single_points([[40, 50], [90, 20]])
        embedding = plain.embed(image)
        before = plain.predict(embedding, prompts, multimask=True)
        after = reading.predict(reading.embed(image), prompts, multimask=True)
        assert torch.equal(before.logits, after.logits)
        assert torch.equal(before.iou, after.iou)
        assert after.presence is None

    def test_texts_with_and_without_points(self, reading: Predictor, image: np.ndarray) -> None:
        embedding = reading.embed(image)
        alone = reading.predict(embedding, Prompts(text=("a red star", "a disc")), multimask=False)
        clicked = reading.predict(
            embedding,
            Prompts(
                points=np.full((1, 1, 2), 30, np.float32),
                labels=np.ones((1, 1), np.int64),
                text="a disc",
            ),
            multimask=False,
        )
        assert alone.masks().shape == (2, 1, 128, 160)
        assert alone.presence is not None
        assert alone.presence.shape == (2,)
        assert ((alone.presence >= 0) & (alone.presence <= 1)).all()
        assert clicked.masks().shape == (1, 1, 128, 160)

    def test_several_images_together_answer_as_each_alone(
        self, reading: Predictor, image: np.ndarray
    ) -> None:
        embeddings = [reading.embed(image), reading.embed(image[::-1].copy())]
        prompts = [Prompts(text="a red star"), Prompts(text="a blue ring")]
        together = reading.predict_each(embeddings, prompts, multimask=False)
        for embedding, own, found in zip(embeddings, prompts, together, strict=True):
            alone = reading.predict(embedding, own, multimask=False)
            torch.testing.assert_close(found.logits, alone.logits, rtol=1e-3, atol=1e-3)

    def test_without_an_add_on_a_text_is_refused(self, plain: Predictor, image: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"text: needs an add-on .* Predictor\.reading"):
            plain.predict(plain.embed(image), Prompts(text="a star"), multimask=False)
        assert not plain.reads_text

    def test_an_add_on_of_another_encoder_is_refused(
        self, model: PromptableSam, plain: Predictor, clip: Clip
    ) -> None:
        other = TextReader(TextPrompted(model, clip.dim), clip, encoder_id="0" * 16)
        with pytest.raises(ValueError, match="must be an add-on of encoder"):
            plain.reading(other)


def test_a_text_alone_clicks_on_the_peak_of_its_map(model: PromptableSam, clip: Clip) -> None:
    text = TextPrompted(model, clip.dim)
    similarity = torch.full((2, 32, 32), -5.0)
    similarity[:, 10:13, 20:23] = 5.0
    prompts = PromptTensors(
        points=torch.full((2, 1, 2), 7.0), labels=torch.tensor([[PADDING], [POSITIVE]])
    )
    clicked, height = text.clicked(model, prompts, similarity)
    assert clicked.points[0, 1].tolist() == [21.5 * 8, 11.5 * 8]
    assert clicked.labels.tolist() == [[PADDING, POSITIVE], [POSITIVE, PADDING]]
    assert height.tolist() == [5.0, 5.0]


class TestFiles:
    def test_what_was_saved_answers_alike(
        self, tmp_path: Path, model: PromptableSam, clip: Clip, image: np.ndarray
    ) -> None:
        torch.manual_seed(1)
        text = TextPrompted(model, clip.dim)
        data = text_to_bytes(text, dtype=torch.float32)
        path = tmp_path / "text.safetensors"
        write_text(path, data, text_card(data, model, clip, trained_on=()))
        plain = Predictor(model, version="tiny")
        one = plain.reading(TextReader(text, clip, encoder_id=plain.encoder_id))
        other = plain.reading(load_text(path, model, clip))
        embedding, prompts = plain.embed(image), Prompts(text="a red star")
        first, second = (
            each.predict(embedding, prompts, multimask=False).logits for each in (one, other)
        )
        assert torch.equal(first, second)

    def test_other_models_are_refused(
        self, tmp_path: Path, model: PromptableSam, clip: Clip
    ) -> None:
        path = saved(tmp_path, model, clip)
        with pytest.raises(WeightsError, match=r"encoder_id must be .*, the model's"):
            load_text(path, build_model(TINY, seed=1), clip)
        with pytest.raises(WeightsError, match=r"clip_fingerprint must be .*, the CLIP's"):
            load_text(path, model, new_clip(seed=1))

    def test_missing_and_changed_files_are_refused(
        self, tmp_path: Path, model: PromptableSam, clip: Clip
    ) -> None:
        with pytest.raises(WeightsError, match="no such file; train"):
            load_text(tmp_path / "none.safetensors", model, clip)
        path = saved(tmp_path, model, clip)
        card = path.with_suffix(".json")
        values = json.loads(card.read_text())
        card.write_text(json.dumps({**values, "format": "another"}))
        with pytest.raises(WeightsError, match="not a card of text prompts"):
            load_text(path, model, clip)
        card.write_text(json.dumps(values))
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(WeightsError, match="SHA-256"):
            load_text(path, model, clip)


class TestAll:
    def test_a_map_gives_masks_in_order_of_their_scores(
        self, reading: Predictor, image: np.ndarray
    ) -> None:
        config = ByTextConfig(peak_threshold=0.0, min_score=0.0, most=5)
        found = all_by_map(reading, reading.embed(image), "a red star", config)
        scores = [mask.score for mask in found]
        assert len(found) <= 5
        assert scores == sorted(scores, reverse=True)

    def test_an_unlikely_map_gives_none(self, reading: Predictor, image: np.ndarray) -> None:
        config = ByTextConfig(peak_threshold=1.0)
        assert all_by_map(reading, reading.embed(image), "a red star", config) == []

    def test_candidates_pass_by_their_likeness(self, clip: Clip) -> None:
        scene = draw_captioned(1, CaptionStyle(hw=(128, 160), num_objects=(4, 6), overlaps=0))
        masks = [
            TextMask(rle=mask, score=1.0, predicted_iou=1.0, point_xy=(0.0, 0.0))
            for mask in rle.encode(scene.masks)
        ]
        every = all_by_candidates(masks, scene.image, "a disc", clip, ByTextConfig(min_cosine=-1))
        scores = [mask.score for mask in every]
        assert len(every) == len(masks)
        assert scores == sorted(scores, reverse=True)
        above = ByTextConfig(min_cosine=(scores[-1] + scores[-2]) / 2)
        some = all_by_candidates(masks, scene.image, "a disc", clip, above)
        assert [mask.score for mask in some] == scores[:-1]
        assert all_by_candidates([], scene.image, "a disc", clip, ByTextConfig()) == []
