"""Snapshots that nobody asks for any more. What only they needed becomes garbage for `gc`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.catalog.lake import Lake, Transaction
from storage.catalog.schema import columns_of
from storage.rows import ROWS

_Rows = Callable[[str], list[dict[str, Any]]]
# A run that has not ended for so long was killed, and reads nothing any more.
_RUNS_MAY_TAKE = "INTERVAL 7 DAY"
_SNAPSHOTS = """
SELECT snapshot_id AS snapshot, snapshot_time AT TIME ZONE 'UTC' AS made_at,
       commit_message AS message, epoch(now()) - epoch(snapshot_time) AS age_s
FROM ducklake_snapshots('lake') ORDER BY snapshot_id
"""


@dataclass(frozen=True, kw_only=True)
class OldSnapshot:
    """A snapshot that is older than asked for; `kept_for` says why it stays, None: it may go."""

    snapshot: int
    made_at: datetime
    message: str | None
    kept_for: str | None


def expire(lake: Lake, *, older_than_s: float, apply: bool = False) -> list[OldSnapshot]:
    """The snapshots older than `older_than_s`; expires those that nothing refers to, if asked.

    What stays: the newest, each one that a row names (a model's training, an export), and those
    that a run which has not ended may be reading.
    """
    if older_than_s < 0:
        raise ValueError(f"older_than_s: must not be negative, but got {older_than_s}")

    def body(tx: Transaction) -> list[OldSnapshot]:
        found = old_snapshots(tx.rows, older_than_s)
        _expire(tx, [each.snapshot for each in found if each.kept_for is None])
        return found

    return lake.commit(body, message="expire") if apply else old_snapshots(lake.rows, older_than_s)


def old_snapshots(rows: _Rows, older_than_s: float) -> list[OldSnapshot]:
    """The snapshots older than `older_than_s`, oldest first, each with why it stays, if it does."""
    all_of_them = rows(_SNAPSHOTS)
    kept = reasons_to_keep(rows)
    since = rows(
        "SELECT min(started_at) AS at FROM runs WHERE status = 'running' "
        f"AND started_at > now()::TIMESTAMP - {_RUNS_MAY_TAKE}"
    )[0]["at"]
    if since is not None:
        before = [row["snapshot"] for row in all_of_them if row["made_at"] <= since]
        for row in all_of_them:
            if row["made_at"] > since or row["snapshot"] == max(before, default=None):
                kept.setdefault(row["snapshot"], "a run that has not ended")
    return [
        OldSnapshot(
            snapshot=row["snapshot"],
            made_at=row["made_at"],
            message=row["message"],
            kept_for=kept.get(row["snapshot"]),
        )
        for row in all_of_them
        if row["age_s"] >= older_than_s
    ]


def reasons_to_keep(rows: _Rows) -> dict[int, str]:
    """Snapshot -> what refers to it: every column of the tables that names one, and the newest."""
    kept: dict[int, str] = {}
    for row in ROWS:
        for column in columns_of(row):
            if column.endswith("snapshot"):
                named = rows(f"SELECT DISTINCT {column} AS n FROM {row.table} ORDER BY n")
                kept |= {each["n"]: f"{row.table}.{column}" for each in named if each["n"]}
    newest = rows("SELECT max(snapshot_id) AS n FROM ducklake_snapshots('lake')")[0]["n"]
    return kept | {newest: "the newest"}


def expire_these(lake: Lake, snapshots: Sequence[int]) -> None:
    """Expire these snapshots, whoever refers to them; one that is gone already is no error."""
    lake.commit(lambda tx: _expire(tx, snapshots), message="expire")


def _expire(tx: Transaction, snapshots: Sequence[int]) -> None:
    there = {row["snapshot"] for row in tx.rows(_SNAPSHOTS)}
    if numbers := sorted(there & set(snapshots)):
        listed = ", ".join(map(str, numbers))
        tx.rows(f"CALL ducklake_expire_snapshots('lake', versions => [{listed}])")
