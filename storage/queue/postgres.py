"""The queue in Postgres, for teams: several servers and stages on one queue, from several machines.

Transactions that write run side by side, each on READ COMMITTED: a claim skips the items that
another one is just taking (FOR UPDATE SKIP LOCKED), and every other write names the state that it
expects in its WHERE, which Postgres looks at again after a wait. Claims of one person come one
after the other, by an advisory lock of that name, so that asking twice at once gives one item.

`annotations.seq` comes from a sequence, whose numbers are given out before the commit. So that the
order of numbers is the order of commits, and a reader that remembers the last one misses none, a
submission takes a turn (an advisory lock) just before it draws its number and has it until its
commit is done. Only submissions wait for each other, and only for that long.
"""

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import URL, Column, Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import DBAPIError

from storage.errors import StorageError, TerminalStorageError
from storage.queue.errors import QueueMoved, QueueUnavailable
from storage.queue.prepared import Prepared

# By class or code of SQLSTATE, what a later try can succeed after: a lost connection (08), a
# conflict or deadlock (40), no disk, memory or connection left (53), a lock not had in time
# (55P03), a server that shuts down, starts or cancels (57), an I/O error (58), a standby (25006).
_TRANSIENT = ("08", "40", "53", "55P03", "57P01", "57P02", "57P03", "57P05", "57014", "58", "25006")
# Nothing changes by itself: no right to (42501), no such schema (3F000), damaged (XX001, XX002),
# a database that was dropped (57P04).
_UNUSABLE = ("42501", "3F000", "XX001", "XX002", "57P04")
_NOW = Prepared(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
_TAKE_TURN = Prepared(text("SELECT pg_advisory_xact_lock(:number)"))
# Of no SQLSTATE that Postgres has; raised by the tables of a queue that moved.
_MOVED = "MQ001"
_REFUSE = f"""
CREATE FUNCTION refuse_moved_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION USING ERRCODE = '{_MOVED}', MESSAGE = (SELECT words FROM queue_moved); END $$
"""
# Shorter than the second after which Postgres looks for deadlocks.
_TRY_MS = 200
_LOCK_S = 60.0
_SEQUENCE = text("SELECT pg_get_serial_sequence(:table_name, :column_name)")
_GO_ON = text("SELECT setval(CAST(:sequence AS regclass), :number, :is_given)")
# A process that hangs in a transaction, or a machine that went away, keeps its locks no longer.
_IDLE_MS = 60_000
_CONNECTION: Mapping[str, Any] = {
    "application_name": "maskloop",
    "client_encoding": "utf8",
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class Postgres:
    """`postgresql://USER@HOST/DATABASE`, by psycopg; a password may be libpq's own affair."""

    single_writer = False
    reading: Mapping[str, Any] = {
        "isolation_level": "REPEATABLE READ",
        "postgresql_readonly": True,
    }
    writing: Mapping[str, Any] = {"isolation_level": "READ COMMITTED"}

    def engine(self, url: URL, timeout_s: float) -> Engine:
        """At most 16 connections; those that a restart of the server broke are replaced."""
        ours = {**_CONNECTION, "connect_timeout": max(2, round(timeout_s))}
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            # What the url says of a connection counts.
            connect_args={name: value for name, value in ours.items() if name not in url.query},
            pool_size=8,
            max_overflow=8,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
            use_native_hstore=False,
        )
        event.listen(engine, "connect", partial(_configure, timeout_s))
        return engine

    def check(self, connection: Connection) -> None:
        """Names and file names are any text."""
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise TerminalStorageError(
                f"review queue: the database must have the encoding UTF8, got {encoding}; make"
                " another: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )

    def now(self, connection: Connection) -> float:
        """Seconds since 1970; not the time when the transaction began, which may have waited."""
        [(seconds,)] = _NOW.rows(connection, {})
        return float(seconds)

    def insert(self, table: Table) -> Insert:
        """Postgres's INSERT."""
        return insert(table)

    def take_turn(self, connection: Connection, turn: str) -> None:
        """An advisory lock, which the end of the transaction gives back."""
        # Locks are numbers, and whoever else uses the database has some too.
        digest = hashlib.sha256(f"maskloop queue {turn}".encode()).digest()
        number = int.from_bytes(digest[:8], "big", signed=True)
        _TAKE_TURN.rows(connection, {"number": number})

    def take_time(self, connection: Connection) -> None:
        """It may be idle while another database is asked."""
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))

    def counter(self, connection: Connection, column: Column[Any]) -> int:
        """What the sequence says."""
        asked = text(f"SELECT last_value, is_called FROM {_sequence(connection, column)}")
        row = connection.execute(asked).one()
        return int(row.last_value) if row.is_called else 0

    def set_counter(self, connection: Connection, column: Column[Any], last: int) -> None:
        """At once, whatever becomes of the transaction: numbers may be left out."""
        values = {"number": max(last, 1), "is_given": last > 0}
        connection.execute(_GO_ON, {"sequence": _sequence(connection, column), **values})

    def refuse_writes(self, connection: Connection, tables: Sequence[Table]) -> None:
        """The tables refuse: writers run side by side, and none need look before it writes."""
        self.accept_writes(connection)
        # All that write now are waited for; whoever waits for a lock then meets the trigger.
        _lock(connection, tables)
        connection.execute(text(_REFUSE))
        for table in tables:
            connection.execute(
                text(
                    "CREATE TRIGGER queue_moved BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE "
                    f"ON {table.name} FOR EACH STATEMENT EXECUTE FUNCTION refuse_moved_queue()"
                )
            )

    def accept_writes(self, connection: Connection) -> None:
        """Without the function there are no triggers."""
        connection.execute(text("DROP FUNCTION IF EXISTS refuse_moved_queue() CASCADE"))

    def check_accepts(self, connection: Connection) -> None:
        """The tables do so."""

    def failure(self, error: DBAPIError) -> StorageError | None:
        """By SQLSTATE; where the server said none, the connection failed."""
        state = getattr(error.orig, "sqlstate", None)
        words = str(error.orig).strip().partition("\n")[0]
        lost = state is None and isinstance(error.orig, psycopg.OperationalError)
        if lost or error.connection_invalidated or (state or "").startswith(_TRANSIENT):
            return QueueUnavailable(f"review queue: {words}")
        if state == _MOVED:
            return QueueMoved(words)
        if (state or "").startswith(_UNUSABLE):
            return TerminalStorageError(f"review queue: {words}")
        return None


