"""Connections to the lake: extensions from pip, the catalog attached, DuckDB's errors as ours."""

import importlib.util
import itertools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from storage.catalog import postgres_catalog, secrets
from storage.catalog.place import Place
from storage.catalog.secrets import quoted
from storage.errors import (
    NotFoundError,
    StorageError,
    StorageFull,
    TerminalStorageError,
    TransientStorageError,
)

DATA_FOLDER = "lake"
# By SQLite itself, which has an index for it.
_STATE = (
    "FROM sqlite_query('__ducklake_metadata_lake', "
    "'SELECT coalesce(max(snapshot_id), 0) FROM ducklake_snapshot')"
)
_S3_EXTENSION = "httpfs"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    # Until `fit_threads` knows better: to wake others takes as long as a query on a small lake.
    "threads": "1",
}
_SMALL_BYTES = 16 << 20
_BYTES = (
    "SELECT coalesce(sum(file_size_bytes), 0) FROM __ducklake_metadata_lake.ducklake_data_file "
    "WHERE end_snapshot IS NULL"
)
_LOCKED = ("database is locked", "database table is locked")
_FULL = ("no space left on device", "disk is full", "file too large")
# SQLite's word where a file beside the catalog can neither be made nor grown.
_NO_ROOM = "disk i/o error"
_DAMAGED = ("disk image is malformed", "file is not a database")
# Of Parquet; where its own reader of headers fails, DuckDB's error has no kind.
_UNREADABLE = ("no magic bytes", "failed to read file", "in parquet file")
_NO_POSTGRES = "unable to connect to postgres"
_LOST = (
    "server closed the connection",
    "terminating connection",
    "no connection to the server",
    "could not receive data from server",
    "could not send data to server",
    "ssl connection has been closed",
)
_HTTP = ("error for http ", "http error")
# Reading it says "403 (Forbidden)" or "HTTP 403", writing "(HTTP code 403)"; a file's name, a
# number in hexadecimal digits, may have any of them.
_STATUS = re.compile(r"HTTP (?:code )?(\d{3})\b|\b(\d{3}) \(")
_numbers = itertools.count()


def connect(place: Place, *, read_only: bool = False) -> DuckDBPyConnection:
    """A connection with the lake of `place` attached as `lake`; its cursors share that."""
    only = ", READ_ONLY" if read_only else ""
    with translated():
        connection = _bare(place)
        secrets.keep(connection, place)
        connection.execute(f"ATTACH {_catalog(place)} AS lake ({_data_here(place)}{only})")
        fit_threads(connection)
    return connection


def fit_threads(connection: DuckDBPyConnection) -> None:
    """Let queries use every core, if the lake is large enough by now to gain from it."""
    [(num_bytes,)] = connection.execute(_BYTES).fetchall()
    if num_bytes > _SMALL_BYTES:
        connection.execute("RESET GLOBAL threads")


def initialise(place: Place) -> None:
    """Make the catalog of an empty lake, if there is none."""
    with translated():
        connection = _bare(place)
        secrets.keep(connection, place)
        options = (f"DATA_PATH '{DATA_FOLDER}/'", *place.database.options)
        connection.execute(f"ATTACH {_catalog(place)} AS lake ({', '.join(options)})")
        connection.close()


@contextmanager
def catalog_itself(place: Place) -> Iterator[DuckDBPyConnection]:
    """A connection to the tables of DuckLake's own, attached as `catalog`."""
    with translated():
        connection = _bare(place)
        try:
            secrets.keep(connection, place)
            options = ", ".join(place.database.direct)
            target = quoted(place.database.target.partition(":")[2])
            connection.execute(f"ATTACH {target} AS catalog ({options})")
            yield connection
        finally:
            connection.close()


def state(cursor: DuckDBPyConnection, place: Place) -> int:
    """A number that stays while nobody commits; 0 where reads are of one moment anyway."""
    if place.database.reads_one_state:
        return 0
    # All of it, or the answer would hold on to the catalog for as long as the cursor is kept.
    [(newest,)] = cursor.execute(_STATE).fetchall()
    return int(newest)


