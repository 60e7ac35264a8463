"""A training on pairs learns, goes on after an interruption, and stops when it goes wrong."""

import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.clip.classes import ClassPrompts
from engine.clip.config import ClipConfig, ClipTrainingConfig, Tower
from engine.clip.exam import Exam, Labelled
from engine.clip.frames import Pixels
from engine.clip.model import Clip
from engine.clip.pairs import Batches, ListedPairs
from engine.clip.state import tower_of
from engine.clip.trainer import FitReport, FitResult, fit
from engine.clip.vocabulary import tokens_of
from engine.training.trainer import TrainingError

DRAWING = runpy.run_path(str(Path(__file__).parent / "fit_pairs.py"))
COLOURS: dict[str, tuple[int, int, int]] = DRAWING["COLOURS"]
SHORT = ClipTrainingConfig(
    steps=6, batch_pairs=6, pairs_at_once=6, warmup_steps=2, checkpoint_every=2, evaluate_every=3
)


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
def pairs() -> ListedPairs:
    found: ListedPairs = DRAWING["drawn"](32)
    return found


@pytest.fixture(scope="module")
def untrained(pairs: ListedPairs) -> Clip:
    return Clip.new(ClipConfig(tokens=tokens_of(pairs.texts)), seed=0)


def exam(pairs: ListedPairs) -> Exam:
    """Name the colour; and find eight pairs."""
    names = list(COLOURS)
    labels = [names.index(text.split()[1]) for text in pairs.texts]
    prompts = ClassPrompts.parse(names, [f"a {{}} bar at the {side}" for side in DRAWING["SIDES"]])
    held_out = ListedPairs(images=pairs.images[:8], texts=pairs.texts[:8])
    labelled = Labelled(images=pairs.images, labels=labels, prompts=prompts)
    return Exam(labelled=labelled, pairs=held_out)


def same(one: Clip, other: Clip) -> bool:
    return one.fingerprint == other.fingerprint


def curve(result: FitResult) -> list[tuple[int, float, float]]:
    return [(step.step, step.loss, step.scale) for step in result.steps]


# Some seconds on one core: it learns until it can tell them apart.
def test_it_learns_what_pictures_are_called(untrained: Clip, pairs: ListedPairs) -> None:
    config = replace(
        SHORT, steps=16, batch_pairs=16, pairs_at_once=16, warmup_steps=3, evaluate_every=8
    )
    before = exam(pairs).marks(untrained, 0)
    reports: list[FitReport] = []
    result = fit(untrained, pairs, config, exam=exam(pairs), on_step=reports.append)
    after = result.marks[-1]
    assert result.steps[-1].loss < result.steps[0].loss / 2
    assert before.accuracy is not None
    assert after.accuracy is not None
    assert before.accuracy < 0.6
    assert after.accuracy > 0.9
    assert after.recall is not None
    assert after.recall.texts_of_images[5] > 0.8
    assert [marks.step for marks in result.marks] == [8, 16]
    assert [report.step for report in reports if report.marks is not None] == [8, 16]
    assert {report.num_steps for report in reports} == {16}


@pytest.mark.parametrize("fail_after", [2, 4])
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    untrained: Clip, pairs: ListedPairs, fail_after: int
) -> None:
    memory = Memory(fail_after)
    with pytest.raises(KeyboardInterrupt):
        fit(untrained, pairs, SHORT, exam=exam(pairs), checkpoint=memory)
    memory.fail_after = None
    resumed = fit(untrained, pairs, SHORT, exam=exam(pairs), checkpoint=memory)
    whole = fit(untrained, pairs, SHORT, exam=exam(pairs))
    assert curve(resumed) == curve(whole)
    assert resumed.marks == whole.marks
    assert same(resumed.clip, whole.clip)
    assert not same(whole.clip, untrained)


def test_in_bfloat16_the_losses_are_nearly_the_same(untrained: Clip, pairs: ListedPairs) -> None:
    config = replace(SHORT, steps=2)
    exact = fit(untrained, pairs, config)
    quick = fit(untrained, pairs, replace(config, precision="bfloat16"))
    assert quick.steps[0].loss == pytest.approx(exact.steps[0].loss, rel=0.02)
    assert quick.steps[0].loss != exact.steps[0].loss
    assert {value.dtype for value in quick.clip.module.state_dict().values()} == {torch.float32}
    np.testing.assert_array_equal(
        quick.clip.embed_texts(pairs.texts[:3]),
        quick.clip.computing(precision="float32").embed_texts(pairs.texts[:3]),
    )


def test_a_finished_training_is_not_done_again(untrained: Clip, pairs: ListedPairs) -> None:
    memory = Memory()
    first = fit(untrained, pairs, SHORT, checkpoint=memory)
    reports: list[FitReport] = []
    again = fit(untrained, pairs, SHORT, checkpoint=memory, on_step=reports.append)
    assert reports == []
    assert same(first.clip, again.clip)
    assert again.steps == first.steps


def test_a_checkpoint_of_another_training_is_refused(untrained: Clip, pairs: ListedPairs) -> None:
    memory = Memory()
    fit(untrained, pairs, SHORT, checkpoint=memory)
    with pytest.raises(ValueError, match=r"^checkpoint: must be of this .* remove it, or"):
        fit(untrained, pairs, replace(SHORT, learning_rate=1e-4), checkpoint=memory)


