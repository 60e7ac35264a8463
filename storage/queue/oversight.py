"""What a lead may do with others' items: look at any, end a lease. Reopening is the queue's own."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, case, false, func, or_, select, update

from storage.queue.database import Database, as_utc
from storage.queue.errors import NotHeld, UnknownItem
from storage.queue.leases import is_for
from storage.queue.schema import (
    IS_DEAD,
    IS_DONE,
    IS_LEASED,
    IS_READY,
    annotations,
    items,
    pins,
    submissions,
)


@dataclass(frozen=True, kw_only=True)
class ItemState:
    """An item without its payload: where it stands, and who has it or has finished it."""

    item_id: str
    image_id: str
    file_name: str
    state: str
    kind: str
    is_pinned: bool
    model_version: str
    run_id: str
    iteration: int
    attempts: int
    skips: int
    dead_reason: str | None
    annotator: str | None
    answered_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class PinnedImage:
    """An image that somebody wants first; `waits`: in the queue, or with somebody.

    `file_name` is None while no item of it was ever enqueued.
    """

    image_id: str
    file_name: str | None
    pinned_by: str
    pinned_at: datetime
    waits: bool


_IN_STATE = {"ready": IS_READY, "leased": IS_LEASED, "done": IS_DONE, "dead": IS_DEAD}
_COLUMNS = (
    "item_id",
    "image_id",
    "file_name",
    "state",
    "model_version",
    "run_id",
    "iteration",
    "attempts",
    "skips",
    "dead_reason",
)


class Oversight:
    """Items as a lead sees them; every method may raise QueueUnavailable, like the queue's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def items(
        self, state: str, kind: str | None = None, *, after: str = "", limit: int = 50
    ) -> list[ItemState]:
        """Items in a state, of one kind or all, behind the id `after`, by id, at most `limit`."""
        # Answers are numbered by the opening that they closed; an open one has none yet.
        newest = and_(
            annotations.c.item_id == items.c.item_id, annotations.c.ordinal == items.c.openings
        )
        its_own = submissions.c.submission_id == annotations.c.submission_id
        statement = (
            select(
                *(items.c[name] for name in _COLUMNS),
                items.c.stage.label("kind"),
                items.c.base_priority.is_not(None).label("is_pinned"),
                items.c.lease_owner,
                annotations.c.annotator,
                # Not the annotation's own: that lies behind the body.
                submissions.c.at,
            )
            .select_from(items.outerjoin(annotations, newest).outerjoin(submissions, its_own))
            .where(_IN_STATE[state], items.c.item_id > after)
            .order_by(items.c.item_id)
            .limit(limit)
        )
        if kind is not None:
            statement = statement.where(items.c.stage == kind)
        with self._database.read() as connection:
            return [_item_of(row) for row in connection.execute(statement)]

    def release(self, item_id: str) -> str:
        """End whoever's lease of an item, as if it had not been claimed; returns who held it.

        What the former holder still sends is refused as stale, also when they claim the item
        anew: that is another lease. Raises NotHeld, UnknownItem.
        """
        with self._database.write() as connection:
            row = connection.execute(
                select(items.c.lease_owner, items.c.lease_token).where(items.c.item_id == item_id)
            ).one_or_none()
            if row is None:
                raise UnknownItem(f"item {item_id}: no such item")
            if row.lease_owner is None or not _end_lease(connection, item_id, row.lease_token):
                raise NotHeld(f"item {item_id}: nobody holds it now")
        return str(row.lease_owner)

    def pins(self) -> list[PinnedImage]:
        """The images that are pinned, the oldest wish first."""
        waits = func.max(case((items.c.state.in_(("ready", "leased")), 1), else_=0))
        statement = (
            select(pins, func.min(items.c.file_name).label("file_name"), waits.label("waits"))
            .select_from(pins.outerjoin(items, items.c.image_id == pins.c.image_id))
            .group_by(pins.c.image_id)
            .order_by(pins.c.pinned_at, pins.c.image_id)
        )
        with self._database.read() as connection:
            return [_pinned_of(row) for row in connection.execute(statement)]

    def images_named(self, name: str) -> set[str]:
        """The ids of the images that have items in the queue and this id or file name."""
        which = or_(items.c.image_id == name, items.c.file_name == name)
        with self._database.read() as connection:
            return set(connection.execute(select(items.c.image_id).where(which)).scalars())

    def may_read(self, item_id: str, annotator: str) -> bool:
        """Whether `annotator`, who is no lead, holds an item, or it waits and may be theirs."""
        theirs = and_(IS_LEASED, items.c.lease_owner == annotator)
        offered = and_(IS_READY, is_for(annotator, false()))
        which = and_(items.c.item_id == item_id, or_(offered, theirs))
        with self._database.read() as connection:
            return connection.execute(select(items.c.item_id).where(which)).first() is not None


def _end_lease(connection: Connection, item_id: str, lease_token: int) -> bool:
    # Of this lease, not of one that somebody else was given a moment ago.
    seen = and_(items.c.item_id == item_id, items.c.lease_token == lease_token)
    statement = update(items).where(seen, IS_LEASED)
    ended = statement.values(
        state="ready",
        attempts=items.c.attempts - 1,
        lease_owner=None,
        leased_at=None,
        lease_expires=None,
    )
    return connection.execute(ended).rowcount > 0


def _item_of(row: Row[Any]) -> ItemState:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return ItemState(
        **values,
        kind=row.kind,
        is_pinned=bool(row.is_pinned),
        annotator=row.lease_owner or row.annotator,
        answered_at=None if row.at is None else as_utc(row.at),
    )


def _pinned_of(row: Row[Any]) -> PinnedImage:
    return PinnedImage(
        image_id=row.image_id,
        file_name=row.file_name,
        pinned_by=row.pinned_by,
        pinned_at=as_utc(row.pinned_at),
        waits=bool(row.waits),
    )
