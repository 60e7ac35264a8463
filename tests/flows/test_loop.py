"""The whole loop on drawn images: what each turn leaves, and that it goes on where it stopped."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from flows.checking import fsck
from flows.errors import UsageError
from flows.exporting import export_coco
from flows.generation import GenerateOutcome
from flows.loop import DirectStages, LoopConfig, run_loop
from flows.merge import MergeOutcome
from flows.progress import Silent
from flows.recipes import Recipe
from flows.runs import Turn
from flows.settings import WorkerSettings
from flows.workspace import Workspace, open_workspace

pytestmark = pytest.mark.timeout(900)


def stages(workspace: Workspace, recipe: Recipe, config: LoopConfig) -> DirectStages:
    """The stages in this process, without Ray."""
    local = replace(workspace.settings, workers=WorkerSettings(kind="local"))
    return DirectStages(replace(workspace, settings=local), recipe, config, Silent())


@pytest.fixture(scope="module")
def looped(
    filled_root: Path, drawn, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """A workspace after two turns with the simulated annotator and a control."""
    root = tmp_path_factory.mktemp("looped") / "workspace"
    shutil.copytree(filled_root, root)
    opened = open_workspace(root)
    config = LoopConfig(annotate="simulated", truth=drawn.truth, control=True)
    run_loop(opened, recipe, config, stages(opened, recipe, config), Silent())
    yield opened
    opened.queue.close()
    opened.pointer.close()
    opened.lake.close()


def test_each_step_of_each_turn_was_done_once(looped: Workspace) -> None:
    rows = looped.lake.rows(
        "SELECT stage, iteration, count(*) AS n FROM runs WHERE iteration IS NOT NULL "
        "AND status = 'done' GROUP BY ALL"
    )
    turn = ("train", "assist", "review", "merge")
    expected = {(stage, number): 1 for number in (1, 2) for stage in turn}
    expected |= {("train", 3): 1, ("generate", 3): 1, ("control", 2): 1, ("control", 3): 1}
    assert {(row["stage"], row["iteration"]): row["n"] for row in rows} == expected


def test_every_mask_of_a_model_joins_to_it_and_to_its_snapshot(looped: Workspace) -> None:
    rows = looped.lake.rows(
        """SELECT m.mask_id FROM masks m LEFT JOIN model_versions v
           ON m.model_version = v.version
           WHERE m.stage IN ('semi', 'auto')
             AND (v.version IS NULL OR v.training_snapshot IS NULL)"""
    )
    assert rows == []
    stages_found = {row["stage"] for row in looped.lake.rows("SELECT DISTINCT stage FROM masks")}
    assert "label" in stages_found
    assert stages_found & {"semi", "manual"}


def test_no_gold_image_was_ever_trained_on(looped: Workspace) -> None:
    query = (
        "SELECT t.image_id FROM training_sets t JOIN images i USING (image_id) WHERE split = 'gold'"
    )
    assert looped.lake.rows(query) == []


def test_a_training_set_can_be_read_again_at_its_snapshot(looped: Workspace) -> None:
    for row in looped.lake.rows("SELECT * FROM model_versions WHERE role <> 'base'"):
        stages_seen = "('label')" if row["role"] == "control" else "('label', 'manual', 'semi')"
        then = looped.lake.rows(
            f"""SELECT count(*) AS masks, count(DISTINCT image_id) AS images
                FROM current_masks JOIN images USING (image_id)
                WHERE split <> 'gold' AND stage IN {stages_seen} AND NOT is_crowd""",
            snapshot=row["training_snapshot"],
        )[0]
        assert then == {
            "masks": row["num_training_masks"],
            "images": row["num_training_images"],
        }


def test_later_models_saw_more_and_the_control_did_not(looped: Workspace) -> None:
    rows = looped.lake.rows(
        "SELECT role, num_training_masks AS n FROM model_versions WHERE role <> 'base' "
        "ORDER BY created_at, length(version), version"
    )
    candidates = [row["n"] for row in rows if row["role"] == "candidate"]
    controls = [row["n"] for row in rows if row["role"] == "control"]
    assert candidates[0] < candidates[1] < candidates[2]
    assert controls == [candidates[0]] * 2


def test_a_control_never_serves(looped: Workspace) -> None:
    assert (
        looped.lake.rows(
            "SELECT version FROM model_versions WHERE role = 'control' AND status <> 'rejected'"
        )
        == []
    )


def test_every_click_is_kept(looped: Workspace) -> None:
    told = looped.lake.rows("SELECT sum(num_clicks)::BIGINT AS n FROM reviews")[0]["n"]
    kept = looped.lake.rows("SELECT count(*) AS n FROM clicks")[0]["n"]
    assert kept == told > 0


def test_the_store_is_sound(looped: Workspace) -> None:
    assert fsck(looped) == []


def test_the_masks_can_be_exported(looped: Workspace, tmp_path: Path) -> None:
    written = export_coco(looped, tmp_path / "masks.json")
    standing = looped.lake.rows("SELECT count(*) AS n FROM current_masks")[0]["n"]
    assert written["masks"] == standing > 0


@dataclass
class StoppedAt:
    """The stages of a process that is stopped before one of them, the first time round."""

    inner: DirectStages
    stage: str
    called: list[str] = field(default_factory=list)

    def _go(self, stage: str, turn: Turn) -> None:
        self.called.append(f"{stage} {turn.iteration}")
        if self.called[-1] == self.stage:
            raise KeyboardInterrupt

    def train(self, turn: Turn, request: object) -> object:
        self._go("train", turn)
        return self.inner.train(turn, request)

    def assist(self, turn: Turn) -> object:
        self._go("assist", turn)
        return self.inner.assist(turn)

    def review(self, turn: Turn, run_id: str) -> object:
        self._go("review", turn)
        return self.inner.review(turn, run_id)

    def merge(self, turn: Turn) -> MergeOutcome:
        self._go("merge", turn)
        return self.inner.merge(turn)

    def generate(self, turn: Turn) -> GenerateOutcome:
        self._go("generate", turn)
        return self.inner.generate(turn)


def test_a_loop_that_was_stopped_goes_on_where_it_stopped(
    filled: Workspace, drawn, recipe: Recipe
) -> None:
    config = LoopConfig(iterations=1, annotate="simulated", truth=drawn.truth)
    inner = stages(filled, recipe, config)
    first = StoppedAt(inner, "merge 1")
    with pytest.raises(KeyboardInterrupt):
        run_loop(filled, recipe, config, first, Silent())
    second = StoppedAt(inner, "never")
    run_loop(filled, recipe, config, second, Silent())
    assert first.called == ["train 1", "assist 1", "review 1", "merge 1"]
    assert second.called == ["merge 1", "train 2", "generate 2"]
    assert len(filled.lake.rows("SELECT 1 FROM runs WHERE stage = 'loop'")) == 1
    assert fsck(filled) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iterations": 0}, "--iterations: must be at least 1"),
        ({"annotate": "simulated"}, "--truth: a simulated annotator needs one"),
        ({"truth": Path("x.json")}, "--truth: only for --annotate simulated"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LoopConfig(**values)


def test_a_config_survives_a_flows_parameters() -> None:
    config = LoopConfig(annotate="simulated", truth=Path("truth.json"), control=True)
    assert LoopConfig.from_dict(config.to_dict()) == config
    with pytest.raises(UsageError, match="unknown key 'iteration'"):
        LoopConfig.from_dict({"iteration": 2})
