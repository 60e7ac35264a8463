"""A store carried to another place, with its whole history: snapshots keep their numbers.

The catalog names files by paths below the store's folder, so its rows are right wherever they lie:
they are copied as they are, in one transaction. What is there already is left, so a copy that was
interrupted is finished by beginning again; nothing is taken from the old place.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
from duckdb import DuckDBPyConnection

from storage.catalog import connection, seals
from storage.catalog.files import FOLDERS
from storage.catalog.lake import Lake
from storage.catalog.place import Place
from storage.errors import TerminalStorageError, TransientStorageError
from storage.objects import FoundObject, Objects

Report = Callable[[int, int], None]
_THREADS = 8
_TABLES = (
    "SELECT table_name FROM duckdb_tables() "
    "WHERE database_name = 'catalog' AND starts_with(table_name, 'ducklake_') ORDER BY 1"
)
_HISTORY = (
    "SELECT snapshot_id, commit_extra_info FROM __ducklake_metadata_lake.ducklake_snapshot_changes"
)


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What lies in the new place: objects and their bytes, up to which snapshot."""

    num_objects: int
    bytes: int
    snapshot: int


def copy(lake: Lake, to: Place, report: Report) -> Copied:
    """Copy the store to `to`; nobody commits meanwhile. `report` is told objects done, of all.

    Raises TerminalStorageError where another store lies, ChecksumMismatchError for an object that
    arrived damaged.
    """
    with lake.lock():
        catalog_moves = to.catalog != lake.place.catalog
        if catalog_moves:
            _refuse_another(lake, to)
        sizes = _copy_objects(lake.objects, to.objects, report) if _data_move(lake, to) else []
        if catalog_moves:
            write_catalog(read_catalog(lake.place), to)
        return Copied(num_objects=len(sizes), bytes=sum(sizes), snapshot=lake.snapshot())


def _data_move(lake: Lake, to: Place) -> bool:
    return (to.data, to.s3) != (lake.place.data, lake.place.s3)


def _copy_objects(source: Objects, target: Objects, report: Report) -> list[int]:
    found = [each for folder in (*FOLDERS, seals.FOLDER) for each in source.below(folder)]
    # What nobody finished writing is of use to nobody.
    found = [each for each in found if not each.uri.endswith(".tmp")]
    sizes = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for size in pool.map(lambda each: _copied(source, target, each), found):
            sizes.append(size)
            report(len(sizes), len(found))
    return sizes


def _copied(source: Objects, target: Objects, each: FoundObject) -> int:
    sha256 = source.sha256(each.uri)
    if not _is_there(target, each, sha256):
        target.put(each.uri, source.get(each.uri, sha256=sha256))
        if target.sha256(each.uri) != sha256:
            raise TerminalStorageError(f"{each.uri}: arrived damaged; run the same command again")
    return each.bytes


def _is_there(target: Objects, each: FoundObject, sha256: str) -> bool:
    there = target.find(each.uri)
    return there is not None and there.bytes == each.bytes and target.sha256(each.uri) == sha256


def _refuse_another(lake: Lake, to: Place) -> None:
    """What is there may be an earlier copy of this store, and nothing else."""
    if to.database.is_there():
        there = _history(Lake(to))
        if not there <= _history(lake):
            raise TerminalStorageError(
                f"{to.database}: another store is there, or this one with later work in it; name "
                "another place, or empty that one"
            )


def _history(lake: Lake) -> set[tuple[int, str | None]]:
    try:
        return {(row["snapshot_id"], row["commit_extra_info"]) for row in lake.rows(_HISTORY)}
    finally:
        lake.close()


def read_catalog(place: Place) -> dict[str, pa.Table]:
    """DuckLake's own tables, all of one moment; nobody commits meanwhile."""
    with connection.catalog_itself(place) as source:
        source.execute("BEGIN")
        return {
            name: source.execute(f'SELECT * FROM catalog."{name}"').to_arrow_table()
            for name in _names(source)
        }


def write_catalog(tables: Mapping[str, pa.Table], to: Place) -> None:
    """Make these the tables of the catalog of `to`, in one transaction."""
    to.database.prepare()
    with to.database.lock():
        connection.initialise(to)
        with connection.catalog_itself(to) as target:
            known = _names(target)
            target.execute("BEGIN")
            for name, rows in tables.items():
                _replace(target, name, rows, is_known=name in known)
            target.execute("COMMIT")


def _names(attached: DuckDBPyConnection) -> list[str]:
    return [name for (name,) in attached.execute(_TABLES).fetchall()]


def _replace(target: DuckDBPyConnection, name: str, rows: pa.Table, *, is_known: bool) -> None:
    if not is_known:
        if rows.num_rows:
            raise TerminalStorageError(f"catalog: rows in {name}, which the new place cannot have")
        return
    target.execute(f'DELETE FROM catalog."{name}"')
    target.register("_copied", rows)
    target.execute(f'INSERT INTO catalog."{name}" BY NAME SELECT * FROM _copied')
    target.unregister("_copied")


def require_same(lake: Lake, copied: Copied) -> None:
    """Raise TransientStorageError if the store went on after it was copied."""
    if lake.snapshot() != copied.snapshot:
        raise TransientStorageError(
            "store: somebody committed while it was moved; stop what works on it (serve, follow, "
            "loop) and run the same command again"
        )
