"""A commit whose answer was lost: whether it stands, once nothing of it can change any more.

DuckLake takes a lost answer for a failure and removes the files that it wrote, though the catalog
may name them from then on. Such a commit is taken back, so that it can be made again. What a merge
had written cannot be: its sources are no longer in the catalog, so copies are kept until it is
known to stand. Where the catalog stays away for too long, a note has the next who opens the store
find out.
"""

import json
from typing import Any

from duckdb import DuckDBPyConnection

from storage.catalog import connection
from storage.catalog.place import Place
from storage.errors import TerminalStorageError
from storage.objects import Objects

NOTES = "unheard"
_ENDING = ".kept"
_SNAPSHOT = "SELECT snapshot_id FROM catalog.ducklake_snapshot_changes WHERE commit_extra_info = ?"
# By the numbers that DuckLake gives files: a merged file has the snapshot of its first rows.
_BROUGHT = """
WITH ids AS (
    SELECT next_file_id AS until,
           (SELECT coalesce(max(next_file_id), 0) FROM catalog.ducklake_snapshot
            WHERE snapshot_id < ?) AS since
    FROM catalog.ducklake_snapshot WHERE snapshot_id = ?)
SELECT s.path || t.path || f.path AS path, f.begin_snapshot
FROM (SELECT table_id, path, path_is_relative, begin_snapshot, data_file_id AS id
      FROM catalog.ducklake_data_file
      UNION ALL
      SELECT table_id, path, path_is_relative, begin_snapshot, delete_file_id
      FROM catalog.ducklake_delete_file) f
JOIN catalog.ducklake_table t USING (table_id)
JOIN catalog.ducklake_schema s USING (schema_id)
JOIN ids ON f.id >= ids.since AND f.id < ids.until
WHERE f.path_is_relative
"""
_VERSIONED = """
SELECT table_name FROM duckdb_columns() WHERE database_name = 'catalog'
GROUP BY table_name HAVING list_contains(list(column_name), 'end_snapshot')
"""
_OF_FILES = (
    "ducklake_file_column_stats",
    "ducklake_file_variant_stats",
    "ducklake_file_partition_value",
)
_COUNTED = """
UPDATE catalog.ducklake_table_stats SET record_count = record_count - f.n,
       file_size_bytes = ducklake_table_stats.file_size_bytes - f.size
FROM (SELECT table_id, sum(record_count)::BIGINT AS n, sum(file_size_bytes)::BIGINT AS size
      FROM catalog.ducklake_data_file WHERE begin_snapshot = ? GROUP BY table_id) f
WHERE ducklake_table_stats.table_id = f.table_id
"""


def marked(token: str) -> str:
    """What the catalog keeps beside a commit, by which it is found again."""
    return json.dumps({"commit": token})


def stands(place: Place, token: str, data_folder: str) -> bool:
    """Whether the commit of this token has landed, and all it needs is there; under the lock.

    Afterwards it stands for good or never will: one that lacks a file is taken back here.
    """
    place.database.settle()
    with connection.catalog_itself(place) as catalog:
        found = catalog.execute(_SNAPSHOT, [marked(token)]).fetchone()
        if found is None:
            return False
        lost = _lost(catalog, place.objects, found[0], data_folder)
        if any(since != found[0] for since in lost.values()):
            raise TerminalStorageError(
                f"store: the catalog's answer was lost, and with it {', '.join(sorted(lost))}; "
                "restore the store from a backup"
            )
        if lost:
            _take_back(catalog, found[0])
    return not lost


def note(objects: Objects, token: str) -> None:
    """Say that nobody knows of this commit; raises StorageError."""
    objects.put(f"{NOTES}/{token}", b"")


def settle_notes(place: Place, data_folder: str) -> None:
    """Find out what became of the commits that were noted; under the lock."""
    for each in list(place.objects.below(NOTES)):
        stands(place, each.uri.rpartition("/")[2], data_folder)
        place.objects.remove(each.uri)


def keep_copies(objects: Objects, uris: list[str]) -> None:
    """Keep what a merge has written, for `stands` to find; before its commit."""
    for uri in uris:
        objects.copy(uri, uri + _ENDING)


def drop_copies(objects: Objects, uris: list[str]) -> None:
    """Let go of the copies; after the commit."""
    for uri in uris:
        objects.remove(uri + _ENDING)


def _lost(
    catalog: DuckDBPyConnection, objects: Objects, snapshot: int, data_folder: str
) -> dict[str, int]:
    """Uri -> first snapshot, of what this one brought and is gone, nor was copied."""
    rows = catalog.execute(_BROUGHT, [snapshot, snapshot]).fetchall()
    lost: dict[str, int] = {}
    for path, since in rows:
        uri = f"{data_folder}/{path}"
        if objects.find(uri) is None:
            if objects.find(uri + _ENDING) is None:
                lost[uri] = since
            else:
                objects.copy(uri + _ENDING, uri)
    return lost


def _take_back(catalog: DuckDBPyConnection, snapshot: int) -> None:
    """Make a snapshot the same as the one before; others may have come after it."""
    versioned = [name for (name,) in catalog.execute(_VERSIONED).fetchall()]
    only: list[Any] = [snapshot]
    catalog.execute("BEGIN")
    catalog.execute(_COUNTED, only)
    for name in _OF_FILES:
        catalog.execute(
            f"DELETE FROM catalog.{name} WHERE data_file_id IN "
            "(SELECT data_file_id FROM catalog.ducklake_data_file WHERE begin_snapshot = ?)",
            only,
        )
    for name in versioned:
        catalog.execute(f"DELETE FROM catalog.{name} WHERE begin_snapshot = ?", only)
        catalog.execute(
            f"UPDATE catalog.{name} SET end_snapshot = NULL WHERE end_snapshot = ?", only
        )
    catalog.execute(
        "UPDATE catalog.ducklake_snapshot_changes SET changes_made = '', commit_extra_info = NULL, "
        "commit_message = 'taken back: ' || commit_message WHERE snapshot_id = ?",
        only,
    )
    catalog.execute("COMMIT")