@pytest.mark.parametrize("locked", ["image", "text"])
def test_a_locked_tower_stays_as_it_is(untrained: Clip, pairs: ListedPairs, locked: Tower) -> None:
    config = replace(SHORT, locked=locked, pairs_at_once=4)
    memory = Memory(fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        fit(untrained, pairs, config, checkpoint=memory)
    memory.fail_after = None
    result = fit(untrained, pairs, config, checkpoint=memory)
    before, after = untrained.module.state_dict(), result.clip.module.state_dict()
    kept = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert kept == {name for name in before if tower_of(name) == locked}
    assert all(parameter.requires_grad for parameter in result.clip.module.parameters())


def broken(clip: Clip, word: str) -> Clip:
    """It makes no number of texts with `word`."""
    ill = clip.copied("cpu")
    token = ill.vocabulary([word])[0, 1]
    with torch.no_grad():
        ill.module.token_embedding.weight[token] = torch.nan
    return ill


def test_a_loss_that_is_no_number_names_the_pairs_of_its_batch(
    untrained: Clip, pairs: ListedPairs
) -> None:
    batch = Batches(len(pairs), SHORT.batch_pairs, SHORT.seed).of_step(0)
    wrong = sorted(index for index in batch if "left" in pairs.texts[index])
    assert 0 < len(wrong) < len(batch)
    names = ", ".join(map(str, wrong))
    memory = Memory()
    with pytest.raises(
        TrainingError,
        match=rf"^the loss is nan at step 0, learning rate 0\.0005, on pairs {names} ",
    ) as caught:
        fit(broken(untrained, "left"), pairs, SHORT, checkpoint=memory)
    assert caught.value.images == tuple(wrong)
    assert memory.blob is None


def test_weights_that_ran_away_stop_the_training(untrained: Clip, pairs: ListedPairs) -> None:
    wild = replace(SHORT, learning_rate=1e30, steps=20)
    with pytest.raises(TrainingError, match=r"at step \d+, learning rate .* lower the learning"):
        fit(untrained, pairs, wild)


def test_pairs_of_a_batch_differ_and_come_up_once_a_round() -> None:
    batches = Batches(10, 3, seed=1)
    round_of = [[index for step in steps for index in batches.of_step(step)]
                for steps in (range(3), range(3, 6))]  # fmt: skip
    for indices in round_of:
        assert len(set(indices)) == 9
    assert round_of[0] != round_of[1]
    assert batches.of_step(4) == Batches(10, 3, seed=1).of_step(4)
    assert batches.of_step(4) != Batches(10, 3, seed=2).of_step(4)


def test_a_batch_of_more_pairs_than_there_are_is_refused(untrained: Clip) -> None:
    few: ListedPairs = DRAWING["drawn"](5)
    with pytest.raises(ValueError, match="batch_pairs: must be at most the number of pairs, 5"):
        fit(untrained, few, SHORT)


class Failing:
    """Pairs whose file is gone."""

    def __len__(self) -> int:
        return 6

    def fetch(self, indices: Sequence[int]) -> tuple[list[Pixels], list[str]]:
        raise FileNotFoundError(f"{indices[0]}.png")


def test_pairs_that_cannot_be_had_end_the_training(untrained: Clip) -> None:
    with pytest.raises(FileNotFoundError):
        fit(untrained, Failing(), SHORT)


def test_a_tower_with_batch_norms_trains_on_the_numbers_that_they_have(pairs: ListedPairs) -> None:
    clip = Clip.new(ClipConfig(tokens=tokens_of(pairs.texts)), seed=0)
    clip.module.visual.conv1[1] = torch.nn.BatchNorm2d(32)
    whole = fit(clip, pairs, SHORT)
    parts = fit(clip, pairs, replace(SHORT, pairs_at_once=2))
    for one, other in zip(whole.steps, parts.steps, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
    assert not whole.clip.module.visual.conv1[1].running_mean.any()


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("batch_pairs", 1, "at least 2"),
        ("steps", 0, "at least 1"),
        ("pairs_at_once", 0, "at least 1"),
        ("learning_rate", 0.0, "positive"),
        ("final_fraction", 1.5, r"in \[0, 1\]"),
        ("locked", "both", "image, text or None"),
        ("precision", "float16", "one of float32, bfloat16"),
        ("betas", (0.9, 1.0), r"in \[0, 1\)"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name: str, value: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: must be {rule}"):
        replace(SHORT, **{name: value})


@pytest.mark.parametrize(
    ("architecture", "tokens", "message"),
    [
        ("nano-clip", (), "must know at least one"),
        ("nano-clip", (3, 2), "ids of at least 0 that rise"),
        ("nano-clip", (2, 2), "ids of at least 0 that rise"),
        ("ViT-B-32", (2,), "must be empty but for nano-clip"),
    ],
)
def test_tokens_that_make_no_sense_are_refused(
    architecture: str, tokens: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ClipConfig(architecture=architecture, tokens=tokens)


def test_texts_without_images_are_refused() -> None:
    with pytest.raises(ValueError, match="texts: must be one for each of 1 images, but got 2"):
        ListedPairs(images=[np.zeros((2, 2, 3), np.uint8)], texts=["a", "b"])
