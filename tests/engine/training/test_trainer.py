"""Training learns, repeats itself exactly, survives interruption, and stops when it goes wrong."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model.registry import ModelConfig, around, build_model, with_backbone
from engine.model.sam import Features, PromptableSam
from engine.training.batches import Batch, BatchSource
from engine.training.config import TrainingConfig
from engine.training.paper import PAPER
from engine.training.rounds import ImageLosses, image_losses
from engine.training.samples import LabelledImage
from engine.training.schedule import learning_rate
from engine.training.trainer import StepReport, TrainingError, train

SHORT = TrainingConfig(
    steps=6,
    batch_images=2,
    masks_per_image=3,
    background_per_image=1,
    warmup_steps=2,
    checkpoint_every=2,
    extra_rounds=(1, 2),
    extra_rounds_p=(0.5, 0.5),
)


class Scenes:
    def __init__(self, count: int, *, side: int = 128) -> None:
        style = SceneStyle(
            subject="shapes", hw=(side, side), num_objects=(2, 4), radius=(14.0, 30.0)
        )
        self._scenes = [draw_scene(seed, style) for seed in range(count)]

    def __len__(self) -> int:
        return len(self._scenes)

    def load(self, index: int) -> LabelledImage:
        scene = self._scenes[index]
        return LabelledImage(image=scene.image, masks=rle.encode(scene.masks))


class Memory:
    """A checkpoint in memory; `fail_after` plays a process that dies once it has saved."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.blob: bytes | None = None
        self.fail_after = fail_after

    def save(self, step: int, blob: bytes) -> None:
        self.blob = blob
        if step == self.fail_after:
            raise KeyboardInterrupt

    def load(self) -> bytes | None:
        return self.blob


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(5)


def tiny(seed: int = 0) -> PromptableSam:
    return build_model(ModelConfig(architecture="nano_tiny"), seed=seed)


def same(a: PromptableSam, b: PromptableSam) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_the_same_training_gives_the_same_weights(scenes: Scenes) -> None:
    first, again = (train(tiny(), scenes, SHORT).model for _ in range(2))
    assert same(first, again)


def test_the_model_that_is_given_stays_as_it_is(scenes: Scenes) -> None:
    model = tiny()
    result = train(model, scenes, SHORT)
    assert same(model, tiny())
    assert not same(model, result.model)


@pytest.mark.parametrize("fail_after", [2, 4])
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    scenes: Scenes, fail_after: int
) -> None:
    memory = Memory(fail_after)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), scenes, SHORT, checkpoint=memory)
    memory.fail_after = None
    steps: list[int] = []
    resumed = train(
        tiny(), scenes, SHORT, checkpoint=memory, on_step=lambda r: steps.append(r.step)
    )
    assert steps == list(range(fail_after + 1, SHORT.steps + 1))
    undisturbed = train(tiny(), scenes, SHORT)
    assert same(resumed.model, undisturbed.model)
    curves = [[(step.loss, step.iou) for step in run.steps] for run in (resumed, undisturbed)]
    assert curves[0] == curves[1]
    assert len(curves[0]) == SHORT.steps


def test_a_finished_training_is_not_done_again(scenes: Scenes) -> None:
    memory = Memory()
    first = train(tiny(), scenes, SHORT, checkpoint=memory)
    reports: list[StepReport] = []
    again = train(tiny(), scenes, SHORT, checkpoint=memory, on_step=reports.append)
    assert reports == []
    assert same(first.model, again.model)


