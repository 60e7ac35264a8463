"""What people did with proposals, read from the store, and the thresholds that follow from it."""

import numpy as np

from engine.asking.promise import WOULD_BE_ACCEPTED, Judged, Thresholds, thresholds
from flows.recipes import AssistConfig
from flows.workspace import Workspace, placeholders
from storage.catalog import models

# Scores of older models mean other things.
_GENERATIONS = 3


def thresholds_for(workspace: Workspace, config: AssistConfig, version: str) -> Thresholds | None:
    """Those that keep the promise for proposals of `version`; None where nothing is promised.

    What people did with proposals of that version and of the two before it counts, also what they
    made by themselves where some were withheld: so they are learnt before any is shown.
    """
    if config.promise is None:
        return None
    return thresholds(judged(workspace, config.propose, version), config.promise)


def judged(workspace: Workspace, source: str, version: str) -> Judged:
    """The proposals of a `source`, `grid` or `detector`, that became something."""
    versions = _with_ancestors(workspace, version)
    rows = workspace.lake.rows(
        f"""SELECT d.score, d.area, d.image_id,
                   d.action = 'accepted' OR (d.action = 'withheld' AND d.iou_with_result >= ?) AS ok
            FROM decisions d JOIN reviews r USING (submission_id)
            WHERE coalesce(r.kind, 'assist') = 'assist' AND d.source = ? AND d.score IS NOT NULL
              AND d.area IS NOT NULL AND d.model_version IN ({placeholders(versions)})
            ORDER BY d.proposal_id, d.submission_id""",
        (WOULD_BE_ACCEPTED, source, *versions),
    )
    _, images = np.unique([row["image_id"] for row in rows], return_inverse=True)
    return Judged(
        scores=np.array([row["score"] for row in rows], dtype=np.float64),
        areas=np.array([row["area"] for row in rows], dtype=np.int64),
        accepted=np.array([row["ok"] for row in rows], dtype=np.bool_),
        images=images.astype(np.int64),
    )


def _with_ancestors(workspace: Workspace, version: str) -> list[str]:
    parents = {row.version: row.parent for row in models.all_versions(workspace.lake)}
    found: list[str] = []
    name: str | None = version
    while name is not None and len(found) < _GENERATIONS:
        found.append(name)
        name = parents.get(name)
    return found
