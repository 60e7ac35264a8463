"""The loop: train -> assist -> people -> merge, N times; then a closing training and generation.

Each step leaves a run row with status `done`, so a loop that was stopped goes on where it stopped.
A control, when asked for, starts as the loop's first model does, trains as many steps at every
turn, and only ever sees the first labels: what the loop has over it, the people's work gave.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

from flows.annotating.doors import check_guarded
from flows.annotating.people import (
    Batch,
    PeopleOutcome,
    people_review,
    simulated_review,
    waiting_runs,
)
from flows.asking.assist import AssistOutcome
from flows.errors import StageError, UsageError
from flows.generation.generate import GenerateOutcome
from flows.locks import stage_lock
from flows.merging.merge import MergeOutcome
from flows.models import serving
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.training.train import TrainOutcome, TrainRequest
from flows.workspace import Workspace, to_json


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How often to turn, who annotates, and whether to train a control."""

    iterations: int = 2
    annotate: Literal["people", "simulated"] = "people"
    truth: Path | None = None
    control: bool = False
    deadline_s: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UsageError(f"--iterations: must be at least 1, but got {self.iterations}")
        if self.annotate == "simulated" and self.truth is None:
            raise UsageError("--truth: a simulated annotator needs one; name a COCO file")
        if self.annotate == "people" and self.truth is not None:
            raise UsageError("--truth: only for --annotate simulated; leave it out")

    def to_dict(self) -> dict[str, object]:
        """JSON values, for a flow's parameters."""
        return asdict(self) | {"truth": str(self.truth) if self.truth else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LoopConfig":
        """The inverse of `to_dict`; raises UsageError for a key that there is not."""
        if unknown := values.keys() - {item.name for item in fields(cls)}:
            raise UsageError(f"loop config: unknown key {sorted(unknown)[0]!r}")
        truth = values.get("truth")
        return cls(**(values | {"truth": Path(truth) if truth else None}))


@dataclass(frozen=True, kw_only=True)
class LoopOutcome:
    """Where the loop stands at its end."""

    run_id: str
    version: str
    num_generated: int


class Stages(Protocol):
    """The stages as the loop calls them: tasks of Prefect, or plain calls."""

    def train(self, turn: Turn, request: TrainRequest) -> TrainOutcome:
        """Stage 1."""

    def assist(self, turn: Turn) -> AssistOutcome:
        """Stage 2, the model's half."""

    def review(self, turn: Turn, run_id: str) -> PeopleOutcome:
        """Stage 2, people's half."""

    def merge(self, turn: Turn) -> MergeOutcome:
        """People's submissions into the store."""

    def generate(self, turn: Turn) -> GenerateOutcome:
        """Stage 3."""


def review_stage(
    workspace: Workspace,
    recipe: Recipe,
    config: LoopConfig,
    progress: Progress,
    *,
    turn: Turn,
    run_id: str,
) -> PeopleOutcome:
    """Wait for people, or for the simulated annotator, to finish the items of `run_id`.

    Items that waited before count as well. Raises StageError when nobody has finished one by the
    deadline; then the turn's assist counts as failed too, and the same loop asks anew.
    """
    with stage_lock(workspace, "review"):
        reconcile_runs(workspace, "review")
        run = new_run("review", turn=turn, config=to_json({"annotate": config.annotate}))
        start_run(workspace, run)
        with failing_run(workspace, run.run_id):
            batch = Batch.of(workspace, run_id)
            if older := batch.num_older:
                progress.note(f"{older} images that waited before are part of this turn")
            outcome = _reviewed(workspace, recipe, config, progress, batch)
            if outcome.timed_out:
                _end_at_deadline(workspace, batch, outcome, turn, progress)
            workspace.lake.commit(
                lambda tx: finish_run(tx, run.run_id, num_images=outcome.num_done),
                message="reviewed",
            )
    return outcome


def _reviewed(
    workspace: Workspace, recipe: Recipe, config: LoopConfig, progress: Progress, batch: Batch
) -> PeopleOutcome:
    if config.annotate == "people":
        return people_review(workspace, batch, deadline_s=config.deadline_s, progress=progress)
    assert config.truth is not None, "LoopConfig asks for one"
    return simulated_review(
        workspace,
        batch,
        config.truth,
        budget=recipe.clicks_per_image,
        deadline_s=config.deadline_s,
        progress=progress,
    )


def _end_at_deadline(
    workspace: Workspace, batch: Batch, outcome: PeopleOutcome, turn: Turn, progress: Progress
) -> None:
    nobody = "nobody reviewed an image before the deadline"
    if not outcome.num_done:
        # Before its items go: after a crash in between, an assist that is done would have none.
        workspace.lake.commit(
            lambda tx: tx.execute(
                "UPDATE runs SET status = 'failed', detail = ? WHERE stage = 'assist' "
                "AND status = 'done' AND parent_run_id = ? AND iteration = ?",
                (nobody, turn.parent_run_id, turn.iteration),
            ),
            message=nobody,
        )
    progress.note(f"deadline passed: {batch.withdraw()} images go back unseen")
    if not outcome.num_done:
        raise StageError(f"loop: {nobody}; run the same command again")


def run_loop(
    workspace: Workspace,
    recipe: Recipe,
    config: LoopConfig,
    stages: Stages,
    progress: Progress,
    *,
    on_turn: Callable[[int], None] = lambda _: None,
) -> LoopOutcome:
    """Turn the loop; the same call after a crash or Ctrl+C goes on with the first step not done."""
    if config.annotate == "people":
        # Now, not after hours of training, when people are waited for.
        check_guarded(workspace)
    with stage_lock(workspace, "loop"):
        loop = _Loop(workspace, recipe, config, stages, progress)
        for iteration in range(1, config.iterations + 1):
            progress.note(f"iteration {iteration} of {config.iterations}")
            loop.train(iteration)
            loop.annotate(iteration)
            on_turn(iteration)
        closing = config.iterations + 1
        progress.note("closing training and generation")
        loop.train(closing)
        generated = loop.generate(closing)
        loop.finish()
        on_turn(closing)
    version = serving.current_version(workspace)
    assert version is not None, "training has put a model in service"
    return LoopOutcome(run_id=loop.run_id, version=version, num_generated=generated)


class _Loop:
    """One loop run and which of its steps are done."""

    def __init__(
        self,
        workspace: Workspace,
        recipe: Recipe,
        config: LoopConfig,
        stages: Stages,
        progress: Progress,
    ) -> None:
        self._workspace = workspace
        self._recipe = recipe
        self._config = config
        self._stages = stages
        self._progress = progress
        self.run_id = self._unfinished() or self._start()

    def _key(self) -> str:
        # The truth file is where the annotator looks, not what the loop is.
        return to_json(
            {
                "iterations": self._config.iterations,
                "annotate": self._config.annotate,
                "control": self._config.control,
            }
        )

    def _unfinished(self) -> str | None:
        rows = self._workspace.lake.rows(
            "SELECT run_id FROM runs WHERE stage = 'loop' AND status = 'running' "
            "AND recipe = ? AND config = ? ORDER BY started_at DESC LIMIT 1",
            (self._recipe.name, self._key()),
        )
        if not rows:
            return None
        self._progress.note("going on with the loop that was stopped")
        return str(rows[0]["run_id"])

    def _start(self) -> str:
        turn = Turn(recipe=self._recipe.name)
        return start_run(self._workspace, new_run("loop", config=self._key(), turn=turn))

    def finish(self) -> None:
        """Close the loop's own row."""
        self._workspace.lake.commit(lambda tx: finish_run(tx, self.run_id), message="loop finished")

    def _turn(self, iteration: int) -> Turn:
        return Turn(iteration=iteration, parent_run_id=self.run_id, recipe=self._recipe.name)

    def _done(self, stage: str, iteration: int) -> dict[str, object] | None:
        rows = self._workspace.lake.rows(
            "SELECT run_id, model_version, num_images, num_masks FROM runs "
            "WHERE parent_run_id = ? AND stage = ? AND iteration = ? AND status = 'done'",
            (self.run_id, stage, iteration),
        )
        return rows[0] if rows else None

    def train(self, iteration: int) -> None:
        """The iteration's training, and from the second on the control's."""
        if self._done("train", iteration) is None:
            self._stages.train(self._turn(iteration), TrainRequest())
        if self._config.control and iteration > 1 and self._done("control", iteration) is None:
            start = self._control_start(iteration)
            self._stages.train(self._turn(iteration), TrainRequest(start=start, control=True))

    def _control_start(self, iteration: int) -> str:
        previous = self._done("control", iteration - 1)
        if previous is not None:
            return str(previous["model_version"])
        first = self._done("train", 1)
        assert first is not None, "iteration 1 is trained before any control"
        row = serving.model_row(self._workspace, str(first["model_version"]))
        # Both lines start with the same weights: those that the loop's next training starts with.
        return row.parent if row.status == "rejected" and row.parent else row.version

    def annotate(self, iteration: int) -> None:
        """Proposals, people, and their work into the store."""
        if self._done("merge", iteration) is not None:
            return
        turn = self._turn(iteration)
        if self._done("review", iteration) is None:
            run_id = self._assisted(turn, iteration)
            if run_id is None:
                return
            self._stages.review(turn, run_id)
        self._stages.merge(turn)

    def _assisted(self, turn: Turn, iteration: int) -> str | None:
        """The run whose items people are asked about; None when there is nothing to ask."""
        assisted = self._done("assist", iteration)
        if assisted is not None:
            return str(assisted["run_id"])
        try:
            return self._stages.assist(turn).run_id
        except UsageError as error:
            self._progress.note(f"iteration {iteration}: {error}")
        return next(iter(waiting_runs(self._workspace)), None)

    def generate(self, iteration: int) -> int:
        """Stage 3 over every image; the number of masks."""
        done = self._done("generate", iteration)
        if done is not None:
            return int(str(done["num_masks"] or 0))
        return self._stages.generate(self._turn(iteration)).num_masks
