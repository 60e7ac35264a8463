"""`maskloop status`: where the workspace stands, in one value."""

from typing import Any

from flows.locks import is_locked
from flows.report.advice import advice
from flows.turns.due import due, num_answered, rests_until
from flows.turns.history import TurnFacts, last_turns
from flows.workspace import Workspace
from storage.queue.statistics import counts_now

_SHOWN_TURNS = 5


def status(workspace: Workspace) -> dict[str, Any]:
    """Images, masks, the queue, the model in service, the last turns and runs, and what is due."""
    lake = workspace.lake
    images = lake.rows("SELECT split, count(*) AS n FROM images GROUP BY 1 ORDER BY 1")
    masks = lake.rows("SELECT stage, count(*) AS n FROM current_masks GROUP BY 1 ORDER BY 1")
    runs = lake.rows(
        "SELECT stage, iteration, status, model_version, num_images, num_masks, seconds, "
        "started_at FROM runs ORDER BY started_at DESC LIMIT 8"
    )
    current = workspace.pointer.current()
    told = advice(lake)
    return {
        "workspace": str(workspace.root),
        "snapshot": lake.snapshot(),
        "images": {row["split"]: row["n"] for row in images},
        "masks": {row["stage"]: row["n"] for row in masks},
        "queue": counts_now(workspace.queue.database),
        "model": current and current[0],
        "turns": [_turn(facts) for facts in last_turns(workspace, _SHOWN_TURNS)],
        "due": _due(workspace),
        "advice": told and told.words,
        "runs": runs,
    }


def _turn(facts: TurnFacts) -> dict[str, Any]:
    """A turn as a row: its columns, without what only its runs need."""
    return {
        "turn": facts.iteration,
        "status": facts.status,
        "submissions": facts.num_submissions,
        "masks": facts.num_masks,
        "model": facts.version,
        "promoted": facts.is_promoted,
        "refreshed": facts.num_refreshed,
        "to review": facts.num_items,
        "seconds": facts.seconds,
        "started_at": facts.started_at,
    }


def _due(workspace: Workspace) -> str:
    """What `maskloop serve` or `maskloop follow` does next, in words."""
    for stage, words in (("loop", "a loop"), ("turn", "a turn")):
        if is_locked(workspace, stage):
            return f"{words} is at work"
    if (found := due(workspace)) is not None:
        return f"{found.work}: {found.why}"
    if (again := rests_until(workspace, "turn")) is not None:
        [last] = last_turns(workspace, 1)
        return f"a turn again at {again:%H:%M} UTC; the last one failed: {last.detail}"
    answered = num_answered(workspace)
    return f"nothing; {answered} images were answered since the last training"
