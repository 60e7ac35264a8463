"""The whole loop on drawn images: what each turn leaves, and that it goes on where it stopped."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from annotator.item import proposal_ids
from annotator.submission import Decision, Submission
from flows.annotating.people import PeopleOutcome
from flows.asking.assist import AssistOutcome, assist_stage
from flows.errors import StageError, UsageError
from flows.exporting import export_coco
from flows.generation.generate import GenerateOutcome, generate_stage
from flows.merging.merge import MergeOutcome, merge_stage
from flows.processes.prefect_server import free_port
from flows.progress import Progress, Silent
from flows.recipes import Recipe
from flows.runs import Turn
from flows.settings import WorkerSettings
from flows.training.train import TrainOutcome, TrainRequest, train_stage
from flows.turns.loop import LoopConfig, review_stage, run_loop
from flows.upkeep.checking import fsck
from flows.workspace import Workspace

pytestmark = pytest.mark.timeout(900)


@dataclass
class Here:
    """The stages as plain calls in this process, without Ray; it may be stopped before one."""

    workspace: Workspace
    recipe: Recipe
    config: LoopConfig
    stop_before: str = ""
    progress: Progress = field(default_factory=Silent)
    called: list[str] = field(default_factory=list)

    def _go(self, stage: str, turn: Turn) -> None:
        self.called.append(f"{stage} {turn.iteration}")
        if self.called[-1] == self.stop_before:
            raise KeyboardInterrupt

    def train(self, turn: Turn, request: TrainRequest) -> TrainOutcome:
        self._go("control" if request.control else "train", turn)
        return train_stage(self.workspace, self.recipe, self.progress, turn=turn, request=request)

    def assist(self, turn: Turn) -> AssistOutcome:
        self._go("assist", turn)
        return assist_stage(self.workspace, self.recipe, self.progress, turn=turn)

    def review(self, turn: Turn, run_id: str) -> PeopleOutcome:
        self._go("review", turn)
        return review_stage(
            self.workspace, self.recipe, self.config, self.progress, turn=turn, run_id=run_id
        )

    def merge(self, turn: Turn) -> MergeOutcome:
        self._go("merge", turn)
        return merge_stage(self.workspace, self.progress, turn=turn)

    def generate(self, turn: Turn) -> GenerateOutcome:
        self._go("generate", turn)
        local = replace(self.workspace.settings, workers=WorkerSettings(kind="local"))
        here = replace(self.workspace, settings=local)
        return generate_stage(here, self.recipe, self.progress, turn=turn)


@dataclass(frozen=True)
class Stopped:
    """A loop that was stopped once and ran again, and what was called either time."""

    workspace: Workspace
    before: list[str]
    after: list[str]


IN_TEAM = pytest.param(
    "filled_team", marks=[pytest.mark.slow, pytest.mark.postgres, pytest.mark.s3], id="team"
)


@pytest.fixture(scope="module", params=[pytest.param("filled_here", id="folder"), IN_TEAM])
def stopped(request: pytest.FixtureRequest, drawn, recipe: Recipe) -> Iterator[Stopped]:
    """Two turns with the simulated annotator and a control, stopped in the middle of the first.

    Once with the store in the workspace, once in S3 and Postgres with the queue.
    """
    filled = request.getfixturevalue(request.param)
    config = LoopConfig(annotate="simulated", truth=drawn.truth, control=True)
    with filled() as opened:
        first = Here(opened, recipe, config, stop_before="merge 1")
        with pytest.raises(KeyboardInterrupt):
            run_loop(opened, recipe, config, first, Silent())
        second = Here(opened, recipe, config)
        run_loop(opened, recipe, config, second, Silent())
        yield Stopped(opened, first.called, second.called)


@pytest.fixture
def looped(stopped: Stopped) -> Workspace:
    return stopped.workspace


def test_a_loop_that_was_stopped_goes_on_where_it_stopped(stopped: Stopped) -> None:
    assert stopped.before == ["train 1", "assist 1", "review 1", "merge 1"]
    assert stopped.after == [
        "merge 1",
        *("train 2", "control 2", "assist 2", "review 2", "merge 2"),
        *("train 3", "control 3", "generate 3"),
    ]
    assert len(stopped.workspace.lake.rows("SELECT 1 FROM runs WHERE stage = 'loop'")) == 1


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


class Person(Silent):
    """Somebody who, once there, rejects all proposals of an item at each look."""

    def __init__(self, workspace: Workspace) -> None:
        self.queue = workspace.queue

    def step(self, what: str, done: int, total: int) -> None:  # noqa: ARG002 -- Progress's own
        if what == "images reviewed" and (lease := self.queue.claim("ada")) is not None:
            names = proposal_ids(lease.item.payload)
            decisions = tuple(Decision(proposal_id=name, action="rejected") for name in names)
            body = Submission(decisions=decisions).to_dict()
            item = lease.item.item_id
            self.queue.submit(item, lease.lease_token, "ada", f"{item}-{len(names)}", body)


def at_free_port(workspace: Workspace) -> Workspace:
    annotator = replace(workspace.settings.annotator, port=free_port())
    return replace(workspace, settings=replace(workspace.settings, annotator=annotator))


def test_a_loop_that_nobody_came_to_asks_again(filled: Workspace, recipe: Recipe) -> None:
    here = at_free_port(filled)
    missed = LoopConfig(iterations=1, deadline_s=0)
    with pytest.raises(StageError, match="nobody reviewed an image before the deadline"):
        run_loop(here, recipe, missed, Here(here, recipe, missed), Silent())
    config = LoopConfig(iterations=1)
    again = Here(here, recipe, config, stop_before="train 2", progress=Person(here))
    with pytest.raises(KeyboardInterrupt):
        run_loop(here, recipe, config, again, Silent())
    assert again.called == ["assist 1", "review 1", "merge 1", "train 2"]
    reviews = filled.lake.rows("SELECT count(*) AS n FROM reviews")[0]["n"]
    assert reviews == recipe.assist.num_images
    assert len(filled.lake.rows("SELECT 1 FROM runs WHERE stage = 'loop'")) == 1


def test_a_loop_waits_for_what_a_separate_assist_has_queued(
    filled: Workspace, recipe: Recipe
) -> None:
    here = at_free_port(filled)
    everything = replace(recipe, assist=replace(recipe.assist, num_images=12, pool=12))
    queued = assist_stage(here, everything, Silent()).num_items
    config = LoopConfig(iterations=1)
    stages = Here(here, recipe, config, stop_before="train 2", progress=Person(here))
    with pytest.raises(KeyboardInterrupt):
        run_loop(here, recipe, config, stages, Silent())
    # Assist has no image left to ask about, and there is work all the same.
    assert stages.called == ["train 1", "assist 1", "review 1", "merge 1", "train 2"]
    assert filled.lake.rows("SELECT count(*) AS n FROM reviews")[0]["n"] == queued > 0


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
