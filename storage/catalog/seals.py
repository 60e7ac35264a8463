"""The SHA-256 of files that DuckLake writes itself: taken at the commit, kept below `checksums/`.

A shard's own files have theirs in the ledger. Notes are objects as well, each named by the SHA-256
of what it holds, so that a damaged note is noticed too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Protocol

from storage.errors import (
    ChecksumMismatchError,
    NotFoundError,
    StorageError,
    TransientStorageError,
)
from storage.objects import Objects

FOLDER = "checksums"
_ENDING = ".json"
_TRIES = 10
# Which files the newest snapshot brought, without those whose SHA-256 the ledger has. By the number
# that DuckLake gives files: a list of deleted rows that grows keeps the snapshot it began with.
_NEW = """
WITH last_two AS (SELECT next_file_id FROM {meta}.ducklake_snapshot
                  ORDER BY snapshot_id DESC LIMIT 2),
before AS (SELECT CASE count(*) WHEN 2 THEN min(next_file_id) ELSE 0 END AS id FROM last_two)
SELECT s.path || t.path || f.path AS path
FROM (SELECT table_id, path, path_is_relative, data_file_id AS id FROM {meta}.ducklake_data_file
      UNION ALL
      SELECT table_id, path, path_is_relative, delete_file_id FROM {meta}.ducklake_delete_file) f
JOIN {meta}.ducklake_table t USING (table_id)
JOIN {meta}.ducklake_schema s USING (schema_id)
WHERE f.id >= (SELECT id FROM before) AND f.path_is_relative AND contains(f.path, 'ducklake-')
"""


class Store(Protocol):
    """What is asked of a lake here."""

    @property
    def objects(self) -> Objects:
        """The files of the store."""

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows that `sql` selects."""


def seal_newest(store: Store, data_folder: str) -> None:
    """Keep the SHA-256 of what the newest snapshot brought; under the lock, after its commit.

    The commit has landed, so nothing here may fail it: what stays without a seal gets one from
    `maskloop store compact`, `store backup` or `fsck --repair`.
    """
    try:
        rows = store.rows(_NEW.format(meta="__ducklake_metadata_lake"))
        seal(store.objects, sorted({f"{data_folder}/{row['path']}" for row in rows}))
    except (StorageError, OSError):
        return


def seal(objects: Objects, uris: Iterable[str]) -> None:
    """Take the SHA-256 of these objects, and keep it."""
    keep(objects, {uri: objects.sha256(uri) for uri in uris})


def keep(objects: Objects, sums: Mapping[str, str]) -> None:
    """Keep SHA-256 by uri, in one note; nothing to keep is no note."""
    if sums:
        data = json.dumps(sums, sort_keys=True).encode()
        objects.put(f"{FOLDER}/{hashlib.sha256(data).hexdigest()}{_ENDING}", data)


def sealed(objects: Objects) -> dict[str, str]:
    """Uri -> SHA-256 of everything that was sealed, as far as the notes are sound."""
    return _read(objects)[0]


def damaged_notes(objects: Objects) -> list[str]:
    """The notes that are not what was written."""
    return _read(objects)[1]


def tidy(objects: Objects, live: Iterable[str]) -> None:
    """Bring all sound notes into one, of the `live` files only; under the lake's lock."""
    notes = _notes(objects)
    sums, _ = _read(objects)
    wanted = set(live)
    kept = {uri: sha256 for uri, sha256 in sums.items() if uri in wanted}
    data = json.dumps(kept, sort_keys=True).encode()
    name = f"{FOLDER}/{hashlib.sha256(data).hexdigest()}{_ENDING}"
    if kept:
        objects.put(name, data)
    for uri in notes:
        if uri != name or not kept:
            objects.remove(uri)


def _notes(objects: Objects) -> list[str]:
    return sorted(each.uri for each in objects.below(FOLDER) if each.uri.endswith(_ENDING))


def _read(objects: Objects) -> tuple[dict[str, str], list[str]]:
    for _ in range(_TRIES):
        # Somebody may bring the notes into one meanwhile.
        with suppress(NotFoundError):
            return _read_all(objects, _notes(objects))
    raise TransientStorageError(f"{FOLDER}: notes come and go all the time; try again")


def _read_all(objects: Objects, notes: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    sums: dict[str, str] = {}
    damaged = []
    for uri in notes:
        try:
            data = objects.get(uri, sha256=PurePosixPath(uri).stem)
        except ChecksumMismatchError:
            damaged.append(uri)
        else:
            sums.update(json.loads(data))
    return sums, damaged
