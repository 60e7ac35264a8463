"""Training text prompts: only the add-on learns, the same again after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.clip.config import ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.drawing.captions import CaptionStyle
from engine.drawing.wording import VOCABULARY_TEXTS
from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.model.text.prompted import TextPrompted
from engine.training.captioned import EncodedScene, SceneFolder, SceneSet
from engine.training.checkpoint import FileCheckpointer
from engine.training.text import TextReport, pointed_at, presence_loss, text_losses, train_text
from engine.training.text_config import TextTrainingConfig
from engine.training.text_samples import TextBatch
from engine.training.text_scenes import DrawnTexts, VectorsConfig, prompt_crop, scene_vectors

QUICK = TextTrainingConfig(
    steps=4, map_steps=2, batch_images=2, warmup_steps=1, checkpoint_every=1, corrected_share=1.0
)


@pytest.fixture(scope="module")
def model() -> PromptableSam:
    return build_model(ModelConfig(architecture="nano_tiny"), seed=0)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.new(ClipConfig(tokens=tokens_of(VOCABULARY_TEXTS)), seed=0)


@pytest.fixture(scope="module")
def scenes(model: PromptableSam, tmp_path_factory: pytest.TempPathFactory) -> list[EncodedScene]:
    folder = SceneFolder(tmp_path_factory.mktemp("scenes"), Predictor(model, version="tiny"))
    style = CaptionStyle(hw=(128, 160), num_objects=(3, 4))
    made = folder.load(SceneSet(first=0, count=4, style=style))
    again = folder.load(SceneSet(first=0, count=4, style=style))
    for one, other in zip(made, again, strict=True):
        assert np.array_equal(one.scene.masks, other.scene.masks)
        assert one.scene.placed == other.scene.placed
        assert torch.equal(one.embedding.features, other.embedding.features)
    return made


@pytest.fixture(scope="module")
def source(model: PromptableSam, clip: Clip, scenes: list[EncodedScene]) -> DrawnTexts:
    vectors = list(scene_vectors([one.scene for one in scenes], clip, VectorsConfig(min_area=20)))
    return DrawnTexts(scenes, vectors, model.logits_hw, clip_fingerprint=clip.fingerprint)


def new_text(model: PromptableSam, clip: Clip) -> TextPrompted:
    torch.manual_seed(0)
    return TextPrompted(model, clip.dim)


def states_equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_crop_has_its_thing_before_another_background(scenes: list[EncodedScene]) -> None:
    crops = [
        prompt_crop(np.random.default_rng(seed), scenes[0].scene, 0, scenes[1].scene)
        for seed in range(12)
    ]
    assert {crop.shape for crop in crops} == {(64, 64, 3)}
    assert any((crop[0, 0] == 128).all() for crop in crops)


def test_samples_mean_what_is_there_and_absent_ones_nothing(source: DrawnTexts) -> None:
    sample = source.sample(0, np.random.default_rng(0), QUICK)
    present = sample.meant.any(dim=1)
    assert present.tolist() == [True] * QUICK.present_per_image + [False] * QUICK.absent_per_image
    assert sample.vectors.isfinite().all()
    again = source.sample(0, np.random.default_rng(0), QUICK)
    assert torch.equal(sample.vectors, again.vectors)


def test_the_model_stays_as_it_is_and_every_new_part_learns(
    model: PromptableSam, clip: Clip, source: DrawnTexts
) -> None:
    before = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    start = new_text(model, clip)
    trained = train_text(model, start, source, QUICK)
    assert states_equal(model, before)
    assert states_equal(start, new_text(model, clip))
    assert all(parameter.grad is None for parameter in model.parameters())
    for name in ("locator", "token", "map_proj", "mask_decoder", "presence"):
        old, new = start.get_submodule(name), trained.get_submodule(name)
        assert not states_equal(old, new), name


def test_masks_have_no_gradient_into_the_map(
    model: PromptableSam, clip: Clip, source: DrawnTexts
) -> None:
    config = TextTrainingConfig(batch_images=2, map_weight=0.0)
    samples = [source.sample(i, np.random.default_rng(i), config) for i in range(2)]
    batch = TextBatch.joined(samples, config).to(torch.device("cpu"))
    text = new_text(model, clip)
    losses = text_losses(model, text, batch, config, np.random.default_rng(0), drawing=True)
    losses.total.backward()  # type: ignore[no-untyped-call] # torch has no types for it
    reached = [p.grad is not None and bool(p.grad.any()) for p in text.locator.parameters()]
    assert not any(reached)
    assert any(p.grad is not None and p.grad.any() for p in text.mask_decoder.parameters())


def test_presence_is_not_asked_of_what_was_clicked_on() -> None:
    logits = torch.tensor([2.0, -2.0, 50.0], requires_grad=True)
    present, clicked = torch.tensor([True, False, False]), torch.tensor([False, False, True])
    loss = presence_loss(logits, present, clicked)
    assert float(loss.detach()) == pytest.approx(float(np.log1p(np.exp(-2.0))))
    assert float(presence_loss(logits, present, torch.ones(3, dtype=torch.bool)).detach()) == 0


def test_of_several_meant_that_is_drawn_on_which_the_peak_lies() -> None:
    targets = torch.zeros(3, 8, 8)
    targets[0, :4, :4] = targets[1, 4:, 4:] = targets[2, :4, 4:] = 1
    similarity = torch.full((2, 4, 4), -4.0)
    similarity[:, 2:, 2:] = 4.0
    meant = torch.tensor([[True, True, False], [True, False, False]])
    assert pointed_at(similarity, targets, meant).tolist() == [1, 0]


def test_an_interrupted_training_ends_as_one_in_one_go(
    tmp_path: Path, model: PromptableSam, clip: Clip, source: DrawnTexts
) -> None:
    def stop(report: TextReport) -> None:
        if report.step == 3:
            raise InterruptedError

    checkpoint = FileCheckpointer(tmp_path / "text.safetensors")
    with pytest.raises(InterruptedError):
        train_text(model, new_text(model, clip), source, QUICK, checkpoint=checkpoint, on_step=stop)
    resumed = train_text(model, new_text(model, clip), source, QUICK, checkpoint=checkpoint)
    whole = train_text(model, new_text(model, clip), source, QUICK)
    assert states_equal(resumed, whole)
    other = TextTrainingConfig(steps=5)
    with pytest.raises(ValueError, match="checkpoint: must be of this model"):
        train_text(model, new_text(model, clip), source, other, checkpoint=checkpoint)


def test_two_scenes_are_learnt_by_heart(
    model: PromptableSam, clip: Clip, scenes: list[EncodedScene]
) -> None:
    two = scenes[:2]
    vectors = list(scene_vectors([one.scene for one in two], clip, VectorsConfig(min_area=20)))
    source = DrawnTexts(two, vectors, model.logits_hw, clip_fingerprint=clip.fingerprint)
    config = TextTrainingConfig(
        steps=100,
        map_steps=100,
        batch_images=2,
        text_share=1.0,
        absent_per_image=1,
        warmup_steps=5,
        learning_rate=2e-3,
    )
    losses: list[float] = []
    train_text(
        model,
        new_text(model, clip),
        source,
        config,
        on_step=lambda report: losses.append(report.map_loss),
    )
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: must be at least 1"),
        ({"text_share": 1.5}, "text_share: must be in"),
        ({"learning_rate": 0}, "learning_rate: must be positive"),
        ({"betas": (0.9, 1.0)}, "betas: must be in"),
    ],
)
def test_a_config_refuses(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextTrainingConfig(**values)  # type: ignore[arg-type] # wrong on purpose
