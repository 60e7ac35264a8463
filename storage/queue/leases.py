"""Leases: who may work on which item until when; each function is one step of a transaction.

A lease that ran out still counts until somebody else is given the item, so that work which arrives
late is not lost; the token, not the time, decides whether a write is accepted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    Double,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    or_,
    select,
    update,
)

from storage.queue.database import take_turn
from storage.queue.errors import StaleLease, UnknownItem
from storage.queue.prepared import Prepared
from storage.queue.schema import IS_LEASED, IS_READY, items


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """How long people may hold an item, and how often it is offered.

    A lease runs out `ttl_s` after the last heartbeat, and `cap_s` after it began whatever the
    heartbeats say. An item whose lease ended `max_attempts` times without an answer is dead.
    """

    ttl_s: float = 120.0
    cap_s: float = 3600.0
    max_attempts: int = 5

    def __post_init__(self) -> None:
        for name in ("ttl_s", "cap_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: must be a positive number of seconds, got {value}")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts: must be at least 1, got {self.max_attempts}")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A lease as its holder shows it; a write needs all three to match."""

    item_id: str
    lease_token: int
    annotator: str

    def matches(self) -> ColumnElement[bool]:
        """The condition under which the item is still this holder's."""
        return and_(
            items.c.item_id == self.item_id,
            items.c.lease_token == self.lease_token,
            items.c.lease_owner == self.annotator,
            IS_LEASED,
        )

    def shown(self) -> dict[str, Any]:
        """The same as parameters of a statement that was built before."""
        return {
            "shown_item": self.item_id,
            "shown_token": self.lease_token,
            "shown_owner": self.annotator,
        }


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Somebody who wants an item to work on."""

    annotator: str
    is_lead: bool

    def shown(self) -> dict[str, Any]:
        """As parameters of a statement that was built before."""
        return {"owner": self.annotator, "is_lead": self.is_lead}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Which opening of an item was answered, from 1 on, and its image where that had been wished.

    `pinned_image` is None for most: for images that are not pinned, and for all but ordinary items.
    """

    opening: int
    pinned_image: str | None


_NOBODY: Mapping[str, Any] = {"lease_owner": None, "leased_at": None, "lease_expires": None}


