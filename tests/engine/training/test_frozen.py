"""Parts that are frozen stay as they are, and a frozen encoder sees each view once."""

import errno
import os
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
from engine.training.kept import FeatureFiles, KeptFeatures
from engine.training.samples import CropSource, LabelledImage
from engine.training.trainer import train

NUM_IMAGES, VIEWS = 3, 2
FRAME = torch.zeros((1, 3, 4, 4), dtype=torch.uint8)
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
    """Scenes `first` to `end` - 1."""

    def __init__(self, first: int = 0, end: int = NUM_IMAGES) -> None:
        self._numbers = range(first, end)

    def __len__(self) -> int:
        return len(self._numbers)

    def load(self, index: int) -> LabelledImage:
        style = SceneStyle(subject="shapes", hw=(96, 96), num_objects=(3, 5), radius=(10.0, 20.0))
        scene = draw_scene(self._numbers[index], style)
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
            kept.of((index, 0), FRAME, make)
    assert len(made) == 5 + 2


def test_a_crop_that_never_returns_is_not_kept() -> None:
    kept = KeptFeatures(capacity_mb=1)
    first, second = (Features(torch.full((1,), i), None) for i in range(2))
    assert kept.of(None, FRAME, lambda: first) is first
    assert kept.of(None, FRAME, lambda: second) is second


def test_the_next_training_finds_what_was_made_though_more_images_are_labelled(
    model: PromptableSam, encodings: list[bool], tmp_path: Path
) -> None:
    train(model, Scenes(1, 3), CONFIG, features_folder=tmp_path)
    first = len(encodings)
    assert first > 0
    assert len(list(tmp_path.iterdir())) == 2 * VIEWS
    later = train(model, Scenes(0, 3), CONFIG, features_folder=tmp_path).model
    # Two threads may want a view at once, and both then make it.
    assert VIEWS <= len(encodings) - first <= 2 * VIEWS
    afresh = train(model, Scenes(0, 3), CONFIG).model
    pairs = zip(later.parameters(), afresh.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_encoder_does_not_find_them(
    model: PromptableSam, encodings: list[bool], tmp_path: Path
) -> None:
    train(model, Scenes(), CONFIG, features_folder=tmp_path)
    first = len(encodings)
    other = build_model(ModelConfig(architecture="nano_tiny"), seed=1)
    train(other, Scenes(), CONFIG, features_folder=tmp_path)
    assert len(encodings) - first >= NUM_IMAGES * VIEWS


def frames(number: int) -> list[torch.Tensor]:
    return [torch.full((1, 3, 4, 4), value, dtype=torch.uint8) for value in range(number)]


def features(value: int) -> Features:
    """With the file's header just under half a megabyte."""
    return Features(
        torch.full((2**16,), float(value)), (torch.ones(2**15), torch.ones(2**15 - 500))
    )


def test_files_that_were_used_longest_ago_give_way_but_none_of_this_training(
    tmp_path: Path,
) -> None:
    shown = frames(8)
    before = FeatureFiles(tmp_path, "e", capacity_mb=2)
    for age, frame in enumerate(shown[:3]):
        before.keep(frame, features(age))
        os.utime(max(tmp_path.iterdir(), key=os.path.getctime), (age, age))
    files = FeatureFiles(tmp_path, "e", capacity_mb=2)
    assert files.find(shown[0]) is not None
    for frame in shown[3:]:
        files.keep(frame, features(9))
    there = [number for number, frame in enumerate(shown) if files.find(frame) is not None]
    assert there == [0, 3, 4, 5], "1 and 2 gave way; there was no room for 6 and 7"


def test_a_file_that_is_cut_off_is_made_again(tmp_path: Path) -> None:
    (frame,) = frames(1)
    files = FeatureFiles(tmp_path, "e", capacity_mb=2)
    files.keep(frame, features(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert files.find(frame) is None
    files.keep(frame, features(2))
    found = files.find(frame)
    assert found is not None
    assert found.skips is not None
    assert torch.equal(found.embedding, features(2).embedding)


def test_a_disk_that_is_full_costs_time_only(
    model: PromptableSam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    made = train(model, Scenes(), CONFIG, features_folder=tmp_path).model
    monkeypatch.undo()
    afresh = train(model, Scenes(), CONFIG).model
    assert all(
        torch.equal(a, b) for a, b in zip(made.parameters(), afresh.parameters(), strict=True)
    )
    assert list(tmp_path.iterdir()) == []


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
