"""Stage 1 on drawn images: what is registered, what the gate does, and going on after a stop."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.model import weights
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.training.trainer import TrainResult
from engine.training.trainer import train as train_model
from flows.errors import StageError, UsageError
from flows.intake.coco_import import ImportOptions, import_coco
from flows.locks import stage_lock
from flows.models import serving
from flows.models.start_weights import start_weights
from flows.progress import Silent
from flows.recipes import GateConfig, Recipe
from flows.runs import new_run, start_run
from flows.settings import ModelSettings
from flows.training import train as stage
from flows.training.evaluation import gold_scores
from flows.training.train import TrainRequest, train_stage
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.durable import file_sha256
from storage.rows import RetractionRow, TrainingSetRow, utcnow

# The tiny recipe learns nothing: here the gate lets everything pass that is not broken.
LENIENT = GateConfig(margin=0.99)


def quiet(_done: int, _total: int) -> None:
    return


@pytest.fixture
def lenient(recipe: Recipe) -> Recipe:
    return replace(recipe, gate=LENIENT)


@pytest.fixture
def labelled(workspace: Workspace, drawn: Any) -> Workspace:
    """Labels and no gold: nothing is measured, which takes most of the time."""
    import_coco(workspace, drawn.truth, drawn.folder, ImportOptions(gold=0.0), quiet)
    return workspace


def test_a_training_leaves_everything_that_explains_it(filled: Workspace, lenient: Recipe) -> None:
    labels_from = filled.lake.snapshot()
    outcome = train_stage(filled, lenient, Silent())
    assert (outcome.version, outcome.parent, outcome.promoted) == ("v2", "v1", True)
    row = serving.model_row(filled, "v2")
    facts = (row.parent, row.status, row.role, row.generation_depth)
    assert facts == ("v1", "promoted", "candidate", 1)
    assert row.reason == outcome.reason
    assert labels_from <= row.training_snapshot < filled.lake.snapshot()
    assert file_sha256(filled.root / row.weights_uri) == row.weights_sha256
    trained_on = (row.num_training_images, row.num_training_masks)
    assert trained_on == (outcome.num_images, outcome.num_masks)
    assert serving.model_row(filled, "v1").status == "retired"
    [run] = filled.lake.rows("SELECT * FROM runs WHERE stage = 'train'")
    assert (run["run_id"], run["status"], run["model_version"]) == (outcome.run_id, "done", "v2")
    assert run["config_hash"] == row.config_hash
    steps = filled.lake.rows("SELECT * FROM training_steps ORDER BY step")
    assert [step["step"] for step in steps] == list(range(1, lenient.training.steps + 1))
    assert {step["run_id"] for step in steps} == {outcome.run_id}
    assert not list(filled.folder("checkpoints").iterdir())
    check_gold(filled)


def check_gold(workspace: Workspace) -> None:
    """No gold image was trained on, and both models were measured on the same gold images."""
    rows = workspace.lake.rows(
        "SELECT split FROM training_sets JOIN images USING (image_id) GROUP BY 1"
    )
    assert rows == [{"split": "train"}]
    scores = workspace.lake.rows(
        "SELECT DISTINCT model_version, split, config_hash FROM evaluations "
        "WHERE split = 'gold' ORDER BY 1"
    )
    measured = [(row["model_version"], row["split"]) for row in scores]
    assert measured == [("v1", "gold"), ("v2", "gold")]
    assert scores[0]["config_hash"] == scores[1]["config_hash"]


def destroyed(*args: Any, **more: Any) -> Any:
    """The real training, after which a fault turns the weights into noise."""
    result = train_model(*args, **more)
    with torch.no_grad():
        for parameter in result.model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return result


def test_a_destroyed_model_is_measured_and_rejected(
    filled: Workspace, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "train", destroyed)
    outcome = train_stage(filled, recipe, Silent())
    assert not outcome.promoted
    assert "falls short of" in outcome.reason
    # Judged image by image: the table ends with the interval of the mean difference.
    assert re.search(r"^mean .* -0\.\d+ to -0\.\d+$", outcome.reason, re.MULTILINE)
    assert serving.current_version(filled) == "v1"
    assert serving.model_row(filled, "v2").status == "rejected"
    assert serving.model_row(filled, "v2").reason == outcome.reason


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_gold_image_that_a_model_has_learnt_from_stops_a_training(
    filled: Workspace, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    serving.ensure_base(filled, recipe, Silent())
    gold = filled.lake.rows("SELECT image_id FROM images WHERE split = 'gold'")[0]["image_id"]
    footprint = TrainingSetRow(version="v1", image_id=gold, num_masks=1, mask_ids=[])

    def spoil() -> None:
        filled.lake.commit(lambda tx: tx.insert([footprint]), message="spoilt")

    def trained(*args: Any, **more: Any) -> TrainResult:
        assert when == "meanwhile"
        spoil()
        return train_model(*args, **more)

    monkeypatch.setattr(stage, "train", trained)
    if when == "before":
        spoil()
    with pytest.raises(StageError, match=rf"^gold image {gold} has a footprint .* v1 was trained"):
        train_stage(filled, recipe, Silent())
    assert filled.lake.rows("SELECT version FROM model_versions") == [{"version": "v1"}]
    assert serving.current_version(filled) == "v1"
    runs = filled.lake.rows("SELECT status FROM runs WHERE stage = 'train'")
    assert runs == ([] if when == "before" else [{"status": "failed"}])
    assert any(gold in breach.where for breach in fsck(filled))


def shipped(*, noise: float = 0.0) -> PromptableSam:
    """The model that ships, its weights off by `noise` of their spread."""
    model, _ = weights.load(weights.shipped())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1:
                parameter.add_(torch.randn_like(parameter) * parameter.std() * noise)
    return model


def test_a_better_model_serves_a_worse_one_does_not_and_the_former_returns(
    filled: Workspace, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "noisy.safetensors"
    own.write_bytes(weights.to_bytes(shipped(noise=0.5), ModelConfig()))
    settings = replace(filled.settings, model=ModelSettings(checkpoint=str(own)))
    workspace = replace(filled, settings=settings)
    candidates = iter([shipped(), shipped(noise=0.5)])

    def trained(*_args: Any, **_more: Any) -> TrainResult:
        return TrainResult(model=next(candidates), steps=())

    monkeypatch.setattr(stage, "train", trained)
    better, worse = (train_stage(workspace, recipe, Silent()) for _ in range(2))
    assert (better.version, better.promoted) == ("v2", True)
    assert (worse.version, worse.promoted) == ("v3", False)
    assert serving.current_version(workspace) == "v2"
    assert serving.rollback(workspace) == serving.current_version(workspace) == "v1"
    rows = [serving.model_row(workspace, version) for version in ("v1", "v2", "v3")]
    assert [row.status for row in rows] == ["promoted", "retired", "rejected"]
    assert [entry.model_version for entry in workspace.pointer.history()] == ["v1", "v2", "v1"]


def test_without_gold_images_a_candidate_is_promoted_unmeasured(
    labelled: Workspace, recipe: Recipe
) -> None:
    outcome = train_stage(labelled, recipe, Silent())
    assert outcome.promoted
    assert "unmeasured" in outcome.reason
    assert outcome.scores == {}


def test_what_was_revoked_in_its_line_is_said_of_what_is_promoted(
    labelled: Workspace, recipe: Recipe
) -> None:
    first = train_stage(labelled, recipe, Silent())
    [run] = labelled.lake.rows("SELECT DISTINCT run_id FROM masks")
    [taught, *_] = labelled.lake.rows("SELECT mask_id FROM training_masks ORDER BY mask_id")
    labelled.lake.commit(
        lambda tx: tx.insert(
            [
                RetractionRow(
                    mask_id=taught["mask_id"],
                    run_id=run["run_id"],
                    created_at=utcnow(),
                    cause="annotator ada",
                )
            ]
        ),
        message="test",
    )
    outcome = train_stage(labelled, recipe, Silent())
    assert (outcome.promoted, first.promoted) == (True, True)
    said = f"but something in its line was revoked: maskloop lineage {outcome.version}"
    assert outcome.reason.endswith(said)
    assert "revoked" not in first.reason


def test_without_labels_nothing_is_recorded(workspace: Workspace, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="no labelled image; run: maskloop import coco"):
        train_stage(workspace, recipe, Silent())
    assert workspace.lake.rows("SELECT stage FROM runs") == []
    assert workspace.lake.rows("SELECT version FROM model_versions") == []
    assert serving.current_version(workspace) is None


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def tiny(recipe: Recipe, filled: Workspace, tmp_path: Path) -> tuple[Workspace, Recipe]:
    """A recipe of another architecture than nano's, and the workspace that names its checkpoint."""
    checkpoint = tmp_path / "tiny.pth"
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    torch.save(model.state_dict(), checkpoint)
    settings = replace(filled.settings, model=ModelSettings(checkpoint=str(checkpoint)))
    return replace(filled, settings=settings), replace(recipe, name="tiny", start="nano_tiny")


