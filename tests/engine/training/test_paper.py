"""SAM's recipe: its constants as the paper has them, and each piece of it against a plain rule."""

import threading
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torchvision.ops import sigmoid_focal_loss

from engine.model.registry import ModelConfig, build_model, with_backbone
from engine.model.sam import PromptableSam
from engine.training.augment import choose_crop
from engine.training.batches import _jitter
from engine.training.config import TrainingConfig
from engine.training.drop_path import drop_paths, dropping_by
from engine.training.losses import focal_loss
from engine.training.optimiser import parameter_groups
from engine.training.paper import PAPER, PAPER_VIT_B, PAPER_VIT_L
from engine.training.rounds import clicked_rounds
from engine.training.schedule import learning_rate


def tiny_vit(depth: int = 4) -> ImageEncoderViT:
    torch.manual_seed(0)
    return ImageEncoderViT(
        img_size=32,
        patch_size=16,
        embed_dim=16,
        depth=depth,
        num_heads=2,
        out_chans=8,
        use_rel_pos=True,
        window_size=1,
        global_attn_indexes=(1, 3),
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )


@pytest.fixture(scope="module")
def with_vit() -> PromptableSam:
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    model.image_encoder = tiny_vit()
    return model


# --- constants ---------------------------------------------------------------------------------


def test_the_learning_rate_is_the_paper_s() -> None:
    rates = {step: learning_rate(step, PAPER) for step in (0, 249, 250, 59_999, 60_000)}
    assert rates == pytest.approx({0: 3.2e-6, 249: 8e-4, 250: 8e-4, 59_999: 8e-4, 60_000: 8e-5})
    rates = {step: learning_rate(step, PAPER) for step in (86_665, 86_666, 89_999)}
    assert rates == pytest.approx({86_665: 8e-5, 86_666: 8e-6, 89_999: 8e-6})


def test_a_shorter_training_keeps_the_schedule_s_shape() -> None:
    short = replace(PAPER, steps=900, warmup_steps=3)
    assert learning_rate(599, short) == pytest.approx(8e-4)
    assert learning_rate(600, short) == pytest.approx(8e-5)
    assert learning_rate(867, short) == pytest.approx(8e-6)


def test_the_smaller_encoders_have_their_own_numbers() -> None:
    facts = [
        (c.steps, c.batch_images, c.learning_rate, c.layer_decay, c.drop_path, c.weight_decay)
        for c in (PAPER, PAPER_VIT_L, PAPER_VIT_B)
    ]
    assert facts == [
        (90_000, 256, 8e-4, 0.8, 0.4, 0.1),
        (180_000, 128, 4e-4, 0.8, 0.4, 0.1),
        (180_000, 128, 8e-4, 0.6, 0.6, 0.1),
    ]


def test_eight_clicks_and_two_rounds_without_after_the_first_prompt() -> None:
    places = set()
    for step in range(100):
        rounds = clicked_rounds(PAPER, step)
        assert (len(rounds), sum(rounds), rounds[-1]) == (10, 8, False)
        places.add(rounds.index(False))
        assert rounds == clicked_rounds(PAPER, step)
    assert places == set(range(8)), "before any of the clicks"


# --- loss and prompts --------------------------------------------------------------------------


def test_focal_over_pixels_is_torchvision_s() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 3, 16, 16, generator=generator)
    targets = (torch.rand(2, 3, 16, 16, generator=generator) > 0.7).float()
    wanted = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2).mean(dim=(-2, -1))
    torch.testing.assert_close(focal_loss(logits, targets, over="pixels", alpha=0.25), wanted)


def test_the_noise_of_a_box_is_a_tenth_of_its_side_but_20_pixels_at_most() -> None:
    random = np.random.default_rng(0)
    box = np.array([10, 20, 110, 820], dtype=np.float32)
    moves = np.stack([_jitter(box, PAPER, random) for _ in range(4000)])
    assert moves[:, [0, 2]].std() == pytest.approx(10, rel=0.1)
    assert np.abs(moves).max() == 20
    assert (np.abs(moves[:, [1, 3]]) == 20).mean() == pytest.approx(0.80, abs=0.03)
    assert np.abs(moves.mean(axis=0)).max() < 1


@pytest.mark.parametrize(("law", "median"), [("uniform", 1.05), ("log", 0.447)])
def test_scales_are_drawn_by_their_law(law: str, median: float) -> None:
    cells, scales = 100, []
    for seed in range(2000):
        crop = choose_crop((100, 100), cells, (0.1, 2.0), np.random.default_rng(seed), law=law)
        scales.append((crop.right - crop.left) / (crop.box[2] - crop.box[0]))
    assert min(scales) < 0.12
    assert max(scales) > 1.9
    assert np.median(scales) == pytest.approx(median, rel=0.08)


# --- layer-wise decay --------------------------------------------------------------------------


def scales_of(model: PromptableSam, config: TrainingConfig) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["scale"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for parameter in group["params"]
    }
    assert len(found) == len(names), "each once"
    return found


