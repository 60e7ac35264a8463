"""The database under the review queue: transactions, time, and all that is SQLite's own.

SQLite today. Another dialect needs its engine, its clock and its reading of error codes, all here;
in Postgres `write` must also take an advisory lock, or `annotations.seq` is not in commit order.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, Self

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import TerminalStorageError
from storage.queue import migration, schema
from storage.queue.errors import QueueUnavailable

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
_UNUSABLE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY})


class QueueClock(Protocol):
    """Tells the time of a transaction; production asks the database, tests move it by hand."""

    def now(self, connection: Connection) -> float:
        """Seconds since 1970, UTC."""


class DatabaseClock:
    """The database's own clock: the clocks of annotators and of API servers decide nothing."""

    def now(self, connection: Connection) -> float:
        """Seconds since 1970, UTC, in steps of a millisecond."""
        # unixepoch('subsec') is NULL before SQLite 3.42, which Debian 12 still has.
        sql = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
        return float(connection.execute(sql).scalar_one())


class Database:
    """Connections to one database, with one writer at a time in this process."""

    def __init__(self, engine: Engine, clock: QueueClock, busy_timeout_s: float) -> None:
        self._engine = engine
        self._write_engine = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        # SQLite admits one writer and lets the others poll; queueing them here instead took the
        # 99th percentile under 20 clients from 432 to 53 ms.
        self._writer = threading.Lock()

    @classmethod
    def open(
        cls, url: str, *, clock: QueueClock | None = None, busy_timeout_s: float = 10.0
    ) -> Self:
        """Open `sqlite:///FILE`, making its tables when missing, or bringing them up to date.

        Raises ValueError for another kind of url, QueueUnavailable when the file cannot be reached,
        TerminalStorageError when it is damaged, NewerStoreError when a newer maskloop made it.
        """
        database = cls(
            _sqlite_engine(url, busy_timeout_s), clock or DatabaseClock(), busy_timeout_s
        )
        try:
            database._prepare()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes: committed at the end, rolled back on any exception."""
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise QueueUnavailable(f"review queue: no turn to write in {self._busy_timeout_s} s")
        try:
            with _translated(), self._write_engine.begin() as connection:
                yield connection
        finally:
            self._writer.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that reads: every statement in it sees the same state."""
        with _translated(), self._engine.begin() as connection:
            yield connection

    def now(self, connection: Connection) -> float:
        """The time of this transaction, in seconds since 1970."""
        return self._clock.now(connection)

    def close(self) -> None:
        """Close the idle connections; those in use close when they come back."""
        self._engine.dispose()

    def _prepare(self) -> None:
        with self.read() as connection:
            stored = schema.stored_version(connection)
        if stored is None or stored < schema.SCHEMA_VERSION:
            with self.write() as connection:
                schema.create(connection)
                migration.migrate(connection)
                stored = schema.stored_version(connection)
        schema.check_version(stored)


def insert_into(table: Table) -> Insert:
    """An INSERT that knows ON CONFLICT."""
    return insert(table)


def as_utc(seconds: float) -> datetime:
    """Seconds since 1970 as an aware time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _sqlite_engine(url: str, busy_timeout_s: float) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise ValueError(f"queue url: must be sqlite:///FILE, got {url!r}")
    engine = create_engine(
        parsed,
        connect_args={"timeout": busy_timeout_s},
        pool_size=8,
        max_overflow=56,
        pool_timeout=busy_timeout_s,
    )
    event.listen(engine, "connect", partial(_configure, busy_timeout_s))
    event.listen(engine, "begin", _begin)
    return engine


def _configure(busy_timeout_s: float, connection: sqlite3.Connection, _record: Any) -> None:
    # The driver must not open transactions by itself: ours say how they begin.
    connection.isolation_level = None
    _use_wal(connection, busy_timeout_s)
    connection.execute("PRAGMA synchronous = FULL").close()
    connection.execute("PRAGMA foreign_keys = ON").close()


def _use_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    # SQLite does not wait here when two processes meet over a new file: it says "locked" at once.
    deadline = time.monotonic() + busy_timeout_s
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
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours; broken constraints and faulty SQL stay as they are."""
    try:
        yield
    except IntegrityError:
        raise
    except PoolTimeout as error:
        raise QueueUnavailable(f"review queue: no free connection: {error}") from error
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in _TRANSIENT or error.connection_invalidated:
            raise QueueUnavailable(f"review queue: {error.orig}") from error
        if code in _UNUSABLE:
            raise TerminalStorageError(f"review queue: {error.orig}") from error
        raise
