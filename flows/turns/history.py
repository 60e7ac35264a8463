"""What turns of the loop brought, read from their runs."""

from dataclasses import dataclass
from datetime import datetime

from flows.workspace import Workspace

# A turn learns from all that was merged since the training before it, by whichever merge.
_TURNS = """
    WITH turns AS (
        SELECT t.run_id, t.iteration, t.status, t.started_at, t.seconds, t.detail,
               m.ended_at AS until,
               greatest(
                   coalesce(max(m.ended_at) OVER (
                       ORDER BY t.started_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                   ), TIMESTAMP '1970-01-01'),
                   coalesce((
                       SELECT max(started_at) FROM runs
                       WHERE stage = 'train' AND status = 'done' AND started_at < t.started_at
                   ), TIMESTAMP '1970-01-01')
               ) AS since
        FROM runs t LEFT JOIN runs m
            ON m.parent_run_id = t.run_id AND m.stage = 'merge' AND m.status = 'done'
        WHERE t.stage = 'turn'
    ), merges AS (
        SELECT m.run_id, m.ended_at, m.num_masks, count(r.submission_id) AS num_submissions
        FROM runs m JOIN reviews r USING (run_id) WHERE m.stage = 'merge' GROUP BY ALL
    ), steps AS (
        SELECT parent_run_id, stage, model_version, num_images FROM runs WHERE status = 'done'
    )
    SELECT t.run_id, t.iteration, t.status, t.started_at, t.seconds, t.detail,
           (SELECT coalesce(sum(num_submissions), 0) FROM merges
            WHERE ended_at > t.since AND ended_at <= t.until) AS num_submissions,
           (SELECT coalesce(sum(num_masks), 0) FROM merges
            WHERE ended_at > t.since AND ended_at <= t.until) AS num_masks,
           trained.model_version AS version, v.status AS version_status,
           refreshed.num_images AS num_refreshed, assisted.num_images AS num_items
    FROM turns t
    LEFT JOIN steps trained ON trained.parent_run_id = t.run_id AND trained.stage = 'train'
    LEFT JOIN model_versions v ON v.version = trained.model_version
    LEFT JOIN steps refreshed ON refreshed.parent_run_id = t.run_id AND refreshed.stage = 'refresh'
    LEFT JOIN steps assisted ON assisted.parent_run_id = t.run_id AND assisted.stage = 'assist'
    {which} ORDER BY t.started_at DESC LIMIT {limit}
"""


@dataclass(frozen=True, kw_only=True)
class TurnFacts:
    """One turn: what people did for it, and what came of that.

    version: the model that was trained, None without a training; num_refreshed: items that had new
    proposals; num_items: new images to review; detail: the error of one that failed.
    """

    run_id: str
    iteration: int
    status: str
    started_at: datetime
    seconds: float | None
    num_submissions: int
    num_masks: int
    version: str | None
    is_promoted: bool | None
    num_refreshed: int
    num_items: int
    detail: str | None

    @property
    def summary(self) -> str:
        """The same in words."""
        parts = [f"{self.num_submissions} answers with {self.num_masks} masks"]
        if self.version is not None:
            parts.append(f"{self.version} {'promoted' if self.is_promoted else 'rejected'}")
        if self.num_refreshed:
            parts.append(f"{self.num_refreshed} items refreshed")
        parts.append(f"{self.num_items} images to review")
        return "; ".join(parts)


def last_turns(workspace: Workspace, limit: int) -> list[TurnFacts]:
    """The newest turns, newest first."""
    return _read(workspace, "", (), limit)


def turn_facts(workspace: Workspace, run_id: str) -> TurnFacts:
    """One turn, as far as it is."""
    [facts] = _read(workspace, "WHERE t.run_id = ?", (run_id,), 1)
    return facts


def _read(workspace: Workspace, which: str, values: tuple[str, ...], limit: int) -> list[TurnFacts]:
    rows = workspace.lake.rows(_TURNS.format(which=which, limit=int(limit)), values)
    return [
        TurnFacts(
            run_id=row["run_id"],
            iteration=row["iteration"],
            status=row["status"],
            started_at=row["started_at"],
            seconds=row["seconds"],
            num_submissions=int(row["num_submissions"]),
            num_masks=int(row["num_masks"]),
            version=row["version"],
            # One that served once is retired by the next.
            is_promoted=row["version"] and row["version_status"] in ("promoted", "retired"),
            num_refreshed=row["num_refreshed"] or 0,
            num_items=row["num_items"] or 0,
            detail=row["detail"],
        )
        for row in rows
    ]
