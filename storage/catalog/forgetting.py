"""An image leaves the store with all that came of it: from every snapshot, file and statistic.

Rows are deleted, the files that held them are written anew without them, snapshots that could still
show them expire, and what only those needed is removed. No other process may be at work meanwhile.
"""

import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.catalog import expiry, gc
from storage.catalog.compaction import rewrite
from storage.catalog.files import METADATA, seal_all
from storage.catalog.lake import Lake, Transaction
from storage.catalog.schema import columns_of
from storage.catalog.sqlite_catalog import SqliteCatalog
from storage.errors import NotFoundError, TerminalStorageError
from storage.rows import ROWS

GONE = "(forgotten)"
_MESSAGE = "an image was forgotten"
_BY_MASK = {
    "mask_id": ("mask_labels", "suppressions", "retractions"),
    "by_mask_id": ("suppressions",),
}
# Text in which an image may be named among other things.
_TEXTS = {
    "runs": ("config", "detail"),
    "shards": ("reason",),
    "model_versions": ("reason", "config"),
}
# The catalog's own bounds of columns: wider ones are as right, and name nobody.
_LOWEST, _HIGHEST = "", "\U0010ffff"
# In a process of its own, see `storage.backup`. What was deleted stays in free pages until then.
_VACUUM = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)) as c:
    c.execute("VACUUM")
    c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
"""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the store has of an image, at the snapshot `seen_at`, which is the newest unless a
    forgetting was cut short; `trained` are the models that learnt from it.
    """

    image_id: str
    file_name: str
    uri: str
    num_masks: int
    trained: tuple[str, ...]
    seen_at: int

    @property
    def names(self) -> tuple[str, ...]:
        """All that names it, the longest first."""
        return tuple(sorted({self.image_id, self.uri, self.file_name}, key=len, reverse=True))


def trace(lake: Lake, image: str) -> Trace:
    """What the store has of an image, given by its id or file name; raises NotFoundError."""
    # Where an earlier try deleted the rows and was cut short, older snapshots still show them.
    tries = lake.rows(
        "SELECT snapshot_id - 1 AS n FROM ducklake_snapshots('lake') WHERE commit_message = ?",
        (_MESSAGE,),
    )
    for snapshot in (lake.snapshot(), *(row["n"] for row in tries)):
        with suppress(NotFoundError):
            return _trace_at(lake, image, snapshot)
    raise NotFoundError(f"image {image!r}: the store has none, or several, of that name")


def _trace_at(lake: Lake, image: str, snapshot: int) -> Trace:
    rows = lake.rows(
        "SELECT image_id, file_name, uri FROM images WHERE image_id = ? OR file_name = ?",
        (image, image),
        snapshot=snapshot,
    )
    if len(rows) != 1:
        raise NotFoundError(f"image {image!r}: {len(rows)} of that name at snapshot {snapshot}")
    of_image = (rows[0]["image_id"],)
    masks = lake.rows(
        "SELECT count(*) AS n FROM masks WHERE image_id = ?", of_image, snapshot=snapshot
    )
    trained = lake.rows(
        "SELECT DISTINCT version FROM training_sets WHERE image_id = ? ORDER BY version",
        of_image,
        snapshot=snapshot,
    )
    return Trace(
        **rows[0],
        num_masks=masks[0]["n"],
        trained=tuple(row["version"] for row in trained),
        seen_at=snapshot,
    )


def forget(lake: Lake, found: Trace) -> None:
    """Remove the image; after a crash, the same again finishes it."""
    first = _first_snapshot(lake, found)
    lake.commit(lambda tx: _delete(tx, found), message=_MESSAGE)
    for row in ROWS:
        sql = f"CALL ducklake_rewrite_data_files('lake', '{row.table}', delete_threshold => 0)"
        rewrite(lake, row.table, sql, message="forgotten")
    newest = lake.snapshot()
    numbers = lake.rows("SELECT snapshot_id AS n FROM ducklake_snapshots('lake')")
    expiry.expire_these(lake, [row["n"] for row in numbers if first <= row["n"] < newest])
    gc.collect(lake, min_age_s=0, delete=True)
    _widen(lake, found)
    with lake.lock():
        seal_all(lake)
        lake.close()
        if isinstance(catalog := lake.place.database, SqliteCatalog):
            vacuum(catalog.path)


def vacuum(path: Path) -> None:
    """Write a SQLite database anew, without what was deleted from it."""
    command = [sys.executable, "-I", "-c", _VACUUM, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise TerminalStorageError(f"{path}: cannot be written anew: {' '.join(last)}")


def _first_snapshot(lake: Lake, found: Trace) -> int:
    """The first snapshot that shows the image, found by halves: once there, it stays."""
    rows = lake.rows("SELECT snapshot_id AS n FROM ducklake_snapshots('lake') ORDER BY n")
    numbers = [row["n"] for row in rows if 1 <= row["n"] <= found.seen_at]
    low, high = 0, len(numbers) - 1
    while low < high:
        middle = (low + high) // 2
        sql = "SELECT 1 FROM images WHERE image_id = ?"
        if lake.rows(sql, (found.image_id,), snapshot=numbers[middle]):
            high = middle
        else:
            low = middle + 1
    return int(numbers[low])


def _delete(tx: Transaction, found: Trace) -> None:
    image_id = found.image_id
    _shorten_shards(tx, image_id)
    for column, tables in _BY_MASK.items():
        for table in tables:
            tx.execute(
                f"DELETE FROM {table} WHERE {column} IN "
                "(SELECT mask_id FROM masks WHERE image_id = ?)",
                (image_id,),
            )
    for row in ROWS:
        if "image_id" in columns_of(row):
            tx.execute(f"DELETE FROM {row.table} WHERE image_id = ?", (image_id,))
    tx.execute("DELETE FROM evaluations WHERE ends_with(split, ?)", (f":{image_id}",))
    for table, columns in _TEXTS.items():
        for column in columns:
            for name in found.names:
                tx.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?) "
                    f"WHERE contains({column}, ?)",
                    (name, GONE, name),
                )


def _shorten_shards(tx: Transaction, image_id: str) -> None:
    """The ledger counts what stays, and names no file that held the image."""
    rows = tx.rows(
        "SELECT shard_key, image_ids, state, num_masks, (SELECT count(*) FROM masks m "
        "WHERE m.shard_key = shards.shard_key AND m.image_id = ?) AS gone FROM shards "
        "WHERE list_contains(image_ids, ?)",
        (image_id, image_id),
    )
    kinds = ("mask", "set", "candidate")
    files = ", ".join(f"{k}_{w} = NULL" for k in kinds for w in ("uri", "sha256", "bytes"))
    for row in rows:
        left = [each for each in row["image_ids"] if each != image_id]
        num_masks = None if row["num_masks"] is None else row["num_masks"] - row["gone"]
        if left:
            tx.execute(
                f"UPDATE shards SET image_ids = ?, num_images = ?, num_masks = ?, {files} "
                "WHERE shard_key = ?",
                (left, len(left), num_masks, row["shard_key"]),
            )
        else:
            tx.execute("DELETE FROM shards WHERE shard_key = ?", (row["shard_key"],))


def _widen(lake: Lake, found: Trace) -> None:
    for table in ("ducklake_table_column_stats", "ducklake_file_column_stats"):
        for column, bound in (("min_value", _LOWEST), ("max_value", _HIGHEST)):
            for name in found.names:
                lake.rows(
                    f"UPDATE {METADATA}.{table} SET {column} = ? WHERE contains({column}, ?)",
                    (bound, name),
                )
