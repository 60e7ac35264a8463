"""Embeddings are unit vectors that depend on what is embedded, and on nothing beside it."""

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from engine.clip.config import ClipConfig
from engine.clip.frames import Frame, Pixels, Resize
from engine.clip.model import Clip
from engine.clip.vocabulary import Vocabulary, tokens_of

TEXTS = ["a red mug", "a blue kettle left of a mug", "two small green cups.", "", "mug " * 40]
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.new(ClipConfig(tokens=tokens_of(TEXTS)), seed=0)


def pictures(*sizes_hw: tuple[int, int]) -> list[Pixels]:
    chance = np.random.default_rng(0)
    return [chance.integers(0, 256, (*hw, 3)).astype(np.uint8) for hw in sizes_hw]


def lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.linalg.norm(rows, axis=1)
    return found


def test_embeddings_are_unit_vectors(clip: Clip) -> None:
    seen = clip.embed_images(pictures((64, 64), (10, 200), (300, 20), (1, 1)))
    read = clip.embed_texts(TEXTS)
    assert seen.dtype == read.dtype == np.float32
    assert seen.shape == (4, clip.dim)
    assert read.shape == (len(TEXTS), clip.dim)
    np.testing.assert_allclose(lengths(seen), 1, atol=1e-6)
    np.testing.assert_allclose(lengths(read), 1, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_embedding_does_not_depend_on_its_batch(clip: Clip, batch: int) -> None:
    images = pictures((64, 64), (30, 90), (128, 100), (70, 70), (64, 10))
    other = clip.computing(batch=batch)
    np.testing.assert_allclose(
        other.embed_images(images), clip.embed_images(images), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(other.embed_texts(TEXTS), clip.embed_texts(TEXTS), rtol=0, atol=1e-5)


def test_words_that_were_never_learnt_are_known_as_such(clip: Clip) -> None:
    assert clip.unknown_words("Two RED mugs, left-of a kettle!") == ("mugs",)
    assert clip.unknown_words("a teapot and a teapot's lid") == ("teapot", "and", "s", "lid")
    assert clip.unknown_words("?! mug") == ()


def test_nothing_gives_no_rows(clip: Clip) -> None:
    assert clip.embed_images([]).shape == clip.embed_texts([]).shape == (0, clip.dim)


def test_in_bfloat16_embeddings_are_nearly_the_same(clip: Clip) -> None:
    images = pictures((64, 64), (30, 90))
    quick = clip.computing(precision="bfloat16").embed_images(images)
    assert (quick * clip.embed_images(images)).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(lengths(quick), 1, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["grey", "float", "alpha", "empty"],
)
def test_anything_but_rgb_is_refused_by_its_place(clip: Clip, wrong: Pixels) -> None:
    with pytest.raises(ValueError, match=r"images\[1\]: must be \(H, W, 3\) uint8 RGB"):
        clip.embed_images([*pictures((8, 8)), wrong])


def test_one_text_outside_a_list_is_refused(clip: Clip) -> None:
    with pytest.raises(ValueError, match="texts: must be a list of texts, but got 'mug'"):
        clip.embed_texts("mug")


def test_the_fingerprint_names_weights_and_tokens(clip: Clip) -> None:
    same = Clip.new(clip.config, seed=0)
    assert clip.fingerprint.startswith("nano-clip-")
    assert same.fingerprint == clip.fingerprint == clip.copied("cpu").fingerprint
    assert Clip.new(clip.config, seed=1).fingerprint != clip.fingerprint
    fewer = ClipConfig(tokens=clip.config.tokens[:-1])
    assert Clip.new(fewer, seed=0).fingerprint != clip.fingerprint


def test_an_unknown_architecture_is_refused_in_a_line() -> None:
    with pytest.raises(ValueError, match=r"^architecture: must be nano-clip or one .* 'ViT-Q'$"):
        Clip.new(ClipConfig(architecture="ViT-Q"), seed=0)


def test_an_architecture_whose_packages_are_missing_is_refused_in_a_line() -> None:
    with pytest.raises(ValueError, match=r"^architecture: ViT-B-16-SigLIP cannot be .*$"):
        Clip.new(ClipConfig(architecture="ViT-B-16-SigLIP"), seed=0)


@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("hw", [(224, 224), (60, 97), (333, 250), (5, 61), (101, 7), (500, 499)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_images_are_seen_as_open_clip_sees_them(
    hw: tuple[int, int], resize: Resize, interpolation: str
) -> None:
    (pixels,) = pictures(hw)
    wanted = image_transform_v2(
        PreprocessCfg(
            size=(32, 32), mean=HALF, std=(0.2, 0.3, 0.4), resize_mode=resize,
            interpolation=interpolation, fill_color=9,
        ),
        is_train=False,
    )(Image.fromarray(pixels))  # fmt: skip
    frame = Frame(
        hw=(32, 32), mean=HALF, std=(0.2, 0.3, 0.4), resize=resize,
        interpolation=interpolation, fill=9,  # type: ignore[arg-type] # both are known
    )  # fmt: skip
    torch.testing.assert_close(frame.normalised(frame.fit([pixels]))[0], wanted)


def test_a_long_strip_does_not_fill_the_memory() -> None:
    frame = Frame(hw=(224, 224), mean=HALF, std=HALF)
    assert frame.fit([np.zeros((2, 100_000, 3), np.uint8)]).shape == (1, 3, 224, 224)


def test_texts_of_open_clips_architectures_are_its_own_tokens() -> None:
    own = Vocabulary(ClipConfig(architecture="ViT-B-32-quickgelu"))(TEXTS)
    assert torch.equal(own, open_clip.tokenize(TEXTS))


def test_nano_knows_its_tokens_and_takes_all_others_for_one() -> None:
    vocabulary = Vocabulary(ClipConfig(tokens=tokens_of(["a red mug"])))
    assert vocabulary.size == 3 + 4
    known, strange, stranger, long = vocabulary(
        ["a red mug", "a red kettle", "a red spoon", "mug " * 40]
    ).tolist()
    end = vocabulary.size - 1
    assert len(set(known[:5])) == 5
    assert known[4] == end
    assert strange == stranger != known
    assert long[-1] == end, "cut off, but it ends"
    assert Vocabulary(ClipConfig(tokens=tokens_of(["a red mug"])))(["A  RED mug"]).tolist() == [
        known
    ]


def test_a_text_beyond_the_context_is_read_as_far_as_it_goes(clip: Clip) -> None:
    long, longer = clip.embed_texts(["mug " * 22, "mug " * 40])
    np.testing.assert_allclose(long, longer, atol=1e-6)
