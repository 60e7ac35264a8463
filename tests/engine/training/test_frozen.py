"""Parts that are frozen stay as they are, and a frozen encoder sees each view once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import Features, PromptableSam
from engine.training.batches import Batch, BatchSource
from engine.training.checkpoint import FileCheckpointer
from engine.training.config import Part, TrainingConfig
from engine.training.kept import KeptFeatures
from engine.training.samples import CropSource, LabelledImage
from engine.training.trainer import train

NUM_IMAGES, VIEWS = 3, 2
CONFIG = TrainingConfig(
    steps=8,
    batch_images=2,
    masks_per_image=2,
    background_per_image=1,
    warmup_steps=2,
    extra_rounds=(1,),
    extra_rounds_p=(1.0,),
    frozen=("image_encoder",),
    views=VIEWS,
)


class Scenes:
    def __len__(self) -> int:
        return NUM_IMAGES

    def load(self, index: int) -> LabelledImage:
        style = SceneStyle(subject="shapes", hw=(96, 96), num_objects=(3, 5), radius=(10.0, 20.0))
        scene = draw_scene(index, style)
        return LabelledImage(image=scene.image, masks=rle.encode(scene.masks))


@pytest.fixture(scope="module")
def model() -> PromptableSam:
    return build_model(ModelConfig(architecture="nano_tiny"), seed=0)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by one for each frame that is encoded: whether gradients were wanted."""
    calls: list[bool] = []
    original = PromptableSam.encode

    def counting(self: PromptableSam, frames: torch.Tensor) -> Features:
        calls.append(torch.is_grad_enabled())
        return original(self, frames)

    monkeypatch.setattr(PromptableSam, "encode", counting)
    return calls


@pytest.mark.parametrize("frozen", [("image_encoder",), ("image_encoder", "prompt_encoder")])
def test_frozen_parts_stay_and_the_others_learn(
    model: PromptableSam, frozen: tuple[Part, ...]
) -> None:
    before = model.state_dict()
    after = train(model, Scenes(), replace(CONFIG, frozen=frozen)).model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"image_encoder", "prompt_encoder", "mask_decoder"} - set(frozen)


def test_with_frozen_masks_the_estimates_of_their_iou_learn_alone(model: PromptableSam) -> None:
    before = model.state_dict()
    after = train(model, Scenes(), replace(CONFIG, frozen=("masks",))).model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {".".join(name.split(".")[:2]) for name in changed} == {
        "mask_decoder.iou_prediction_head",
        "mask_decoder.mask_quality",
    }


def test_each_view_is_encoded_once_and_that_changes_nothing(
    model: PromptableSam, encodings: list[bool]
) -> None:
    kept = train(model, Scenes(), CONFIG).model
    assert not any(encodings)
    # Two threads may want a view at once, and both then make it.
    assert len(encodings) <= 2 * NUM_IMAGES * VIEWS < CONFIG.steps * CONFIG.batch_images
    forgotten = train(model, Scenes(), replace(CONFIG, kept_features_mb=0)).model
    for a, b in zip(kept.parameters(), forgotten.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_interrupted_training_goes_on_and_keeps_no_frozen_part(
    model: PromptableSam, tmp_path: Path
) -> None:
    class Mortal(FileCheckpointer):
        def save(self, step: int, blob: bytes) -> None:
            super().save(step, blob)
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint"
    config = replace(CONFIG, checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        train(model, Scenes(), config, checkpoint=Mortal(path))
    assert not any("image_encoder" in name for name in load_file(path))
    resumed = train(model, Scenes(), config, checkpoint=FileCheckpointer(path))
    undisturbed = train(model, Scenes(), config)
    assert [step.step for step in resumed.steps] == list(range(1, CONFIG.steps + 1))
    pairs = zip(resumed.model.parameters(), undisturbed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_view_returns_with_other_prompts(model: PromptableSam) -> None:
    stride = model.side // model.logits_hw[0]
    source = BatchSource(CropSource(Scenes(), model.side, stride), np.ones(NUM_IMAGES), CONFIG)
    seen: dict[object, list[Batch]] = {}
    for step in range(2 * NUM_IMAGES):
        for place in range(CONFIG.batch_images):
            batch = source.batch(step, place)
            seen.setdefault(batch.views, []).append(batch)
    assert len(seen) == NUM_IMAGES * VIEWS
    for first, *others in seen.values():
        assert others
        assert all(torch.equal(first.frames, other.frames) for other in others)
        assert not all(torch.equal(first.prompts.points, o.prompts.points) for o in others)


def test_what_is_kept_fits_its_memory() -> None:
    made: list[int] = []
    kept = KeptFeatures(capacity_mb=3)

    def make() -> Features:
        made.append(1)
        return Features(torch.zeros(2**18), None)

    for _ in range(2):
        for index in range(5):
            kept.of((index, 0), make)
    assert len(made) == 5 + 2


def test_a_crop_that_never_returns_is_not_kept() -> None:
    kept = KeptFeatures(capacity_mb=1)
    first, second = (Features(torch.full((1,), i), None) for i in range(2))
    assert kept.of(None, lambda: first) is first
    assert kept.of(None, lambda: second) is second


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen": ("mask_decoder",)}, r"frozen: must be some of image_encoder, prompt_encoder"),
        ({"drop_path": 0.1}, "drop_path: must be 0 with a frozen image encoder"),
        ({"views": 0}, "views: must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type] # wrong on purpose
