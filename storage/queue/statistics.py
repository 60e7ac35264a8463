"""The queue in numbers: who does how much, what becomes of proposals, how fast it goes.

Only columns that indexes hold are read, never a body or a payload: an image with a thousand masks
costs as much as an empty one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal_column, select

from storage.queue.database import Database, as_utc
from storage.queue.items import WITHDRAWN
from storage.queue.people import Role
from storage.queue.schema import IS_DEAD, IS_LEASED, STATES, annotations, items, people

HOURS = 24
_HOUR_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one person has done; `num_masks` are those accepted, edited and added.

    `last_at`: when they last answered an item, or took the one that they hold.
    """

    name: str
    role: Role
    num_items: int = 0
    num_masks: int = 0
    num_clicks: int = 0
    seconds: float = 0.0
    last_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """What became of the proposals of one model version, and what people had to add."""

    model_version: str
    num_accepted: int
    num_edited: int
    num_rejected: int
    num_added: int


@dataclass(frozen=True, kw_only=True)
class Held:
    """A lease: since how long, and for how long yet; below 0 it has run out."""

    annotator: str
    item_id: str
    file_name: str
    held_s: float
    expires_in_s: float


@dataclass(frozen=True, kw_only=True)
class Hour:
    """What was answered in one hour of the clock, UTC."""

    starts_at: datetime
    num_items: int
    num_masks: int


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """An item that nobody will be offered any more, and why."""

    item_id: str
    file_name: str
    model_version: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The queue at one moment."""

    counts: dict[str, int]
    people: Sequence[Work]
    models: Sequence[Proposals]
    holders: Sequence[Held]
    throughput: Sequence[Hour]
    set_aside: Sequence[SetAside]


def overview(database: Database, *, most_set_aside: int = 100) -> Overview:
    """The queue's numbers, all of one moment; raises QueueUnavailable.

    `throughput` has the last 24 hours of the clock, oldest first, the running one included. Items
    that were withdrawn with their run are not among those set aside.
    """
    with database.read() as connection:
        now = database.now(connection)
        return Overview(
            counts=_counts(connection, now),
            people=_people(connection),
            models=_models(connection),
            holders=_holders(connection, now),
            throughput=_throughput(connection, now),
            set_aside=_set_aside(connection, most_set_aside),
        )


def counts_now(database: Database) -> dict[str, int]:
    """State -> number of items, as `Overview` has them; raises QueueUnavailable."""
    with database.read() as connection:
        return _counts(connection, database.now(connection))


def _total(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(column), 0)


_MASKS = annotations.c.num_accepted + annotations.c.num_edited + annotations.c.num_added


def _counts(connection: Connection, now: float) -> dict[str, int]:
    """Whoever asks first is given an item whose lease has run out: it counts as ready."""
    has_run_out = and_(IS_LEASED, items.c.lease_expires <= now)
    state = case((has_run_out, literal_column("'ready'")), else_=items.c.state).label("state")
    statement = select(state, func.count()).group_by(state)
    found = {str(row[0]): int(row[1]) for row in connection.execute(statement)}
    return {state: found.get(state, 0) for state in STATES}


def _people(connection: Connection) -> list[Work]:
    known = select(people.c.name, people.c.role, people.c.revoked_at)
    rows = connection.execute(known).all()
    roles: dict[str, Role] = {row.name: row.role for row in rows}
    admitted = {row.name for row in rows if row.revoked_at is None}
    done = {row.annotator: row for row in connection.execute(_WORK)}
    taken = {row.lease_owner: row.leased_at for row in connection.execute(_TAKEN)}
    # Without sign-in anybody may work under any name; such names have the role that it takes.
    names = admitted | done.keys() | taken.keys()
    return [
        _work(name, roles.get(name, "annotator"), done.get(name), taken.get(name))
        for name in sorted(names)
    ]


_WORK = select(
    annotations.c.annotator,
    func.count().label("num_items"),
    _total(_MASKS).label("num_masks"),
    _total(annotations.c.num_clicks).label("num_clicks"),
    _total(annotations.c.seconds).label("seconds"),
    func.max(annotations.c.at).label("last_at"),
).group_by(annotations.c.annotator)
_TAKEN = select(items.c.lease_owner, items.c.leased_at).where(IS_LEASED)


def _work(name: str, role: Role, done: Any, taken: float | None) -> Work:
    times = [at for at in (done and done.last_at, taken) if at is not None]
    last_at = as_utc(max(times)) if times else None
    if done is None:
        return Work(name=name, role=role, last_at=last_at)
    return Work(
        name=name,
        role=role,
        num_items=int(done.num_items),
        num_masks=int(done.num_masks),
        num_clicks=int(done.num_clicks),
        seconds=float(done.seconds),
        last_at=last_at,
    )


# Those whose proposals are just a model's: what people make of checks, disputes and masks that
# nobody had chosen says nothing of how good its offers are.
_OF_MODELS = ("assist", "second")


def _models(connection: Connection) -> list[Proposals]:
    names = ("num_accepted", "num_edited", "num_rejected", "num_added")
    statement = (
        select(items.c.model_version, *(_total(annotations.c[name]).label(name) for name in names))
        .join_from(annotations, items)
        .where(items.c.stage.in_(_OF_MODELS))
        .group_by(items.c.model_version)
        .order_by(items.c.model_version)
    )
    return [
        Proposals(
            model_version=row.model_version, **{name: int(getattr(row, name)) for name in names}
        )
        for row in connection.execute(statement)
    ]


def _holders(connection: Connection, now: float) -> list[Held]:
    columns = ("lease_owner", "item_id", "file_name", "leased_at", "lease_expires")
    statement = select(*(items.c[name] for name in columns)).where(IS_LEASED)
    return [
        Held(
            annotator=row.lease_owner,
            item_id=row.item_id,
            file_name=row.file_name,
            held_s=now - row.leased_at,
            expires_in_s=row.lease_expires - now,
        )
        for row in connection.execute(statement.order_by(items.c.lease_owner))
    ]


def _throughput(connection: Connection, now: float) -> list[Hour]:
    # One short range of the index an hour: dialects do not agree on how to round a number.
    running = now // _HOUR_S
    return [_hour(connection, (running - ago) * _HOUR_S) for ago in range(HOURS - 1, -1, -1)]


def _hour(connection: Connection, start: float) -> Hour:
    statement = select(func.count(), _total(_MASKS)).where(
        annotations.c.at >= start, annotations.c.at < start + _HOUR_S
    )
    num_items, num_masks = connection.execute(statement).one()
    return Hour(starts_at=as_utc(start), num_items=int(num_items), num_masks=int(num_masks))


def _set_aside(connection: Connection, most: int) -> list[SetAside]:
    columns = ("item_id", "file_name", "model_version", "dead_reason")
    statement = (
        select(*(items.c[name] for name in columns))
        .where(IS_DEAD, items.c.dead_reason != WITHDRAWN)
        .order_by(items.c.item_id)
        .limit(most)
    )
    return [
        SetAside(
            item_id=row.item_id,
            file_name=row.file_name,
            model_version=row.model_version,
            reason=row.dead_reason,
        )
        for row in connection.execute(statement)
    ]