def test_a_loss_that_is_no_number_stops_the_training(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "engine.training.rounds.dice_loss",
        lambda logits, _: logits.sum(dim=(-2, -1)) * float("nan"),
    )
    with pytest.raises(
        TrainingError, match=r"nan at step 0, learning rate 0\.0005, on images \d, "
    ):
        train(tiny(), scenes, SHORT)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_image_that_broke_the_training_is_named_and_the_last_checkpoint_kept(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    bad_image, bad_step = 3, 3

    def broken(
        model: PromptableSam,
        batch: Batch,
        config: TrainingConfig,
        step: int,
        features: Features | None,
    ) -> ImageLosses:
        result = image_losses(model, batch, config, step, features=features)
        uncut = BatchSource(None, np.ones(len(scenes)), config)  # type: ignore[arg-type] # no crop is cut
        index = uncut.index(step, batch.places[0])
        if index == bad_image and step >= bad_step:
            return replace(result, losses=result.losses * value)
        return result

    monkeypatch.setattr("engine.training.gradients.image_losses", broken)
    memory, config = Memory(), replace(SHORT, checkpoint_every=1)
    reports: list[StepReport] = []
    with pytest.raises(TrainingError, match=rf"on image {bad_image} of the labelled") as caught:
        train(tiny(), scenes, config, checkpoint=memory, on_step=reports.append)
    assert caught.value.images == (bad_image,)
    assert len(reports) >= bad_step
    assert f"at step {len(reports)}" in str(caught.value)
    monkeypatch.undo()
    resumed = train(tiny(), scenes, config, checkpoint=memory)
    assert same(resumed.model, train(tiny(), scenes, config).model)


def test_a_gradient_that_is_no_number_changes_nothing(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "engine.training.rounds.dice_loss",
        lambda logits, _: torch.sqrt(logits.sum(dim=(-2, -1)) * 0),
    )
    memory = Memory()
    with pytest.raises(TrainingError, match="gradient is no number at step 0") as caught:
        train(tiny(), scenes, replace(SHORT, checkpoint_every=1), checkpoint=memory)
    assert len(caught.value.images) == SHORT.batch_images
    assert memory.blob is None


@pytest.mark.parametrize(
    "build", [lambda: around(small_vit(), 64), lambda: timm_vit()], ids=["segment_anything", "timm"]
)
def test_the_paper_s_recipe_trains_vision_transformers_and_goes_on(
    scenes: Scenes, build: Callable[[], PromptableSam]
) -> None:
    config = replace(
        PAPER, steps=4, batch_images=2, masks_per_image=3, warmup_steps=1, checkpoint_every=2
    )
    model, memory, losses = build(), Memory(fail_after=2), []
    with pytest.raises(KeyboardInterrupt):
        train(model, scenes, config, checkpoint=memory)
    memory.fail_after = None
    resumed = train(model, scenes, config, checkpoint=memory)
    result = train(model, scenes, config, on_step=lambda report: losses.append(report.loss))
    assert same(resumed.model, result.model)
    assert not same(model, result.model)
    assert np.isfinite(losses).all()
    assert not any(module._forward_hooks for module in result.model.modules())


def small_vit() -> ImageEncoderViT:
    torch.manual_seed(0)
    options = {"num_heads": 2, "use_rel_pos": True, "window_size": 3, "global_attn_indexes": (1,)}
    return ImageEncoderViT(img_size=64, embed_dim=32, depth=3, out_chans=256, **options)


def timm_vit() -> PromptableSam:
    torch.manual_seed(0)
    return with_backbone("test_vit", 64)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one labelled image"):
        train(tiny(), Scenes(0), SHORT)


@pytest.mark.parametrize("complete", [True, False], ids=["background", "nothing"])
def test_images_without_objects_teach_background_or_nothing(complete: bool) -> None:
    class Empty:
        def __len__(self) -> int:
            return 1

        def load(self, _: int) -> LabelledImage:
            image = np.full((100, 100, 3), 90, dtype=np.uint8)
            return LabelledImage(image=image, masks=[], complete=complete)

    losses: list[float] = []
    start = tiny()
    taught = train(start, Empty(), SHORT, on_step=lambda report: losses.append(report.loss)).model
    assert np.isfinite(losses).all() == np.isfinite(losses).any() == complete
    pairs = zip(start.parameters(), taught.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) != complete


def test_it_learns(scenes: Scenes) -> None:
    config = replace(SHORT, steps=60, scratch_steps=60, warmup_steps=10, learning_rate=2e-3)
    losses: list[float] = []
    train(tiny(), scenes, config, on_step=lambda report: losses.append(report.loss))
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


def test_the_learning_rate_rises_then_falls() -> None:
    config = TrainingConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_fraction=0.1)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("box_fraction", 1.5),
        ("ema", 1.0),
        ("learning_rate", 0.0),
        ("extra_rounds_p", (1.0,)),
        ("extra_rounds_p", (0.5, 0.1, 0.1, 0.1)),
        ("crop_scale", (2.0, 1.0)),
        ("warmup_steps", -1),
        ("schedule", "linear"),
        ("focal_over", "image"),
        ("focal_alpha", 1.5),
        ("layer_decay", 0.0),
        ("drop_path", 1.0),
        ("box_jitter_pixels", -1.0),
        ("extra_rounds", (-1, 1, 2, 3)),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        TrainingConfig(**{field: value})