def _lock(connection: Connection, tables: Sequence[Table]) -> None:
    """Wait until nobody writes to any of the tables, and keep others from it."""
    names = ", ".join(table.name for table in tables)
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            with connection.begin_nested():
                # Whoever has one table and waits for another is let through in time, or Postgres
                # would find a deadlock.
                connection.execute(text(f"SET LOCAL lock_timeout = '{_TRY_MS}ms'"))
                connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))
                return
        except DBAPIError as error:
            busy = getattr(error.orig, "sqlstate", None) == "55P03"
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0, _TRY_MS / 1000))


def _sequence(connection: Connection, column: Column[Any]) -> str:
    names = {"table_name": column.table.name, "column_name": column.name}
    return str(connection.execute(_SEQUENCE, names).scalar_one())


def _configure(timeout_s: float, connection: "psycopg.Connection[Any]", _record: Any) -> None:
    """Say how long to wait, and that a commit that was acknowledged is on disk."""
    connection.autocommit = True
    connection.execute(
        "SELECT set_config('lock_timeout', %s, false),"
        " set_config('idle_in_transaction_session_timeout', %s, false)",
        (f"{timeout_s * 1000:.0f}ms", f"{_IDLE_MS}ms"),
    )
    # A server may have it off for everybody; stricter than "on" stays as it is.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.autocommit = False