def test_a_recipe_of_another_architecture_starts_from_its_own_base(
    tiny: tuple[Workspace, Recipe], recipe: Recipe
) -> None:
    workspace, other = tiny
    assert serving.ensure_base(workspace, recipe, Silent()) == "v1"
    said = Notes()
    outcome = train_stage(workspace, other, said)
    assert (outcome.version, outcome.parent, outcome.promoted) == ("v3", "v2", False)
    base, trained = (serving.model_row(workspace, version) for version in ("v2", "v3"))
    assert (base.role, base.status, base.parent) == ("base", "candidate", None)
    assert base.architecture == trained.architecture == "nano_tiny"
    assert said.notes == [
        "recipe tiny is of architecture nano_tiny, but v1, which serves, of nano: training starts "
        "from v2, the recipe's own base"
    ]
    # Measured against nano, which is better than weights drawn at random.
    assert serving.current_version(workspace) == "v1"
    again = train_stage(workspace, replace(other, gate=LENIENT), Silent())
    assert (again.version, again.parent, again.promoted) == ("v4", "v2", True)
    assert fsck(workspace) == []
    onward = train_stage(workspace, replace(other, gate=LENIENT), Silent())
    assert onward.parent == "v4"


def test_a_recipe_without_its_checkpoint_changes_nothing(filled: Workspace, recipe: Recipe) -> None:
    serving.ensure_base(filled, recipe, Silent())
    snapshot = filled.lake.snapshot()
    settings = replace(filled.settings, model=ModelSettings(checkpoint="missing.pth"))
    with pytest.raises(UsageError, match=r"model\.checkpoint: missing\.pth: no such file"):
        train_stage(replace(filled, settings=settings), replace(recipe, start="vit_b"), Silent())
    assert filled.lake.snapshot() == snapshot


