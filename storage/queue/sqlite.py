"""The queue in a file: SQLite with a write-ahead log, and one writer at a time.

A transaction that writes says so when it begins (BEGIN IMMEDIATE), so commits come one after the
other, and `annotations.seq` is in their order by itself.
"""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import URL, Column, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.exc import DBAPIError

from storage.errors import StorageError, TerminalStorageError
from storage.queue.errors import QueueUnavailable
from storage.queue.fence import Fence
from storage.queue.prepared import Prepared

# Of these a later try can succeed: busy, locked, disk full, I/O error, cannot open, out of memory.
_TRANSIENT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
    }
)
# A number in the file's header, at hand for every transaction; 0 in a new file.
_IS_FENCED = Prepared(text("PRAGMA user_version"))
_COUNTER = Prepared(text("SELECT seq FROM sqlite_sequence WHERE name = :table_name"))
_FORGET_COUNTER = Prepared(text("DELETE FROM sqlite_sequence WHERE name = :table_name"))
_KEEP_COUNTER = Prepared(text("INSERT INTO sqlite_sequence VALUES (:table_name, :last)"))
_UNUSABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY})


class Sqlite:
    """`sqlite:///FILE`."""

    # SQLite admits one writer and lets the others poll; queueing them in the process instead took
    # the 99th percentile under 20 clients from 432 to 53 ms.
    single_writer = True
    reading: Mapping[str, Any] = {"begin": "BEGIN"}
    writing: Mapping[str, Any] = {"begin": "BEGIN IMMEDIATE"}

    def engine(self, url: URL, timeout_s: float) -> Engine:
        """Connections to the file, which is made when it is missing."""
        engine = create_engine(
            url,
            connect_args={"timeout": timeout_s},
            pool_size=8,
            max_overflow=56,
            pool_timeout=timeout_s,
        )
        event.listen(engine, "connect", partial(_configure, timeout_s))
        event.listen(engine, "begin", _begin)
        return engine

    def check(self, connection: Connection) -> None:
        """Any file of SQLite will do."""

    def now(self, connection: Connection) -> float:  # noqa: ARG002 (other databases tell it)
        """Seconds since 1970. SQLite is in this process, and has no other clock than it."""
        return time.time()

    def insert(self, table: Table) -> Insert:
        """SQLite's INSERT."""
        return insert(table)

    def take_turn(self, connection: Connection, turn: str) -> None:
        """Whoever writes has every turn."""

    def take_time(self, connection: Connection) -> None:
        """Nobody ends it."""

    def counter(self, connection: Connection, column: Column[Any]) -> int:
        """SQLite's own note of it, by table."""
        row = _COUNTER.first(connection, {"table_name": column.table.name})
        return 0 if row is None else int(row[0])

    def set_counter(self, connection: Connection, column: Column[Any], last: int) -> None:
        """The same note."""
        values = {"table_name": column.table.name, "last": last}
        _FORGET_COUNTER.rows(connection, values)
        _KEEP_COUNTER.rows(connection, values)

    def refuse_writes(
        self,
        connection: Connection,
        tables: Sequence[Table],  # noqa: ARG002 (other databases refuse by table)
    ) -> None:
        """Whoever writes has waited for its turn, and looks then."""
        connection.exec_driver_sql("PRAGMA user_version = 1")

    def accept_writes(self, connection: Connection) -> None:
        """As in a new file."""
        connection.exec_driver_sql("PRAGMA user_version = 0")

    def check_accepts(self, connection: Connection) -> None:
        """A microsecond or two."""
        if _IS_FENCED.rows(connection, {}) != [(0,)]:
            fence = Fence.read(connection)
            assert fence is not None, "written in one transaction with the number"
            raise fence.refusal()

    def failure(self, error: DBAPIError) -> StorageError | None:
        """By SQLite's primary result code."""
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in _TRANSIENT or error.connection_invalidated:
            return QueueUnavailable(f"review queue: {error.orig}")
        if code in _UNUSABLE:
            return TerminalStorageError(f"review queue: {error.orig}")
        return None


def _configure(timeout_s: float, connection: sqlite3.Connection, _record: Any) -> None:
    # The driver must not open transactions by itself: ours say how they begin.
    connection.isolation_level = None
    _use_wal(connection, timeout_s)
    connection.execute("PRAGMA synchronous = FULL").close()
    connection.execute("PRAGMA foreign_keys = ON").close()


def _use_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    # SQLite does not wait here when two processes meet over a new file: it says "locked" at once.
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options()["begin"])
