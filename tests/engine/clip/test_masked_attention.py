"""Masked attention: what is under the mask answers, and nothing else does."""

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from engine import rle
from engine.clip.architectures import check_masked_attention
from engine.clip.config import ClipConfig, View
from engine.clip.frames import Pixels
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.model import Clip
from engine.clip.views import ViewsConfig
from engine.clip.vocabulary import tokens_of

SIDE, PATCH = 224, 32
ALL = np.full((SIDE, SIDE), 255, np.uint8)
Bool = NDArray[np.bool_]


@pytest.fixture(scope="module")
def clip() -> Clip:
    """The smallest vision transformer that open_clip has, with random weights."""
    found = Clip.new(ClipConfig(architecture="ViT-S-32"), seed=0)
    # As it begins, each block adds next to nothing: unlike a trained one, it would hide mistakes.
    with torch.no_grad():
        for parameter in found.module.visual.transformer.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    return found


@pytest.fixture(scope="module")
def nano() -> Clip:
    return Clip.new(ClipConfig(tokens=tokens_of(["a leaf"])), seed=0)


def picture(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def patches(*places: tuple[int, int]) -> Pixels:
    """A mask of whole patches, by row and column."""
    grid = np.zeros((SIDE // PATCH, SIDE // PATCH), np.uint8)
    for row, column in places:
        grid[row, column] = 255
    return grid.repeat(PATCH, 0).repeat(PATCH, 1)


def noisy(image: Pixels, where: Bool) -> Pixels:
    return np.where(where[..., None], picture(99), image)


def test_a_mask_of_everything_gives_the_plain_embedding(clip: Clip) -> None:
    images = [picture(0), picture(1)]
    masked = clip.embed_masked(images, [ALL, ALL])
    np.testing.assert_allclose(masked, clip.embed_images(images), rtol=0, atol=1e-5)


def test_only_patches_of_the_mask_answer(clip: Clip) -> None:
    image, mask = picture(0), patches((1, 1), (1, 2), (4, 5))
    beside = clip.embed_masked([noisy(image, mask == 0)], [mask])
    own = clip.embed_masked([image], [mask])
    np.testing.assert_array_equal(beside, own)
    within = clip.embed_masked([noisy(image, mask > 0)], [mask])
    assert np.abs(within - own).max() > 1e-3
    assert np.abs(clip.embed_images([image]) - own).max() > 1e-3


def test_what_is_left_out_is_as_if_it_were_not_there(clip: Clip) -> None:
    """The slow way: open_clip's own transformer, and a mask for each pair of tokens."""
    image, mask = picture(0), patches((0, 0), (3, 3), (3, 4), (6, 2))
    tower = clip.module.visual
    keep = np.concatenate([[True], mask[::PATCH, ::PATCH].ravel() > 0])
    bias = torch.where(torch.from_numpy(keep), 0.0, -torch.inf).expand(len(keep), -1)
    with torch.inference_mode():
        tokens = tower._embeds(clip.frame.normalised(clip.frame.fit([image])))
        features = tower._pool(tower.transformer(tokens, attn_mask=bias))[0] @ tower.proj
    expected = nn.functional.normalize(features, dim=-1).numpy()
    np.testing.assert_allclose(clip.embed_masked([image], [mask]), expected, rtol=0, atol=1e-5)


def test_a_batch_gives_what_each_gives_alone(clip: Clip) -> None:
    images = [picture(seed) for seed in range(4)]
    masks = [patches((2, 2)), ALL, patches((0, 1), (5, 5), (6, 6)), patches((3, 0))]
    together = clip.embed_masked(images, masks)
    alone = [clip.embed_masked([image], [mask]) for image, mask in zip(images, masks, strict=True)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=1e-5)


def test_a_patch_takes_part_from_a_quarter_on_and_the_best_one_always(clip: Clip) -> None:
    image, mask, thin = picture(0), patches((1, 1)), np.zeros((SIDE, SIDE), np.uint8)
    mask[PATCH : PATCH + 8, 2 * PATCH : 3 * PATCH] = 255
    mask[PATCH : PATCH + 7, 3 * PATCH : 4 * PATCH] = 255
    two = clip.embed_masked([image], [patches((1, 1), (1, 2))])
    np.testing.assert_allclose(clip.embed_masked([image], [mask]), two, rtol=0, atol=1e-6)
    thin[5 * PATCH + 1, 4 * PATCH : 5 * PATCH + 9] = 255
    one = clip.embed_masked([image], [patches((5, 4))])
    np.testing.assert_allclose(clip.embed_masked([image], [thin]), one, rtol=0, atol=1e-6)


def test_masks_are_seen_by_it_beside_other_views(clip: Clip) -> None:
    image = np.random.default_rng(3).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    shape = np.zeros((300, 400), bool)
    shape[100:140, 50:200] = True
    masks = [rle.encode_one(shape), rle.encode_one(shape[::-1]), rle.encode_one(shape[:, ::-1])]

    def seen(*views: View, of: Pixels = image) -> NDArray[np.float32]:
        return MaskEncoder(clip, ViewsConfig(views=views)).vectors(of, masks[:1])

    encoder = MaskEncoder(clip.computing(batch=4), ViewsConfig(views=("attention", "tight")))
    together = encoder.vectors(image, masks)
    both = seen("attention") + seen("tight")
    np.testing.assert_allclose(together[:1], both / np.linalg.norm(both), rtol=0, atol=1e-5)
    # Far from the mask, but within what `tight` shows.
    other = image.copy()
    other[40:60, 60:190] = 0
    np.testing.assert_array_equal(seen("attention"), seen("attention", of=other))
    assert np.abs(seen("tight") - seen("tight", of=other)).max() > 1e-4


def test_views_have_names_of_their_own_and_the_usual_one_keeps_its(nano: Clip, clip: Clip) -> None:
    ids = {
        MaskEncoder(clip, ViewsConfig(views=(view,))).encoder_id for view in ("tight", "attention")
    }
    assert len(ids) == 2
    # Vectors in stores are found by it: another name would have every mask seen anew.
    assert MaskEncoder(nano).encoder_id.endswith("-153b1e12bff02627")


@pytest.mark.parametrize(
    "vision",
    [
        {"layers": (1, 1, 1, 1), "width": 16, "image_size": 64},
        {"layers": 1, "width": 64, "image_size": 64, "patch_size": 32, "pool_type": "avg"},
        {"layers": 1, "width": 64, "image_size": 64, "patch_size": 32, "attentional_pool": True},
    ],
    ids=["ResNet", "mean of patches", "pooled by attention"],
)
def test_other_towers_are_refused(vision: dict[str, object]) -> None:
    text = {"context_length": 8, "vocab_size": 10, "width": 64, "heads": 1, "layers": 1}
    module = open_clip.CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text)
    with pytest.raises(ValueError, match=r"^views: attention needs .* but Own has another; leave"):
        check_masked_attention("Own", module)


def test_nano_clip_whose_stem_looks_beyond_a_patch_is_refused(nano: Clip) -> None:
    with pytest.raises(ValueError, match=r"^views: attention .* but nano-clip has another"):
        MaskEncoder(nano, ViewsConfig(views=("tight", "attention")))
    with pytest.raises(ValueError, match=r"^views: attention"):
        nano.embed_masked([], [])


def test_a_mask_that_is_not_of_the_picture_is_refused(clip: Clip) -> None:
    with pytest.raises(ValueError, match=r"^images\[1\], inside\[1\]: must be of \(224, 224\)"):
        clip.embed_masked([picture(0), picture(1)], [ALL, ALL[1:]])
