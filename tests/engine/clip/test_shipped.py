"""The CLIP that ships: it is what its card says, small, and names what it never saw together."""

import numpy as np

from engine import rle
from engine.clip.card import read_card
from engine.clip.classes import ClassPrompts, classifier
from engine.clip.config import NANO
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.weights import open_clip, shipped
from engine.drawing.captions import CaptionStyle, draw_captioned
from engine.drawing.phrases import KIND_NAMES

MEGABYTE = 2**20
# Neither of the trainings' nor of the benchmarks'.
FIRST, NUM_SCENES = 1_450_000, 12


def test_it_is_small_and_its_card_is_its_own() -> None:
    card = read_card(shipped())
    assert card.config.architecture == NANO
    assert shipped().stat().st_size < 5 * MEGABYTE
    assert {score.data for score in card.scores} >= {"drawn scenes, unseen combinations"}
    assert "engine.drawing" in card.trained_on[0].name


def test_it_names_kinds_in_combinations_that_it_never_saw() -> None:
    encoder = MaskEncoder(open_clip(NANO))
    classes = classifier(encoder.clip, ClassPrompts.parse(KIND_NAMES))
    right: list[bool] = []
    for number in range(FIRST, FIRST + NUM_SCENES):
        scene = draw_captioned(number, CaptionStyle(), "unseen")
        masks = [rle.encode_one(scene.masks[subject]) for subject in scene.subjects]
        said = (encoder.vectors(scene.image, masks).astype(np.float32) @ classes.T).argmax(axis=1)
        for subject, name in zip(scene.subjects, said, strict=True):
            right.append(KIND_NAMES[name] == scene.things[subject].kind)
    assert np.mean(right) > 0.7, "chance is 1 in 14"
