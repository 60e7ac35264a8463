"""Connections to the lake: extensions from pip, the catalog attached, DuckDB's errors as ours."""

import importlib.util
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from storage.errors import (
    NotFoundError,
    StorageError,
    StorageFull,
    TerminalStorageError,
    TransientStorageError,
)

CATALOG_FILE = "catalog.sqlite"
DATA_FOLDER = "lake"
_EXTENSIONS = ("sqlite_scanner", "ducklake")
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_LOCKED = ("database is locked", "database table is locked")
_FULL = ("no space left on device", "disk is full", "file too large")
# SQLite's word where a file beside the catalog can neither be made nor grown.
_NO_ROOM = "disk i/o error"
_DAMAGED = ("disk image is malformed", "file is not a database")
_numbers = itertools.count()


def connect(root: Path, *, read_only: bool = False) -> DuckDBPyConnection:
    """A connection with the lake of `root` attached as `lake`; its cursors share the attachment."""
    only = ", READ_ONLY" if read_only else ""
    with translated():
        connection = _bare()
        connection.execute(f"ATTACH {_catalog(root)} AS lake ({_data_here(root)}{only})")
    return connection


def initialise(root: Path) -> None:
    """Make the catalog of an empty lake, if there is none."""
    with translated():
        connection = _bare()
        # Write-ahead logging, once and for all: a long read then never keeps a commit waiting.
        connection.execute(
            f"ATTACH {_catalog(root)} AS lake (DATA_PATH '{DATA_FOLDER}/', META_JOURNAL_MODE 'WAL')"
        )
        connection.close()


@contextmanager
def attached_snapshot(cursor: DuckDBPyConnection, root: Path, snapshot: int) -> Iterator[None]:
    """Make the cursor's unqualified names mean the tables and views as of `snapshot`."""
    name = f"at_{snapshot}_{next(_numbers)}"
    cursor.execute(
        f"ATTACH {_catalog(root)} AS {name} "
        f"({_data_here(root)}, SNAPSHOT_VERSION {int(snapshot)}, READ_ONLY)"
    )
    try:
        cursor.execute(f"USE {name}")
        yield
    finally:
        cursor.execute("USE lake")
        cursor.execute(f"DETACH {name}")


def _bare() -> DuckDBPyConnection:
    # DuckDB checks a signature over 35 MB at every LOAD: once in a process is enough.
    connection = duckdb.connect(config=_CONFIG | {"allow_unsigned_extensions": "true"})
    for path in _signed_extensions():
        connection.execute(f"LOAD {_quoted(path)}")
    connection.execute("SET TimeZone = 'UTC'")
    # It answers max() from column statistics, which DuckLake does not keep by snapshot: beside a
    # count() of one snapshot stood the maximum of the next.
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    return connection


@cache
def _signed_extensions() -> tuple[Path, ...]:
    """The extensions' files inside their Python packages: nothing is downloaded."""
    paths = tuple(_extension(name) for name in _EXTENSIONS)
    with duckdb.connect(config=_CONFIG) as connection:
        for path in paths:
            connection.execute(f"LOAD {_quoted(path)}")
    return paths


def _extension(name: str) -> Path:
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    assert spec is not None, "a dependency of the project"
    assert spec.origin is not None, "the package has an __init__.py"
    path = Path(spec.origin).parent / f"extensions/v{duckdb.__version__}/{name}.duckdb_extension"
    if not path.is_file():
        raise TerminalStorageError(
            f"duckdb {duckdb.__version__}: no {name} extension for it; install the same version "
            f"of duckdb-extension-{name.replace('_', '-')}"
        )
    return path


def _catalog(root: Path) -> str:
    return _quoted(f"ducklake:sqlite:{root / CATALOG_FILE}")


def _data_here(root: Path) -> str:
    # The catalog says `lake/`, so that a workspace can be moved; this says where that is now.
    # DuckLake would keep small inserts as text in the catalog, where a backslash in a struct is
    # lost, and COCO's run-length codes are full of them: every row goes to a file.
    return (
        f"DATA_PATH {_quoted(f'{root / DATA_FOLDER}/')}, OVERRIDE_DATA_PATH true, "
        "DATA_INLINING_ROW_LIMIT 0"
    )


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the machine did wrong into our errors; faulty SQL stays DuckDB's own error."""
    try:
        yield
    except duckdb.Error as error:
        ours = _translation(error)
        if ours is None:
            raise
        raise ours from error


def _translation(error: duckdb.Error) -> StorageError | None:
    text = str(error)
    lower = text.lower()
    if any(word in lower for word in _FULL):
        return StorageFull(
            "the disk is full; nothing committed is lost: make room and run the command again"
        )
    if _NO_ROOM in lower:
        return StorageFull(
            f"the disk is full or failing ({text}); nothing committed is lost: make room and run "
            "the command again"
        )
    if "no snapshot found" in lower:
        return NotFoundError(f"snapshot: there is none of that number ({text})")
    if any(word in lower for word in _DAMAGED):
        return TerminalStorageError(f"store: damaged: {text}; restore it from a backup")
    locked = any(word in lower for word in _LOCKED)
    if locked or isinstance(error, duckdb.TransactionException | duckdb.FatalException):
        return TransientStorageError(f"store: {text}")
    if isinstance(error, duckdb.IOException | duckdb.OperationalError):
        return TerminalStorageError(f"store: {text}; run: maskloop fsck")
    return None
