"""What the queue asks of one kind of database; `sqlite` and `postgres` answer it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import URL, Column, Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from storage.errors import StorageError

Upsert = sqlite.Insert | postgresql.Insert
"""An INSERT that knows ON CONFLICT; both kinds have the same methods."""


class Dialect(Protocol):
    """All that one kind of database does in a way of its own."""

    single_writer: bool
    """Whether two transactions that write can only wait for each other."""
    reading: Mapping[str, Any]
    """Execution options of a transaction whose statements all see the same state."""
    writing: Mapping[str, Any]
    """Execution options of a transaction that sees what others committed before each statement."""

    def engine(self, url: URL, timeout_s: float) -> Engine:
        """Connections whose commits are on disk, and that wait `timeout_s` for others at most."""

    def check(self, connection: Connection) -> None:
        """Raise TerminalStorageError where the database cannot keep what the queue needs."""

    def now(self, connection: Connection) -> float:
        """The database's time in seconds since 1970."""

    def insert(self, table: Table) -> Upsert:
        """An INSERT into a table."""

    def take_turn(self, connection: Connection, turn: str) -> None:
        """Wait until no other transaction has the turn of this name, and keep it to the end."""

    def take_time(self, connection: Connection) -> None:
        """Let this transaction be as long as it takes."""

    def counter(self, connection: Connection, column: Column[Any]) -> int:
        """The last number that was given out for this column, 0 before the first."""

    def set_counter(self, connection: Connection, column: Column[Any], last: int) -> None:
        """Go on after `last`."""

    def refuse_writes(self, connection: Connection, tables: Sequence[Table]) -> None:
        """Refuse every transaction that writes, from this one's commit on, also those that wait.

        What they are told is in the fence's table by then.
        """

    def accept_writes(self, connection: Connection) -> None:
        """Refuse them no longer."""

    def check_accepts(self, connection: Connection) -> None:
        """Raise QueueMoved where writes are refused, unless the database does so by itself."""

    def failure(self, error: DBAPIError) -> StorageError | None:
        """What an error means to the caller; None for a mistake of ours."""