def test_the_deeper_a_layer_the_faster_it_learns(with_vit: PromptableSam) -> None:
    scales = scales_of(with_vit, PAPER)
    assert scales["image_encoder.patch_embed.proj.weight"] == (pytest.approx(0.8**5), 0.1)
    assert scales["image_encoder.pos_embed"] == (pytest.approx(0.8**5), 0.0)
    assert scales["image_encoder.blocks.0.attn.qkv.weight"] == (pytest.approx(0.8**4), 0.1)
    assert scales["image_encoder.blocks.3.norm1.bias"] == (pytest.approx(0.8), 0.0)
    assert scales["image_encoder.neck.0.weight"] == (1.0, 0.1)
    assert scales["mask_decoder.iou_token.weight"] == (1.0, 0.0)


def test_without_decay_all_learn_alike(with_vit: PromptableSam) -> None:
    groups = parameter_groups(with_vit, replace(PAPER, layer_decay=1.0))
    assert [(group["scale"], group["weight_decay"]) for group in groups] == [(1.0, 0.1), (1.0, 0.0)]


def test_timm_s_backbones_know_their_layers() -> None:
    scales = scales_of(with_backbone("resnet10t", 64), PAPER)
    stages = [scales[f"image_encoder.backbone.model.layer{n}.0.conv1.weight"][0] for n in (1, 2, 3)]
    ratios = [earlier / later for earlier, later in pairwise(stages)]
    assert ratios == pytest.approx([0.8, 0.8])
    assert scales["image_encoder.neck.0.weight"][0] == 1.0


@pytest.mark.parametrize("setting", ["layer_decay", "drop_path"])
def test_an_encoder_without_known_layers_is_refused(setting: str) -> None:
    from engine.training.state import TrainingState

    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    with pytest.raises(ValueError, match=rf"{setting}: must be [01] for ConvEncoder"):
        TrainingState(model, TrainingConfig(**{setting: 0.5}))


# --- drop path ---------------------------------------------------------------------------------

FRAME = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)


@pytest.fixture
def dropping() -> ImageEncoderViT:
    encoder = tiny_vit()
    drop_paths(encoder, 0.6)
    return encoder


def test_outside_of_a_training_step_nothing_is_dropped(dropping: ImageEncoderViT) -> None:
    assert list(dropping.state_dict()) == list(tiny_vit().state_dict())
    assert torch.equal(dropping(FRAME), tiny_vit()(FRAME))
    with dropping_by((0, 0, 0)):
        assert not torch.equal(dropping(FRAME), tiny_vit()(FRAME))
    assert torch.equal(dropping(FRAME), tiny_vit()(FRAME))


def test_what_is_dropped_depends_on_the_key_alone(dropping: ImageEncoderViT) -> None:
    def encoded(place: int) -> torch.Tensor:
        with dropping_by((0, 0, place)), torch.no_grad():
            return dropping(FRAME)

    alone = [encoded(place) for place in range(8)]
    together: dict[int, torch.Tensor] = {}
    threads = [
        threading.Thread(target=lambda place=place: together.update({place: encoded(place)}))
        for place in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(together[place], alone[place]) for place in range(8))
    assert len({tuple(one.flatten().tolist()) for one in alone}) > 4


def test_images_together_lose_what_each_loses_alone() -> None:
    encoder = tiny_vit()
    drop_paths(encoder, 0.6)
    frames = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with dropping_by((0, 0, 0), (0, 0, 1), (0, 0, 2)):
            together = encoder(frames)
        for place in range(3):
            with dropping_by((0, 0, place)):
                alone = encoder(frames[place : place + 1])
            torch.testing.assert_close(together[place : place + 1], alone, atol=1e-5, rtol=1e-4)


def test_the_deeper_a_block_the_more_of_it_is_dropped_at_the_same_mean() -> None:
    encoder = tiny_vit()
    drop_paths(encoder, 0.6)
    ones = torch.ones(1)
    factors = np.zeros((4, 2))
    hooks = [
        (hook, row, column)
        for row, block in enumerate(encoder.blocks)
        for column, branch in enumerate((block.attn, block.mlp))
        for hook in branch._forward_hooks.values()
    ]
    dropped = np.zeros((4, 2))
    for key in range(2000):
        with dropping_by((0, key, 0)):
            for hook, row, column in hooks:
                answer = hook(None, None, ones)
                factor = 1.0 if answer is None else float(answer)
                factors[row, column] += factor / 2000
                dropped[row, column] += (factor == 0) / 2000
    assert np.abs(dropped - np.array([[0], [0.2], [0.4], [0.6]])).max() < 0.05
    assert np.abs(factors - 1).max() < 0.1


@pytest.mark.parametrize("fraction", [(0.9, 0.5), (0.5, 0.5), (0.0, 0.5), (0.5, 1.0)])
def test_milestones_that_do_not_rise_inside_the_training_are_refused(
    fraction: tuple[float, float],
) -> None:
    with pytest.raises(ValueError, match="milestones"):
        TrainingConfig(milestones=fraction)
