"""The database under the review queue: transactions, time, and errors in the queue's own words.

What SQLite and Postgres each do in a way of their own is in `sqlite` and `postgres`.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy import URL, Column, Connection, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.queue import migration, schema
from storage.queue.dialect import Dialect, Upsert
from storage.queue.errors import QueueUnavailable
from storage.queue.fence import Fence, forget
from storage.queue.postgres import Postgres
from storage.queue.sqlite import Sqlite

_Built = TypeVar("_Built")
_DIALECTS: Mapping[str, Dialect] = {"sqlite": Sqlite(), "postgresql": Postgres()}


class QueueClock(Protocol):
    """Tells the time of a transaction; production asks the database, tests move it by hand."""

    def now(self, connection: Connection) -> float:
        """Seconds since 1970, UTC."""


class DatabaseClock:
    """The database's own clock: the clocks of annotators and of API servers decide nothing."""

    def now(self, connection: Connection) -> float:
        """Seconds since 1970, UTC."""
        return _dialect_of(connection).now(connection)


class Database:
    """Connections to one database; safe to share between threads."""

    def __init__(self, url: URL, clock: QueueClock, busy_timeout_s: float) -> None:
        self.place = shown(url)
        # The file of SQLite, None elsewhere.
        self.file = Path(url.database or "") if url.drivername == "sqlite" else None
        self._dialect = _DIALECTS[url.drivername]
        self._engine = self._dialect.engine(url, busy_timeout_s)
        self._reading = self._engine.execution_options(**self._dialect.reading)
        self._writing = self._engine.execution_options(**self._dialect.writing)
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._writer = threading.Lock() if self._dialect.single_writer else None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: QueueClock | None = None,
        busy_timeout_s: float = 10.0,
        even_moved: bool = False,
    ) -> Self:
        """Open `sqlite:///FILE` or `postgresql://...`, with its tables made or brought up to date.

        Raises ValueError for another kind of url, QueueUnavailable when the database cannot be
        reached, TerminalStorageError when it is damaged or of no use, NewerStoreError when a newer
        maskloop made it, QueueMoved when the queue is elsewhere now, or a copy that was not
        finished; `even_moved` opens such a one too.
        """
        database = cls(read_url(url), clock or DatabaseClock(), busy_timeout_s)
        try:
            database._prepare(even_moved)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def write(self, *, even_moved: bool = False) -> Iterator[Connection]:
        """One transaction that writes: committed at the end, rolled back on any exception.

        Raises QueueMoved, here or from a statement, unless `even_moved`; then a fence is to be
        lifted before its tables can be written to.
        """
        with self._turn(), self.translated(), self._writing.begin() as connection:
            if not even_moved:
                self._dialect.check_accepts(connection)
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that reads: every statement in it sees the same state."""
        with self.translated(), self._reading.begin() as connection:
            yield connection

    @property
    def single_writer(self) -> bool:
        """Whether two transactions that write can only wait for each other."""
        return self._dialect.single_writer

    def now(self, connection: Connection) -> float:
        """The time of this transaction, in seconds since 1970."""
        return self._clock.now(connection)

    def require_in_use(self) -> None:
        """Raise QueueMoved where the queue is elsewhere now, or a copy that was not finished."""
        with self.read() as connection:
            fence = Fence.read(connection)
        if fence is not None:
            raise fence.refusal()

    def take_time(self, connection: Connection) -> None:
        """Let this transaction be as long as it takes."""
        self._dialect.take_time(connection)

    def counter(self, connection: Connection, column: Column[Any]) -> int:
        """The last number that the database gave out for this column, 0 before the first."""
        return self._dialect.counter(connection, column)

    def set_counter(self, connection: Connection, column: Column[Any], last: int) -> None:
        """Have the numbers of this column go on after `last`."""
        self._dialect.set_counter(connection, column, last)

    def fence(self, connection: Connection, fence: Fence) -> None:
        """Refuse all writes from the commit of this transaction on."""
        fence.keep(connection)
        self._dialect.refuse_writes(connection, schema.metadata.sorted_tables)

    def lift_fence(self, connection: Connection) -> None:
        """Refuse them no longer; no fence is no error."""
        self._dialect.accept_writes(connection)
        forget(connection)

    def close(self) -> None:
        """Close the idle connections; those in use close when they come back."""
        self._engine.dispose()

    def _prepare(self, even_moved: bool) -> None:
        if not even_moved:
            self.require_in_use()
        with self.read() as connection:
            stored = schema.stored_version(connection)
        if stored is None or stored < schema.SCHEMA_VERSION:
            with self.write(even_moved=even_moved) as connection:
                self._dialect.check(connection)
                take_turn(connection, "schema")
                fence = Fence.read(connection)
                self.lift_fence(connection)
                schema.create(connection)
                migration.migrate(connection)
                if fence is not None:
                    self.fence(connection, fence)
                stored = schema.stored_version(connection)
        schema.check_version(stored)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise QueueUnavailable(f"review queue: no turn to write in {self._busy_timeout_s} s")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the driver's errors into ours; broken constraints and faulty SQL stay."""
        try:
            yield
        except PoolTimeout as error:
            raise QueueUnavailable(f"review queue: no free connection: {error}") from error
        except DBAPIError as error:
            failure = self._dialect.failure(error)
            if failure is None:
                raise
            raise failure from error


def by_dialect(build: Callable[[Dialect], _Built]) -> Mapping[str, _Built]:
    """What `build` makes for each kind of database, by `connection.dialect.name`."""
    return {name: build(dialect) for name, dialect in _DIALECTS.items()}


def insert_into(connection: Connection, table: Table) -> Upsert:
    """An INSERT that knows ON CONFLICT."""
    return _dialect_of(connection).insert(table)


def take_turn(connection: Connection, turn: str) -> None:
    """Wait until no other transaction has the turn of this name, and keep it to the end."""
    _dialect_of(connection).take_turn(connection, turn)


def as_utc(seconds: float) -> datetime:
    """Seconds since 1970 as an aware time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def read_url(url: str) -> URL:
    """Raise ValueError unless the url names a file of SQLite or a database of Postgres."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    known = parsed is not None and parsed.drivername in _DIALECTS
    if parsed is None or not known or parsed.database in (None, "", ":memory:"):
        shown = re.sub(r"//[^@/]*@", "//***@", url)
        raise ValueError(
            f"queue url: must be sqlite:///FILE or postgresql://HOST/DATABASE, got {shown!r}"
        )
    return parsed


def shown(url: URL) -> str:
    """Where a database is, for people to read: without user, password and whatever else."""
    if url.drivername == "sqlite":
        return f"sqlite:///{url.database}"
    host = url.host or url.query.get("host") or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"{url.drivername}://{host}{port}/{url.database}"


def _dialect_of(connection: Connection) -> Dialect:
    return _DIALECTS[connection.dialect.name]
