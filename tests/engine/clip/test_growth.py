"""A vocabulary that grows keeps all that it knew, bit for bit."""

import numpy as np
import pytest

from engine.clip.config import ClipConfig
from engine.clip.growth import grown, unknown_tokens
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of

KNOWN = ["a red star", "two blue fish"]
NEW = ["a mitotic nucleus", "a red star"]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.new(ClipConfig(tokens=tokens_of(KNOWN)), seed=3)


def test_what_was_known_has_the_same_embeddings(clip: Clip) -> None:
    larger = grown(clip, NEW)
    assert set(larger.config.tokens) == set(tokens_of([*KNOWN, *NEW]))
    np.testing.assert_array_equal(larger.embed_texts(KNOWN), clip.embed_texts(KNOWN))
    # A word that neither of them knows is the same to both.
    unheard = ["a purple whale"]
    np.testing.assert_array_equal(larger.embed_texts(unheard), clip.embed_texts(unheard))
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(larger.embed_images([picture]), clip.embed_images([picture]))
    assert larger.frame == clip.frame


def test_new_words_are_told_apart(clip: Clip) -> None:
    texts = ["a lion", "a whale"]
    assert len(tokens_of(["lion"])) == len(tokens_of(["whale"])) == 1
    before, after = (one.embed_texts(texts) for one in (clip, grown(clip, texts)))
    np.testing.assert_array_equal(before[0], before[1])
    assert not np.allclose(after[0], after[1])


def test_a_new_word_begins_alike_whatever_comes_with_it(clip: Clip) -> None:
    few, many = grown(clip, ["a whale"]), grown(clip, [*NEW, "a whale"])
    np.testing.assert_array_equal(few.embed_texts(["a whale"]), many.embed_texts(["a whale"]))


def test_nothing_grows_where_all_is_known(clip: Clip) -> None:
    assert unknown_tokens(clip, KNOWN) == ()
    assert grown(clip, KNOWN) is clip
    assert grown(clip, []) is clip
