"""What is due now: a turn of the loop, a refresh of what waits for people, or nothing.

All of it is read from the lake and the queue, so that whoever looks, after an event, on a timer or
after a crash, comes to the same answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal

from flows.locks import is_locked
from flows.waiting import free_and_known, outdated, watermark
from flows.workspace import Workspace
from storage.rows import utcnow

ORDINARY = ("assist",)
# While one of these is at work, what is due will be another thing afterwards.
_AT_WORK = ("loop", "turn", "train", "assist")
# Whoever holds the last item of a batch for so long has left, or has a hard one.
_QUIET = timedelta(minutes=2)
_LONGEST_REST = timedelta(hours=1)
_REMEMBERED_FAILURES = 7

# A training has seen all that was merged before it began. A turn without one had nothing to see.
_USED_UNTIL = """
    SELECT max(moment) AS moment FROM (
        SELECT started_at AS moment FROM runs WHERE stage = 'train' AND status = 'done'
        UNION ALL
        SELECT step.ended_at FROM runs step JOIN runs turn ON step.parent_run_id = turn.run_id
        WHERE step.stage = 'merge' AND step.status = 'done'
          AND turn.stage = 'turn' AND turn.status = 'done'
    )
"""


@dataclass(frozen=True, kw_only=True)
class Due:
    """What is to be done, and why, in words."""

    work: Literal["turn", "refresh"]
    why: str


def due(workspace: Workspace) -> Due | None:
    """What to start now; None while a stage of the loop is at work, and when all is done."""
    if any(is_locked(workspace, stage) for stage in _AT_WORK):
        return None
    return due_turn(workspace) or _due_refresh(workspace)


def due_turn(workspace: Workspace) -> Due | None:
    """The same for a turn alone, and whoever is at work: for the process that holds its lock."""
    if is_unfinished(workspace):
        return Due(work="turn", why="a turn was stopped, and goes on")
    if rests_until(workspace, "turn") is not None:
        return None
    why = _answered(workspace) or _nothing_waits(workspace)
    return Due(work="turn", why=why) if why else None


def _due_refresh(workspace: Workspace) -> Due | None:
    if is_locked(workspace, "refresh") or rests_until(workspace, "refresh") is not None:
        return None
    items = outdated(workspace)
    if not items:
        return None
    return Due(
        work="refresh", why=f"{len(items)} items wait with another model than the one in service"
    )


def is_unfinished(workspace: Workspace) -> bool:
    """Whether a turn was begun and neither ended nor failed."""
    return bool(
        workspace.lake.rows("SELECT 1 FROM runs WHERE stage = 'turn' AND status = 'running'")
    )


def rests_until(workspace: Workspace, stage: str) -> datetime | None:
    """When a stage that failed is tried again, in UTC; None when it may start now.

    A minute later, then two, four, and so on up to an hour, until it succeeds.
    """
    rows = workspace.lake.rows(
        "SELECT status, coalesce(ended_at, started_at) AS ended FROM runs WHERE stage = ? "
        f"ORDER BY started_at DESC LIMIT {_REMEMBERED_FAILURES}",
        (stage,),
    )
    failed = list(takewhile(lambda row: row["status"] == "failed", rows))
    if not failed:
        return None
    again: datetime = failed[0]["ended"] + _rest(len(failed))
    return again if again > utcnow() else None


def _rest(num_failures: int) -> timedelta:
    return min(timedelta(minutes=2 ** (num_failures - 1)), _LONGEST_REST)


def _answered(workspace: Workspace) -> str | None:
    """Why there is enough to learn from; None when there is not."""
    answered = num_answered(workspace)
    if not answered:
        return None
    batch = _batch_size(workspace)
    if answered >= math.ceil(workspace.settings.annotator.batch_done_share * batch):
        return f"{answered} images were answered since the last training, of a batch of {batch}"
    if _nobody_has_work(workspace):
        return f"{answered} images were answered, and nothing is left to hand out"
    return None


def num_answered(workspace: Workspace) -> int:
    """How many ordinary answers no training has seen, whether they were merged or not."""
    [used] = workspace.lake.rows(_USED_UNTIL)
    [merged] = workspace.lake.rows(
        "SELECT count(*) AS n FROM reviews r JOIN runs USING (run_id) "
        "WHERE ended_at > ? AND coalesce(r.kind, 'assist') = 'assist'",
        (used["moment"] or datetime(1970, 1, 1),),
    )
    return int(merged["n"]) + _num_unmerged(workspace)


def _num_unmerged(workspace: Workspace) -> int:
    low = watermark(workspace)
    if workspace.queue.last_seq() == low:
        return 0
    new = workspace.queue.submissions_after(low, limit=None)
    return sum(submission.item.stage in ORDINARY for submission in new)


def _batch_size(workspace: Workspace) -> int:
    """How many items the last assist has enqueued."""
    rows = workspace.lake.rows(
        "SELECT num_images FROM runs WHERE stage = 'assist' AND status = 'done' "
        "ORDER BY started_at DESC LIMIT 1"
    )
    return int(rows[0]["num_images"] or 0) if rows else 0


def _nobody_has_work(workspace: Workspace) -> bool:
    """Whether nothing is left to hand out, and who holds something has not answered for long."""
    if _is_waiting(workspace, ORDINARY):
        return False
    if not workspace.queue.counts()["leased"]:
        return True
    last = workspace.queue.submissions_after(workspace.queue.last_seq() - 1, limit=1)
    return bool(last) and datetime.now(UTC) - last[0].at > _QUIET


def _is_waiting(workspace: Workspace, kinds: Sequence[str]) -> bool:
    return bool(workspace.queue.ready_items(kinds))


def _nothing_waits(workspace: Workspace) -> str | None:
    """Why people need work; None when they have some, or nothing is left to ask."""
    if _is_waiting(workspace, ORDINARY) or workspace.queue.counts()["leased"]:
        return None
    free, _ = free_and_known(workspace)
    return f"nothing waits, and nobody has seen {len(free)} images" if free else None
