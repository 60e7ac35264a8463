"""Which models may serve after a revocation: those in whose line nothing was revoked."""

from collections.abc import Collection

from flows.errors import UsageError
from flows.workspace import Workspace
from storage.catalog import models

# Before what else is said of a model that a revocation retired.
REVOKED = "revoked: "


def newest_sound(workspace: Workspace, but: Collection[str] = ()) -> str | None:
    """The newest version that has served or serves and is sound, none of `but`."""
    rows = workspace.lake.rows(
        "SELECT version FROM model_lineage WHERE role <> 'control' AND NOT descends_from_revoked "
        "AND status IN ('promoted', 'retired') ORDER BY created_at DESC"
    )
    # A model that was revoked itself is retired like one that only served before.
    taken_back = _taken_back(workspace)
    found = (row["version"] for row in rows)
    return next((name for name in found if name not in taken_back.union(but)), None)


def check_sound(workspace: Workspace, version: str, command: str) -> None:
    """Raise UsageError, in the words of `command`, for a version that was revoked or learnt so."""
    learnt = workspace.lake.rows(
        "SELECT 1 FROM model_lineage WHERE version = ? AND descends_from_revoked", (version,)
    )
    if not learnt and version not in _taken_back(workspace):
        return
    current = workspace.pointer.current()
    sound = newest_sound(workspace, but={current[0]} if current else ())
    rather = f"maskloop models promote {sound}; or " if sound else ""
    raise UsageError(
        f"{command}: {version} was revoked, or has revoked masks in its line; "
        f"run: {rather}{command} with --even-revoked"
    )


def _taken_back(workspace: Workspace) -> set[str]:
    return {
        row.version
        for row in models.all_versions(workspace.lake)
        if (row.reason or "").startswith(REVOKED)
    }
