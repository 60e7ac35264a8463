"""What keeps a queue from being used: it moved to another database, or is a copy not yet in use.

It stands in a table of its own, which only such a queue has.
"""

from dataclasses import dataclass
from typing import Self

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
)

from storage.queue.errors import QueueMoved

moved = Table(
    "queue_moved",
    MetaData(),
    Column("place", String, nullable=False),
    Column("is_copy", Integer, nullable=False),
    # What whoever writes is told, by the database itself where that is the one to refuse.
    Column("words", String, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Where the queue moved to; of a copy that is not in use yet (`is_copy`), where it is from."""

    place: str
    is_copy: bool

    @classmethod
    def read(cls, connection: Connection) -> Self | None:
        """The fence around this queue, None where there is none."""
        if not inspect(connection).has_table(moved.name):
            return None
        row = connection.execute(select(moved)).one_or_none()
        return None if row is None else cls(place=row.place, is_copy=bool(row.is_copy))

    def keep(self, connection: Connection) -> None:
        """Write it down, in place of another."""
        moved.create(connection, checkfirst=True)
        connection.execute(delete(moved))
        values = {"place": self.place, "is_copy": int(self.is_copy), "words": self.words}
        connection.execute(insert(moved).values(**values))

    @property
    def words(self) -> str:
        """What whoever wants to use the queue is told, in one line."""
        if self.is_copy:
            return (
                f"review queue: a copy of {self.place} that was not finished; run the same "
                "maskloop store move again"
            )
        return (
            f"review queue: the queue moved to {self.place}; restart serve, follow or loop, with "
            "[store] and [queue] of the maskloop.toml that moved it; if the move was interrupted, "
            "run the same maskloop store move again, or maskloop store move --take-back"
        )

    def refusal(self) -> QueueMoved:
        """The error for whoever wants to use the queue."""
        return QueueMoved(self.words)


def forget(connection: Connection) -> None:
    """Leave no trace of a fence."""
    moved.drop(connection, checkfirst=True)