@contextmanager
def attached_snapshot(cursor: DuckDBPyConnection, place: Place, snapshot: int) -> Iterator[None]:
    """Make the cursor's unqualified names mean the tables and views as of `snapshot`."""
    name = f"at_{snapshot}_{next(_numbers)}"
    cursor.execute(
        f"ATTACH {_catalog(place)} AS {name} "
        f"({_data_here(place)}, SNAPSHOT_VERSION {int(snapshot)}, READ_ONLY)"
    )
    try:
        cursor.execute(f"USE {name}")
        yield
    finally:
        cursor.execute("USE lake")
        cursor.execute(f"DETACH {name}")


def _bare(place: Place) -> DuckDBPyConnection:
    # DuckDB checks a signature over all of a file at every LOAD: once in a process is enough.
    connection = duckdb.connect(config=_CONFIG | {"allow_unsigned_extensions": "true"})
    of_files = (_S3_EXTENSION,) if place.in_s3 else ()
    for name in (place.database.extension, *of_files, "ducklake"):
        connection.execute(f"LOAD {quoted(_signed_extension(name))}")
    # GLOBAL: without it DuckDB sets these for the connection alone, and its cursors have their own.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    if place.in_s3:
        timeout_s = math.ceil(place.s3.read_timeout_s)
        connection.execute(f"SET GLOBAL http_timeout = {timeout_s}")
    # It answers max() from column statistics, which DuckLake does not keep by snapshot: beside a
    # count() of one snapshot stood the maximum of the next.
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    return connection


@cache
def _signed_extension(name: str) -> Path:
    """The extension's file inside its Python package: nothing is downloaded."""
    path = _extension(name)
    with duckdb.connect(config=_CONFIG) as connection:
        connection.execute(f"LOAD {quoted(path)}")
    return path


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


def _catalog(place: Place) -> str:
    return quoted(f"ducklake:{place.database.target}")


def _data_here(place: Place) -> str:
    # The catalog says `lake/`, so that a store can be moved; this says where that is now.
    # DuckLake would keep small inserts as text in the catalog, where a backslash in a struct is
    # lost, and COCO's run-length codes are full of them: every row goes to a file.
    options = (
        f"DATA_PATH {quoted(place.objects.address(DATA_FOLDER) + '/')}",
        "OVERRIDE_DATA_PATH true",
        "DATA_INLINING_ROW_LIMIT 0",
        "CREATE_IF_NOT_EXISTS false",
        *place.database.options,
    )
    return ", ".join(options)


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
    text = " ".join(str(error).partition("\n\nLINE")[0].split())
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
    if _NO_POSTGRES in lower:
        return postgres_catalog.failure(text)
    if any(word in lower for word in _LOST):
        return TransientStorageError(f"store: the connection to the catalog was lost: {text}")
    if isinstance(error, duckdb.HTTPException) or any(word in lower for word in _HTTP):
        return _http_failure(text)
    if type(error) is duckdb.Error or any(word in lower for word in _UNREADABLE):
        return TerminalStorageError(
            f"store: a file of the lake is damaged, or came so ({text}); run: maskloop fsck"
        )
    locked = any(word in lower for word in _LOCKED)
    if locked or isinstance(error, duckdb.TransactionException | duckdb.FatalException):
        return TransientStorageError(f"store: {text}")
    if isinstance(error, duckdb.IOException | duckdb.OperationalError):
        return TerminalStorageError(f"store: {text}; run: maskloop fsck")
    return None


def _http_failure(text: str) -> StorageError:
    found = _STATUS.search(text)
    status = "" if found is None else found[1] or found[2]
    if status in ("401", "403"):
        return TerminalStorageError(
            f"store: the S3 server refuses: {text}; check store.data, and the credentials of AWS"
        )
    if status == "404":
        return TerminalStorageError(f"store: {text}; run: maskloop fsck")
    return TransientStorageError(
        f"store: the S3 server does not answer: {text}; check store.endpoint and the network, and "
        "run the command again"
    )
