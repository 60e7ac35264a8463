"""The text prompts that ship: small, for what ships, and right about what they never saw."""

import numpy as np
import pytest

from engine.clip.config import NANO
from engine.clip.weights import open_clip
from engine.drawing import pairs
from engine.drawing.captions import CaptionStyle, draw_captioned
from engine.model import weights
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.model.text.card import read_text_card
from engine.model.text.weights import load_text, shipped_text

MEGABYTE = 2**20
# Neither of the trainings' nor of the benchmarks'.
FIRST, NUM_SCENES = 1_460_000, 8


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    model, _ = weights.load(weights.shipped())
    return Predictor(model, version="shipped").reading(
        load_text(shipped_text(), model, open_clip(NANO))
    )


def test_they_are_small_and_their_card_says_how_good_they_are() -> None:
    assert shipped_text().stat().st_size < 2 * MEGABYTE
    card = read_text_card(shipped_text())
    assert {score.data for score in card.scores} >= {"unseen combinations"}
    assert "engine.drawing" in card.trained_on[0].name


def test_what_a_text_means_is_found_and_what_is_not_there_is_less_likely(
    predictor: Predictor,
) -> None:
    ious: list[float] = []
    there: list[float] = []
    absent: list[float] = []
    for number in range(FIRST, FIRST + NUM_SCENES):
        random = np.random.default_rng([number, 11])
        scene = draw_captioned(number, CaptionStyle(), "unseen")
        embedding = predictor.embed(scene.image)
        for _ in scene.subjects:
            phrase = pairs.ask(random, scene)
            found = predictor.predict(embedding, Prompts(text=phrase.text), multimask=False)
            mask = found.masks()[0, 0]
            meant = scene.masks[scene.meant(phrase)]
            union = (meant | mask).sum(axis=(1, 2))
            ious.append(float(((meant & mask).sum(axis=(1, 2)) / union).max()))
            missing = Prompts(text=pairs.ask_absent(random, scene).text)
            refused = predictor.predict(embedding, missing, multimask=False)
            assert found.presence is not None
            assert refused.presence is not None
            there.append(float(found.presence[0]))
            absent.append(float(refused.presence[0]))
    assert np.mean(ious) > 0.5
    assert np.mean(there) > np.mean(absent) + 0.2
