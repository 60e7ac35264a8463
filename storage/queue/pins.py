"""Pins: images that somebody wants first. Each item of a pinned image goes before those of others.

While an image is pinned, every item of it keeps its own priority in `base_priority`, whatever its
state: one that is reopened, or comes anew, is in front as well, and each gets its own back exactly.
Each function is one step of a transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from storage.queue.database import as_utc, insert_into, take_turn
from storage.queue.schema import items, pins

# No item has one as high by itself.
PINNED_PRIORITY = 1e6
# Databases take so many values in one statement, and more.
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A wish that an image comes first: whose, and since when."""

    image_id: str
    pinned_by: str
    pinned_at: datetime


def pin(connection: Connection, image_ids: Iterable[str], by: str, now: float) -> int:
    """Pin images; returns how many were not. One that is pinned stays as it is, and whose it is."""
    _take_turn(connection)
    rows = [
        {"image_id": image_id, "pinned_by": by, "pinned_at": now}
        for image_id in sorted(set(image_ids))
    ]
    if not rows:
        return 0
    statement = insert_into(connection, pins).on_conflict_do_nothing()
    new = connection.execute(statement.returning(pins.c.image_id), rows).all()
    _bring_forward(connection)
    return len(new)


def unpin(connection: Connection, image_ids: Iterable[str]) -> int:
    """Take pins away; returns how many there were."""
    _take_turn(connection)
    wanted, num_gone = sorted(set(image_ids)), 0
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        num_gone += connection.execute(delete(pins).where(pins.c.image_id.in_(some))).rowcount
        of_them = (items.c.image_id.in_(some), items.c.base_priority.is_not(None))
        own = {"priority": items.c.base_priority, "base_priority": None}
        connection.execute(update(items).where(*of_them).values(**own))
    return num_gone


def bring_forward_new(connection: Connection) -> None:
    """Move items that were just enqueued to the front where their images are pinned."""
    _take_turn(connection)
    _bring_forward(connection)


def all_pins(connection: Connection) -> list[Pin]:
    """All pins, the oldest first."""
    statement = select(pins).order_by(pins.c.pinned_at, pins.c.image_id)
    return [
        Pin(image_id=row.image_id, pinned_by=row.pinned_by, pinned_at=as_utc(row.pinned_at))
        for row in connection.execute(statement)
    ]


def _take_turn(connection: Connection) -> None:
    # Or a pin and an item of its image that come at the same time would not see each other.
    take_turn(connection, "pins")


def _bring_forward(connection: Connection) -> None:
    waiting = (items.c.base_priority.is_(None), items.c.image_id.in_(select(pins.c.image_id)))
    # A wish that is newer than a skip, which would keep the item behind all others.
    front = {"base_priority": items.c.priority, "priority": PINNED_PRIORITY, "skips": 0}
    connection.execute(update(items).where(*waiting).values(**front))
