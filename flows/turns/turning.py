"""A turn of the loop by itself: merge -> train -> refresh what still waits -> assist.

Each step is a run with the turn as its parent, so a turn whose process was killed goes on with its
first step that is not done. Nobody waits for people: a turn ends when they have work again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flows.asking.assist import AssistOutcome
from flows.asking.refreshing import RefreshOutcome
from flows.errors import UsageError
from flows.locks import is_locked, stage_lock
from flows.merging.merge import MergeOutcome
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import Turn, finish_run, new_run, start_run
from flows.training.train import TrainOutcome, TrainRequest
from flows.turns.due import due_turn
from flows.turns.history import turn_facts
from flows.waiting import outdated
from flows.workspace import Workspace
from storage.errors import TransientStorageError

_LOOK_EVERY_S = 1.0

# Made after the last training began, so it has not seen them.
_NEW_LABELS = """
    SELECT 1 FROM current_masks m JOIN images i USING (image_id)
    WHERE i.split <> 'gold' AND m.stage IN ('label', 'manual', 'semi') AND NOT m.is_crowd
      AND m.created_at > coalesce(
          (SELECT max(started_at) FROM runs WHERE stage = 'train' AND status = 'done'),
          TIMESTAMP '1970-01-01')
    LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class TurnOutcome:
    """What a turn did, in words; without a run nothing was due."""

    run_id: str | None
    summary: str


class Steps(Protocol):
    """The stages as a turn calls them: tasks of Prefect, or plain calls."""

    def merge(self, turn: Turn) -> MergeOutcome:
        """People's submissions into the store."""

    def train(self, turn: Turn, request: TrainRequest) -> TrainOutcome:
        """Stage 1."""

    def refresh(self, turn: Turn) -> RefreshOutcome:
        """Proposals of the model in service for what still waits."""

    def assist(self, turn: Turn) -> AssistOutcome:
        """Stage 2, the model's half."""


def run_turn(workspace: Workspace, recipe: Recipe, steps: Steps, progress: Progress) -> TurnOutcome:
    """Do the turn that is due, or go on with the one that was stopped; at most one at a time."""
    if is_locked(workspace, "loop"):
        return TurnOutcome(run_id=None, summary="nothing: a loop is at work here")
    if is_locked(workspace, "turn"):
        return TurnOutcome(run_id=None, summary="nothing: another turn is at work here")
    with stage_lock(workspace, "turn"):
        found = due_turn(workspace)
        if found is None:
            return TurnOutcome(run_id=None, summary="nothing: no turn is due")
        progress.note(f"a turn: {found.why}")
        turn = _Turn(workspace, recipe, steps, progress)
        try:
            summary = turn.run()
        except TransientStorageError:
            # The next look goes on with it.
            raise
        except Exception as error:
            turn.fail(error)
            raise
    return TurnOutcome(run_id=turn.run_id, summary=summary)


class _Turn:
    """One turn's run and which of its steps are done."""

    def __init__(
        self, workspace: Workspace, recipe: Recipe, steps: Steps, progress: Progress
    ) -> None:
        self._workspace = workspace
        self._steps = steps
        self._progress = progress
        self.run_id, iteration = self._unfinished() or self._begin(recipe)
        self._turn = Turn(iteration=iteration, parent_run_id=self.run_id, recipe=recipe.name)

    def _unfinished(self) -> tuple[str, int] | None:
        rows = self._workspace.lake.rows(
            "SELECT run_id, iteration FROM runs WHERE stage = 'turn' AND status = 'running' "
            "ORDER BY started_at DESC LIMIT 1"
        )
        return (rows[0]["run_id"], rows[0]["iteration"]) if rows else None

    def _begin(self, recipe: Recipe) -> tuple[str, int]:
        [last] = self._workspace.lake.rows("SELECT max(iteration) AS iteration FROM runs")
        iteration = int(last["iteration"] or 0) + 1
        run = new_run("turn", turn=Turn(iteration=iteration, recipe=recipe.name))
        return start_run(self._workspace, run), iteration

    def run(self) -> str:
        """The steps that are not done; returns what the turn brought, in words."""
        self._once("merge", lambda: self._steps.merge(self._turn))
        if self._has_new_labels():
            self._once("train", lambda: self._steps.train(self._turn, TrainRequest()))
        if outdated(self._workspace):
            self._once("refresh", lambda: self._steps.refresh(self._turn))
        self._once("assist", self._assist)
        summary = turn_facts(self._workspace, self.run_id).summary
        self._workspace.lake.commit(
            lambda tx: finish_run(tx, self.run_id, detail=summary), message=f"turn: {summary}"
        )
        return summary

    def fail(self, error: Exception) -> None:
        """Close the turn's row with what went wrong; after a rest, another is begun."""
        detail = f"{type(error).__name__}: {error}"[:500]
        self._workspace.lake.commit(
            lambda tx: finish_run(tx, self.run_id, status="failed", detail=detail),
            message="turn failed",
        )

    def _once(self, stage: str, step: Callable[[], object]) -> None:
        if self._is_done(stage):
            return
        if is_locked(self._workspace, stage):
            self._progress.note(f"another process is at {stage} here; the turn waits for it")
        while is_locked(self._workspace, stage):
            time.sleep(_LOOK_EVERY_S)
        step()

    def _is_done(self, stage: str) -> bool:
        return bool(
            self._workspace.lake.rows(
                "SELECT 1 FROM runs WHERE parent_run_id = ? AND stage = ? AND status = 'done'",
                (self.run_id, stage),
            )
        )

    def _has_new_labels(self) -> bool:
        return bool(self._workspace.lake.rows(_NEW_LABELS))

    def _assist(self) -> None:
        try:
            self._steps.assist(self._turn)
        except UsageError as error:
            # Every image was seen, or waits: then the turn ends here.
            self._progress.note(str(error))
