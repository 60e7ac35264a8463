"""What a name of the store is: a mask, model, detector, snapshot, run, image or export."""

from dataclasses import dataclass
from typing import Literal

from flows.errors import UsageError
from storage.catalog.lake import Lake

Kind = Literal["mask", "model", "detector", "snapshot", "run", "image", "export"]

_KEYS: tuple[tuple[Kind, str, str], ...] = (
    ("model", "model_versions", "version"),
    ("detector", "detectors", "version"),
    ("run", "runs", "run_id"),
    ("image", "images", "image_id"),
    ("export", "exports", "export_id"),
    ("mask", "masks", "mask_id"),
)
_SHOWN = 5


@dataclass(frozen=True)
class Named:
    """Something of the store by its whole name."""

    kind: Kind
    name: str


def find(lake: Lake, text: str) -> Named:
    """What `text` names: a whole name, an image's file name, or a prefix that only one has.

    Raises UsageError when nothing has it, and when several have.
    """
    found = _whole(lake, text) or (_beginning(lake, text) if text else [])
    if not found:
        raise UsageError(
            f"lineage: {text!r} names nothing in this store; give a mask, model, detector, "
            "snapshot, run, image or export, or how its name begins"
        )
    if len(found) > 1:
        listed = ", ".join(f"{each.kind} {each.name}" for each in found[:_SHOWN])
        more = ", ..." if len(found) > _SHOWN else ""
        raise UsageError(f"lineage: {text!r} is ambiguous: {listed}{more}; give more of the name")
    return found[0]


def _whole(lake: Lake, text: str) -> list[Named]:
    if text.isdecimal() and 1 <= int(text) <= lake.snapshot():
        return [Named("snapshot", str(int(text)))]
    found = [
        Named(kind, text)
        for kind, table, key in _KEYS
        if lake.rows(f"SELECT 1 FROM {table} WHERE {key} = ? LIMIT 1", (text,))
    ]
    rows = lake.rows("SELECT image_id FROM images WHERE file_name = ? LIMIT 2", (text,))
    return [*found, *(Named("image", row["image_id"]) for row in rows)]


def _beginning(lake: Lake, text: str) -> list[Named]:
    return [
        Named(kind, row["name"])
        for kind, table, key in _KEYS
        for row in lake.rows(
            f"SELECT {key} AS name FROM {table} WHERE starts_with({key}, ?) "
            f"ORDER BY 1 LIMIT {_SHOWN + 1}",
            (text,),
        )
    ]
