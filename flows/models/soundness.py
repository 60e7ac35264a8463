"""Which models may serve after a revocation: those in whose line nothing was revoked."""

from collections.abc import Collection

from flows.errors import UsageError
from flows.workspace import Workspace
from storage.catalog import models


def newest_sound(workspace: Workspace, but: Collection[str] = ()) -> str | None:
    """The newest version that has served or serves and is sound, none of `but`."""
    rows = workspace.lake.rows(
        "SELECT version FROM model_lineage WHERE role <> 'control' AND NOT descends_from_revoked "
        "AND status IN ('promoted', 'retired') ORDER BY created_at DESC"
    )
    # A model that was revoked itself is retired like one that only served before.
    taken_back = models.revoked(workspace.lake)
    found = (row["version"] for row in rows)
    return next((name for name in found if name not in taken_back.union(but)), None)


def is_sound(workspace: Workspace, version: str) -> bool:
    """Whether neither a version nor anything in its line was revoked."""
    learnt = workspace.lake.rows(
        "SELECT 1 FROM model_lineage WHERE version = ? AND descends_from_revoked", (version,)
    )
    return not learnt and version not in models.revoked(workspace.lake)


def check_sound(workspace: Workspace, version: str, command: str) -> None:
    """Raise UsageError, in the words of `command`, for a version that was revoked or learnt so."""
    if is_sound(workspace, version):
        return
    current = workspace.pointer.current()
    sound = newest_sound(workspace, but={current[0]} if current else ())
    rather = f"maskloop models promote {sound}; or " if sound else ""
    raise UsageError(
        f"{command}: {version} was revoked, or has revoked masks in its line; "
        f"run: {rather}{command} with --even-revoked"
    )
