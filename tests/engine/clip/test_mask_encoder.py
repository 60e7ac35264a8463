"""Masks as vectors, whatever else is on the image."""

import numpy as np
import pytest

from engine import rle
from engine.clip.config import ClipConfig
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.model import Clip
from engine.clip.views import ViewsConfig
from engine.clip.vocabulary import tokens_of
from engine.rle import Rle


@pytest.fixture(scope="module")
def encoder() -> MaskEncoder:
    return MaskEncoder(Clip.new(ClipConfig(tokens=tokens_of(["a leaf"])), seed=0))


def box(x0: int) -> Rle:
    pixels = np.zeros((60, 80), bool)
    pixels[5:30, x0 : x0 + 9] = True
    return rle.encode_one(pixels)


def test_vectors_do_not_depend_on_company(encoder: MaskEncoder) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    masks = [box(x) for x in range(0, 60, 3)]
    together = encoder.vectors(image, masks)
    alone = np.concatenate([encoder.vectors(image, [mask]) for mask in masks])
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
    wide = MaskEncoder(encoder.clip, ViewsConfig(views=("context",)))
    assert wide.encoder_id != encoder.encoder_id
