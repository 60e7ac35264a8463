"""Pins by hand: images, by id or file name, that people are to be given first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.errors import UsageError
from flows.workspace import Workspace, placeholders

# Of names that no image has, so many are told.
_TOLD = 5
_Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PinOutcome:
    """How many images were (un)pinned, and how many of all that were named wait for people now."""

    num_changed: int
    num_waiting: int


def pin_images(workspace: Workspace, names: Sequence[str], by: str) -> PinOutcome:
    """Have images come first, those as well that are enqueued later.

    Raises UsageError, and pins none, where one is unknown or of the gold set, and for a bad `by`.
    """
    found = _find(workspace, names, "pin")
    gold = [row["file_name"] for row in found if row["split"] == "gold"]
    if gold:
        raise UsageError(
            f"pin: {_some(gold)}: of the gold set, which measures models and is never handed out "
            "for its masks; leave it out"
        )
    try:
        num_new = workspace.queue.pin([row["image_id"] for row in found], by)
    except ValueError as error:
        raise UsageError(f"pin: {error}") from error
    return _outcome(workspace, found, num_new)


def unpin_images(workspace: Workspace, names: Sequence[str]) -> PinOutcome:
    """Give images the place back that they had; raises UsageError where one is unknown."""
    found = _find(workspace, names, "unpin")
    num_gone = workspace.queue.unpin([row["image_id"] for row in found])
    return _outcome(workspace, found, num_gone)


def pinned_images(workspace: Workspace) -> list[dict[str, Any]]:
    """Who wants which images first, the oldest wish first, and whether they wait for people now."""
    pins = workspace.queue.pins()
    waiting = workspace.queue.open_images()
    file_names = {
        row["image_id"]: row["file_name"]
        for row in _rows(workspace, "image_id", [pin.image_id for pin in pins])
    }
    return [
        {
            "file_name": file_names.get(pin.image_id),
            "image_id": pin.image_id,
            "pinned_by": pin.pinned_by,
            "pinned_at": pin.pinned_at.isoformat(timespec="seconds"),
            "waits": pin.image_id in waiting,
        }
        for pin in pins
    ]


def _find(workspace: Workspace, names: Sequence[str], command: str) -> list[_Row]:
    by_name: dict[str, _Row] = {}
    for column in ("file_name", "image_id"):
        # An id comes second, and so counts where a file is called like another image's id.
        by_name |= {row[column]: row for row in _rows(workspace, column, names)}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UsageError(
            f"{command}: {_some(unknown)}: no image of the store has this id or file name; the "
            'names are those of: maskloop sql "SELECT image_id, file_name FROM images"'
        )
    return list({row["image_id"]: row for row in (by_name[name] for name in names)}.values())


def _rows(workspace: Workspace, column: str, values: Sequence[str]) -> list[_Row]:
    statement = (
        f"SELECT image_id, file_name, split FROM images WHERE {column} IN ({placeholders(values)})"
    )
    return list(workspace.lake.rows(statement, list(values)))


def _outcome(workspace: Workspace, found: Sequence[_Row], num_changed: int) -> PinOutcome:
    waiting = workspace.queue.open_images()
    num_waiting = sum(row["image_id"] in waiting for row in found)
    return PinOutcome(num_changed=num_changed, num_waiting=num_waiting)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_TOLD])
    return shown if len(names) <= _TOLD else f"{shown} and {len(names) - _TOLD} more"
