"""A catalog in a database of Postgres, for teams: several machines work on one store at once.

The tables of DuckLake lie in a schema of their own, so that the review queue may have the rest of
the database. The password never stands in what DuckDB attaches, which its errors repeat.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storage.catalog.commit_lock import TIMEOUT_S, StillHeld, busy
from storage.errors import StorageError, TerminalStorageError, TransientStorageError

SCHEMA = "maskloop_lake"
SECRET = "maskloop_catalog"
_PREFIX = "postgresql://"
# A server that went away is noticed; what the url says of a connection counts.
_CONNECTION = {
    "application_name": "maskloop",
    "connect_timeout": "10",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
# So is a client that went away with the lock.
_SERVER = {
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_LOCK = int.from_bytes(hashlib.sha256(b"maskloop lake").digest()[:8], "big", signed=True)
# What a server says that nobody changes by waiting.
_FINAL = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "root certificate",
    "server does not support ssl",
)


@dataclass(frozen=True)
class PostgresCatalog:
    """The database at `url`; see `storage.catalog.place.Catalog`. Raises ValueError."""

    url: str = field(repr=False)

    options = (
        f"METADATA_SCHEMA '{SCHEMA}'",
        f"META_SCHEMA '{SCHEMA}'",
        f"META_SECRET '{SECRET}'",
    )
    direct = ("TYPE postgres", f"SCHEMA '{SCHEMA}'", f"SECRET {SECRET}")
    extension = "postgres_scanner"
    reads_one_state = True

    def __post_init__(self) -> None:
        if not self.url.startswith(_PREFIX) or not self._parsed().get("dbname"):
            raise _not_a_url()

    @property
    def target(self) -> str:
        """What DuckLake attaches: everything but the password, as libpq reads it."""
        parsed = _CONNECTION | self._parsed()
        parsed.pop("password", None)
        return f"postgres:{make_conninfo(**parsed)}"

    def secret(self) -> str:
        """The password, where the url has one; else libpq has ways of its own."""
        return str(self._parsed().get("password", ""))

    def is_there(self) -> bool:
        """Whether the database has DuckLake's tables."""
        with translated(), self._connected() as connection:
            row = connection.execute(
                "SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.ducklake_snapshot",)
            ).fetchone()
        return row == (True,)

    def prepare(self) -> None:
        """Make the schema; refuse a database that cannot hold any text."""
        with translated(), self._connected() as connection:
            row = connection.execute("SHOW server_encoding").fetchone()
            if row != ("UTF8",):
                raise TerminalStorageError(
                    f"store: {self}: the database must have the encoding UTF8, got {row}; make "
                    "another: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
                )

    @contextmanager
    def lock(self, timeout_s: float = TIMEOUT_S) -> Iterator[StillHeld]:
        """An advisory lock, over all machines; the server lets go of it when the connection ends.

        DuckLake refuses two commits that change the same rows, but not two that each count the
        models and add the next.
        """
        held = _Held(self, timeout_s)
        held.take()
        try:
            yield held.check
        finally:
            held.let_go()

    def settle(self) -> None:
        """Wait until the server has ended what writes snapshots, if only to find nobody there."""
        with translated(), self._connected() as connection, connection.transaction():
            connection.execute(
                "SELECT set_config('lock_timeout', %s, true)", (_milliseconds(TIMEOUT_S),)
            )
            try:
                connection.execute(f"LOCK TABLE {SCHEMA}.ducklake_snapshot IN SHARE MODE")
            except psycopg.errors.LockNotAvailable as error:
                raise busy(TIMEOUT_S) from error

    def __str__(self) -> str:
        parsed = self._parsed()
        where = parsed.get("host") or parsed.get("hostaddr") or "localhost"
        return f"postgresql://{where}/{parsed['dbname']}"

    def _parsed(self) -> dict[str, Any]:
        try:
            return dict(conninfo_to_dict(self.url))
        except psycopg.ProgrammingError:
            # Not shown, nor what it says: it may hold a password.
            raise _not_a_url() from None

    def _connected(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(make_conninfo(**(_CONNECTION | self._parsed())), autocommit=True)


class _Held:
    """The lock, on a connection that is there for nothing else."""

    def __init__(self, catalog: PostgresCatalog, timeout_s: float) -> None:
        self._catalog = catalog
        self._timeout_s = timeout_s
        self._connection: psycopg.Connection[Any] | None = None

    def take(self) -> None:
        """Wait for the lock; raises TransientStorageError when it does not come."""
        settings = _SERVER | {"lock_timeout": _milliseconds(self._timeout_s)}
        with translated():
            self._connection = self._catalog._connected()
            try:
                for name, value in settings.items():
                    self._connection.execute("SELECT set_config(%s, %s, false)", (name, value))
                self._connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            except psycopg.errors.LockNotAvailable as error:
                self.let_go()
                raise busy(self._timeout_s) from error
            except BaseException:
                self.let_go()
                raise

    def check(self) -> None:
        """Raise TransientStorageError if the lock was lost, having taken it again."""
        assert self._connection is not None, "it was taken"
        try:
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            self.let_go()
            self.take()
            raise TransientStorageError("store: the lock was lost meanwhile") from error

    def let_go(self) -> None:
        """End the connection, and with it the lock."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what Postgres or the way to it did wrong into our errors."""
    try:
        yield
    except psycopg.Error as error:
        raise failure(str(error)) from error


def failure(words: str) -> StorageError:
    """The error for what a connection said: one that passes, unless it never will."""
    line = " ".join(words.split())
    if any(word in line.lower() for word in _FINAL):
        return TerminalStorageError(
            f"store: {line}; correct store.catalog in maskloop.toml, or the database"
        )
    return TransientStorageError(f"store: {line}")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def _not_a_url() -> ValueError:
    return ValueError("catalog: must be postgresql://USER@HOST:PORT/DATABASE")