def is_for(
    annotator: str | BindParameter[str], is_lead: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Whether an item may be given to somebody at all."""
    admits = or_(items.c.not_for.is_(None), items.c.not_for != annotator)
    return and_(admits, or_(items.c.for_role.is_(None), is_lead))


_IS_FOR_ASKER = is_for(bindparam("owner"), bindparam("is_lead", type_=Boolean))


def _first_ready() -> Select[Any]:
    order = (items.c.skips, items.c.priority.desc(), items.c.item_id)
    return select(items.c.item_id).where(IS_READY, _IS_FOR_ASKER).order_by(*order)


def _has_expired(now: float | BindParameter[float]) -> ColumnElement[bool]:
    return and_(IS_LEASED, items.c.lease_expires <= now)


def _first_expired() -> Select[Any]:
    expired = _has_expired(bindparam("now", type_=Double))
    first = select(items.c.item_id).where(expired, _IS_FOR_ASKER)
    return first.order_by(items.c.priority.desc(), items.c.item_id)


def _granting(first: Select[Any]) -> Prepared:
    chosen = first.limit(1).with_for_update(skip_locked=True).scalar_subquery()
    statement = update(items).where(items.c.item_id == chosen)
    statement = statement.values(
        state="leased",
        lease_owner=bindparam("owner"),
        lease_token=items.c.lease_token + 1,
        attempts=items.c.attempts + 1,
        leased_at=bindparam("now"),
        lease_expires=bindparam("until"),
    )
    return Prepared(statement.returning(items.c.item_id))


_OWNED = and_(IS_LEASED, items.c.lease_owner == bindparam("owner"))
_SHOWN = and_(
    items.c.item_id == bindparam("shown_item"),
    items.c.lease_token == bindparam("shown_token"),
    items.c.lease_owner == bindparam("shown_owner"),
    IS_LEASED,
)
_CAP = items.c.leased_at + bindparam("cap_s", type_=Double)
_UNTIL = bindparam("until", type_=Double)
_EXPIRY = case((_CAP < _UNTIL, _CAP), else_=_UNTIL)
# Locked, or somebody might take it over between this look and the change that follows.
_FIND_OWN = Prepared(
    select(items.c.item_id, items.c.lease_expires, items.c.attempts, _IS_FOR_ASKER)
    .where(_OWNED)
    .with_for_update()
)
_GIVE_BACK = Prepared(
    update(items).where(_OWNED).values(state="ready", attempts=items.c.attempts - 1, **_NOBODY)
)
_PROLONG_OWN = Prepared(update(items).where(_OWNED).values(lease_expires=_EXPIRY))
_BEGIN_AGAIN = Prepared(
    update(items)
    .where(_OWNED)
    .values(leased_at=bindparam("now"), lease_expires=_UNTIL, attempts=items.c.attempts + 1)
)
_PROLONG = Prepared(
    update(items).where(_SHOWN).values(lease_expires=_EXPIRY).returning(items.c.lease_expires)
)
# Whether an answer fulfils the wish for an image; second looks and checks at it do not.
_PINNED = case(
    (and_(items.c.stage == "assist", items.c.base_priority.is_not(None)), items.c.image_id)
)
_FINISH = Prepared(
    update(items).where(_SHOWN).values(state="done", **_NOBODY).returning(items.c.openings, _PINNED)
)
_FIRST_READY, _FIRST_EXPIRED = _first_ready(), _first_expired()
_GRANT_READY, _GRANT_EXPIRED = _granting(_FIRST_READY), _granting(_FIRST_EXPIRED)


def claim(connection: Connection, asker: Asker, now: float, config: QueueConfig) -> str | None:
    """The id of the item that `asker` now holds, None when nothing is left to give them.

    Whoever holds an item gets it again, with the same token: a reload of the page loses nothing.
    Otherwise the first ready item that is for them, else the first such whose lease ran out.
    """
    take_turn(connection, f"claim of {asker.annotator}")
    return (
        _resume(connection, asker, now, config)
        or _grant(connection, _GRANT_READY, asker, now, config)
        or _take_over(connection, asker, now, config)
    )


def foreseen(connection: Connection, asker: Asker, now: float, config: QueueConfig) -> str | None:
    """The id of what `claim` would give `asker` if they held nothing, changing nothing."""
    others = and_(items.c.lease_owner != asker.annotator, items.c.attempts < config.max_attempts)
    given = {**asker.shown(), "now": now}
    for first in (_FIRST_READY, _FIRST_EXPIRED.where(others)):
        if (item_id := connection.execute(first.limit(1), given).scalar_one_or_none()) is not None:
            return str(item_id)
    return None


def heartbeat(connection: Connection, held: Claim, now: float, config: QueueConfig) -> float:
    """Prolong a lease; returns the seconds it now has, 0 once its cap is reached.

    Raises UnknownItem, or StaleLease when the item went to somebody else.
    """
    times = {"cap_s": config.cap_s, "until": now + config.ttl_s}
    row = _PROLONG.first(connection, {**held.shown(), **times})
    if row is None:
        raise refusal(connection, held.item_id)
    return max(0.0, float(row[0]) - now)


def release(connection: Connection, held: Claim) -> None:
    """Give an item back unharmed: this lease does not count as an attempt."""
    _end(connection, held, {"state": "ready", "attempts": items.c.attempts - 1})


def skip(connection: Connection, held: Claim, config: QueueConfig) -> None:
    """Give an item back for later: behind all that were skipped less often, or dead at the end."""
    spent = items.c.attempts >= config.max_attempts
    skips = items.c.skips + 1
    _end(
        connection,
        held,
        {
            "state": case((spent, "dead"), else_="ready"),
            "skips": skips,
            "dead_reason": case((spent, _dead_reason(skips)), else_=None),
        },
    )


def finish(connection: Connection, held: Claim) -> Finished:
    """Mark an item done."""
    row = _FINISH.first(connection, held.shown())
    if row is None:
        raise refusal(connection, held.item_id)
    opening, pinned_image = row
    return Finished(opening=opening, pinned_image=pinned_image)


def refusal(connection: Connection, item_id: str) -> UnknownItem | StaleLease:
    """Why a write to `item_id` matched nothing."""
    known = select(items.c.item_id).where(items.c.item_id == item_id)
    if connection.execute(known).first() is None:
        return UnknownItem(f"item {item_id}: no such item")
    return StaleLease(f"item {item_id}: no longer yours; keep your work and claim again")


def _end(connection: Connection, held: Claim, values: Mapping[str, Any]) -> None:
    statement = update(items).where(held.matches()).values(**{**_NOBODY, **values})
    if connection.execute(statement).rowcount == 0:
        raise refusal(connection, held.item_id)


def _resume(connection: Connection, asker: Asker, now: float, config: QueueConfig) -> str | None:
    row = _FIND_OWN.first(connection, asker.shown())
    if row is None:
        return None
    item_id, expires, attempts, is_theirs = row
    own = {"owner": asker.annotator}
    if not is_theirs:
        # Taken as a lead, before somebody was registered and they turned out to be none.
        _GIVE_BACK.rows(connection, own)
        return None
    if expires > now:
        times = {"cap_s": config.cap_s, "until": now + config.ttl_s}
        _PROLONG_OWN.rows(connection, {**own, **times})
        return str(item_id)
    if attempts >= config.max_attempts:
        _bury(connection, and_(IS_LEASED, items.c.lease_owner == asker.annotator))
        return None
    # It ran out, but nobody took it: the same token, so that a draft of it stays valid. It counts
    # as an attempt, or an image that crashes the page would hold its annotator for ever.
    _BEGIN_AGAIN.rows(connection, {**own, **_new_lease(now, config)})
    return str(item_id)


def _take_over(connection: Connection, asker: Asker, now: float, config: QueueConfig) -> str | None:
    _bury(connection, and_(_has_expired(now), items.c.attempts >= config.max_attempts))
    return _grant(connection, _GRANT_EXPIRED, asker, now, config)


def _grant(
    connection: Connection,
    granting: Prepared,
    asker: Asker,
    now: float,
    config: QueueConfig,
) -> str | None:
    row = granting.first(connection, {**asker.shown(), **_new_lease(now, config)})
    return None if row is None else str(row[0])


def _new_lease(now: float, config: QueueConfig) -> dict[str, float]:
    return {"now": now, "until": now + min(config.ttl_s, config.cap_s)}


def _bury(connection: Connection, which: ColumnElement[bool]) -> None:
    reason = _dead_reason(items.c.skips)
    # What somebody else is changing is theirs; waiting for several could go round in a circle.
    free = select(items.c.item_id).where(which).with_for_update(skip_locked=True)
    statement = update(items).where(items.c.item_id.in_(free))
    connection.execute(statement.values(state="dead", dead_reason=reason, **_NOBODY))


def _dead_reason(skips: ColumnElement[int]) -> ColumnElement[str]:
    # Not concat(): SQLite has it only from 3.44 on.
    attempts, skipped = cast(items.c.attempts, String), cast(skips, String)
    return attempts + " leases without an answer (" + skipped + " skips)"
