"""One row per execution of a stage: started in its own commit, finished with its results."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flows.workspace import Workspace, placeholders
from storage.catalog.lake import Transaction
from storage.rows import RunRow, utcnow


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Where a stage stands in a loop; all None when it was started alone."""

    iteration: int | None = None
    parent_run_id: str | None = None
    recipe: str | None = None


ALONE = Turn()


def new_run(
    stage: str,
    *,
    config: str = "{}",
    config_hash: str | None = None,
    turn: Turn = ALONE,
    recipe: str | None = None,
    model_version: str | None = None,
) -> RunRow:
    """The row of a run that begins now; without a `recipe`, of the turn's."""
    return RunRow(
        run_id=uuid.uuid4().hex,
        stage=stage,
        iteration=turn.iteration,
        parent_run_id=turn.parent_run_id,
        recipe=recipe or turn.recipe,
        config_hash=config_hash,
        config=config,
        model_version=model_version,
        status="running",
        started_at=utcnow(),
    )


def start_run(workspace: Workspace, row: RunRow) -> str:
    """Record that a stage begins; returns the run id."""
    workspace.lake.commit(lambda tx: tx.insert([row]), message=f"start {row.stage}")
    return row.run_id


def finish_run(
    tx: Transaction,
    run_id: str,
    *,
    status: str = "done",
    num_images: int | None = None,
    num_masks: int | None = None,
    model_version: str | None = None,
    detail: str | None = None,
) -> None:
    """Close a run inside the transaction that commits what it made."""
    tx.execute(
        """UPDATE runs SET status = ?, num_images = ?, num_masks = ?, detail = ?, ended_at = ?,
           model_version = coalesce(?, model_version),
           seconds = date_diff('millisecond', started_at, CAST(? AS TIMESTAMP)) / 1000.0
           WHERE run_id = ?""",
        (status, num_images, num_masks, detail, now := utcnow(), model_version, now, run_id),
    )


@contextmanager
def failing_run(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Mark the run failed, with the reason, when the block raises; the error goes on."""
    try:
        yield
    except BaseException as error:
        detail = f"{type(error).__name__}: {error}"[:500]
        workspace.lake.commit(
            lambda tx: finish_run(tx, run_id, status="failed", detail=detail), message="run failed"
        )
        raise


def reconcile_runs(workspace: Workspace, stage: str) -> None:
    """Mark runs of `stage` that say `running` as failed: their process is gone.

    Called by a stage that holds the workspace's lock for that stage, so none can be alive.
    """
    stale = workspace.lake.rows(
        "SELECT run_id FROM runs WHERE stage = ? AND status = 'running'", (stage,)
    )
    if not stale:
        return
    ids = [row["run_id"] for row in stale]
    workspace.lake.commit(
        lambda tx: tx.execute(
            "UPDATE runs SET status = 'failed', detail = 'the process ended without a word' "
            f"WHERE run_id IN ({placeholders(ids)})",
            ids,
        ),
        message=f"reconcile {stage} runs",
    )