def test_a_training_on_its_own_names_its_recipe(labelled: Workspace, recipe: Recipe) -> None:
    train_stage(labelled, recipe, Silent())
    rows = labelled.lake.rows("SELECT stage, recipe FROM runs WHERE stage <> 'import' ORDER BY 1")
    assert [(row["stage"], row["recipe"]) for row in rows] == [
        ("base", "quick"),
        ("train", "quick"),
    ]


def test_a_control_never_serves(labelled: Workspace, recipe: Recipe) -> None:
    outcome = train_stage(labelled, recipe, Silent(), request=TrainRequest(control=True))
    assert not outcome.promoted
    assert serving.current_version(labelled) == "v1"
    row = serving.model_row(labelled, outcome.version)
    assert (row.role, row.status) == ("control", "rejected")


class Stopping(Silent):
    """A user who presses Ctrl+C after the last step, before its checkpoint is written."""

    def step(self, what: str, done: int, total: int) -> None:
        if what.startswith("training steps") and done == total:
            raise KeyboardInterrupt


class Counting(Silent):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, what: str, done: int, total: int) -> None:  # noqa: ARG002 -- Progress's own
        if what.startswith("training steps"):
            self.steps.append(done)


def test_a_stopped_training_goes_on_and_ends_where_an_undisturbed_one_does(
    labelled: Workspace, recipe: Recipe
) -> None:
    undisturbed = train_stage(labelled, recipe, Silent())
    again = TrainRequest(start="v1")
    with pytest.raises(KeyboardInterrupt):
        train_stage(labelled, recipe, Stopping(), request=again)
    runs = labelled.lake.rows("SELECT status FROM runs WHERE stage = 'train' ORDER BY started_at")
    assert [row["status"] for row in runs] == ["done", "failed"]
    counting = Counting()
    outcome = train_stage(labelled, recipe, counting, request=again)
    assert counting.steps == [2]
    weights_of = [
        serving.model_row(labelled, version).weights_sha256
        for version in (undisturbed.version, outcome.version)
    ]
    assert weights_of[0] == weights_of[1]


def test_a_second_training_is_told_of_the_first(filled: Workspace, recipe: Recipe) -> None:
    with stage_lock(filled, "train"), pytest.raises(StageError, match="another process is at it"):
        train_stage(filled, recipe, Silent())


@pytest.mark.parametrize("stage", ["train", "control"])
def test_runs_of_a_process_that_died_are_closed(
    workspace: Workspace, recipe: Recipe, stage: str
) -> None:
    dead = start_run(workspace, new_run(stage))
    with pytest.raises(UsageError, match="no labelled image"):
        train_stage(workspace, recipe, Silent())
    [run] = workspace.lake.rows("SELECT * FROM runs WHERE run_id = ?", (dead,))
    assert (run["status"], run["detail"]) == ("failed", "the process ended without a word")


def test_scores_are_measured_once(filled: Workspace, recipe: Recipe) -> None:
    version = serving.ensure_base(filled, recipe, Silent())
    predictor = serving.load_predictor(filled, version)
    first = gold_scores(filled, predictor, recipe, "run", Silent())
    snapshot = filled.lake.snapshot()
    assert gold_scores(filled, predictor, recipe, "run", Silent()) == pytest.approx(first)
    assert filled.lake.snapshot() == snapshot
    assert {"iou_1_click", "noc85", "ar1000", "ap50", "f1_50"} <= first.keys()


def test_the_base_model_is_the_recipes_start(workspace: Workspace, recipe: Recipe) -> None:
    version = serving.ensure_base(workspace, recipe, Silent())
    assert serving.ensure_base(workspace, recipe, Silent()) == version == "v1"
    data, config = start_weights(recipe, workspace.settings.model, Silent())
    row = serving.model_row(workspace, version)
    assert workspace.objects.get(row.weights_uri, sha256=row.weights_sha256) == data
    assert weights.read_config(data) == config
