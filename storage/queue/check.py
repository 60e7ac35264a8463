"""The invariants of the review queue and of the model pointer, for `fsck`; each is a plain query.

I4: what was acknowledged is there. I5: items, leases and answers agree. I9: one model in service,
and it passed its gate. I10: tokens and generations only grow.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, or_, select

from storage.queue.database import Database
from storage.queue.documents import from_text, sha256
from storage.queue.pins import PINNED_PRIORITY
from storage.queue.schema import (
    KINDS,
    STATES,
    annotations,
    current_model,
    gates,
    items,
    payloads,
    pins,
    promotions,
    submissions,
)
from storage.queue.summary import Summary


@dataclass(frozen=True)
class Breach:
    """An invariant that does not hold, where, and what was found."""

    invariant: str
    where: str
    message: str


def check(database: Database, *, acknowledged: Iterable[str] = ()) -> list[Breach]:
    """Every breach, in one consistent view of the database; an empty list is a sound queue.

    `acknowledged` holds submission ids that clients were told were accepted.
    """
    with database.read() as connection:
        breaches = list(_acknowledged(connection, acknowledged))
        for rule in _RULES:
            breaches += rule(connection)
    return breaches


def _acknowledged(connection: Connection, acknowledged: Iterable[str]) -> Iterator[Breach]:
    kept = set(connection.execute(select(annotations.c.submission_id)).scalars())
    for submission_id in acknowledged:
        if submission_id not in kept:
            yield Breach("I4", f"submission {submission_id}", "was acknowledged and is not there")


_SUMMARY = tuple(item.name for item in fields(Summary))


def _kept_summary(row: Row[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _SUMMARY}


def _answers(connection: Connection) -> Iterator[Breach]:
    both = submissions.outerjoin(
        annotations, annotations.c.submission_id == submissions.c.submission_id
    )
    statement = select(
        submissions.c.submission_id,
        submissions.c.body_sha256.label("answered_sha256"),
        annotations.c.body,
        annotations.c.body_sha256,
        *(annotations.c[name] for name in _SUMMARY),
    ).select_from(both)
    for row in connection.execute(statement):
        where = f"submission {row.submission_id}"
        if row.body is None:
            yield Breach("I4", where, "was answered and is not in the outbox")
        elif not sha256(row.body) == row.body_sha256 == row.answered_sha256:
            yield Breach("I4", where, "its body is not the one that was accepted")
        elif (said := asdict(Summary.of(from_text(row.body)))) != (kept := _kept_summary(row)):
            yield Breach("I4", where, f"its body says {said}, but it is counted as {kept}")
    answered = select(submissions.c.submission_id)
    unanswered = select(annotations.c.submission_id).where(
        annotations.c.submission_id.not_in(answered)
    )
    for submission_id in connection.execute(unanswered).scalars():
        yield Breach("I4", f"submission {submission_id}", "has no stored answer")


def _states(connection: Connection) -> Iterator[Breach]:
    lease = (items.c.lease_owner, items.c.leased_at, items.c.lease_expires)
    some, none = or_(*(c.is_not(None) for c in lease)), or_(*(c.is_(None) for c in lease))
    wrong = or_(
        items.c.state.not_in(STATES),
        and_(items.c.state == "leased", none),
        and_(items.c.state != "leased", some),
        (items.c.state == "dead") != items.c.dead_reason.is_not(None),
    )
    for row in connection.execute(select(items).where(wrong)):
        yield Breach(
            "I5",
            f"item {row.item_id}",
            f"state {row.state} does not go with owner {row.lease_owner!r}, expiry"
            f" {row.lease_expires}, dead reason {row.dead_reason!r}",
        )
    wrong_kind = or_(
        items.c.stage.not_in(KINDS),
        items.c.for_role != "lead",
        items.c.not_for == items.c.lease_owner,
    )
    for row in connection.execute(select(items).where(wrong_kind)):
        yield Breach(
            "I5",
            f"item {row.item_id}",
            f"kind {row.stage!r}, for role {row.for_role!r}, not for {row.not_for!r}: does not go"
            f" with owner {row.lease_owner!r} and the kinds {', '.join(KINDS)}",
        )
    bare = select(items.c.item_id).where(items.c.item_id.not_in(select(payloads.c.item_id)))
    for item_id in connection.execute(bare).scalars():
        yield Breach("I5", f"item {item_id}", "has no payload")


def _pins(connection: Connection) -> Iterator[Breach]:
    is_pinned = items.c.image_id.in_(select(pins.c.image_id))
    is_in_front = items.c.base_priority.is_not(None)
    wrong = or_(is_pinned != is_in_front, and_(is_in_front, items.c.priority != PINNED_PRIORITY))
    for row in connection.execute(select(items, is_pinned.label("is_pinned")).where(wrong)):
        pinned = "pinned" if row.is_pinned else "not pinned"
        message = f"priority {row.priority} over {row.base_priority}, but its image is {pinned}"
        yield Breach("I5", f"item {row.item_id}", message)


def _openings(connection: Connection) -> Iterator[Breach]:
    num = func.count(annotations.c.seq)
    highest = func.coalesce(func.max(annotations.c.ordinal), 0)
    expected = items.c.openings - case((items.c.state == "done", 0), else_=1)
    statement = (
        select(items.c.item_id, items.c.state, num.label("num"), expected.label("expected"))
        .select_from(items.outerjoin(annotations, annotations.c.item_id == items.c.item_id))
        .group_by(items.c.item_id)
        .having(or_(num != expected, highest != expected))
    )
    for row in connection.execute(statement):
        message = f"{row.state} with {row.num} answers, expected {row.expected}, numbered from 1"
        yield Breach("I5", f"item {row.item_id}", message)


def _tokens(connection: Connection) -> Iterator[Breach]:
    later = annotations.alias()
    backwards = (
        select(annotations.c.item_id, annotations.c.lease_token, later.c.lease_token.label("next"))
        .join(later, annotations.c.item_id == later.c.item_id)
        .where(annotations.c.ordinal < later.c.ordinal)
        .where(
            or_(annotations.c.lease_token >= later.c.lease_token, annotations.c.seq >= later.c.seq)
        )
    )
    for row in connection.execute(backwards):
        message = f"token {row.next} or its place in the outbox came after {row.lease_token}"
        yield Breach("I10", f"item {row.item_id}", message)
    ahead = (
        select(items.c.item_id, items.c.lease_token, annotations.c.lease_token.label("used"))
        .join(annotations, annotations.c.item_id == items.c.item_id)
        .where(annotations.c.lease_token > items.c.lease_token)
    )
    for row in connection.execute(ahead):
        message = f"its token {row.lease_token} is behind {row.used}, which was used already"
        yield Breach("I10", f"item {row.item_id}", message)


def _pointer(connection: Connection) -> Iterator[Breach]:
    rows = connection.execute(select(current_model)).all()
    if len(rows) != 1:
        yield Breach("I9", "current_model", f"must have one row, has {len(rows)}")
        return
    history = connection.execute(select(promotions).order_by(promotions.c.generation)).all()
    generations = [row.generation for row in history]
    if generations != list(range(1, rows[0].generation + 1)):
        message = f"generation {rows[0].generation} after promotions {generations}"
        yield Breach("I10", "current_model", message)
    last = history[-1].model_version if history else None
    if rows[0].model_version != last:
        message = f"{rows[0].model_version} serves, but the last promotion was of {last}"
        yield Breach("I9", "current_model", message)


def _gates(connection: Connection) -> Iterator[Breach]:
    joined = promotions.outerjoin(gates, promotions.c.gate_id == gates.c.gate_id)
    statement = select(
        promotions.c.generation,
        promotions.c.model_version,
        gates.c.model_version.label("judged"),
        gates.c.passed,
        gates.c.metrics,
    )
    for row in connection.execute(statement.select_from(joined)):
        where = f"promotion {row.generation}"
        if not row.passed or row.judged != row.model_version:
            yield Breach("I9", where, f"{row.model_version} has no gate that it passed")
        elif not all(_is_finite(value) for value in from_text(row.metrics).values()):
            yield Breach("I9", where, f"{row.model_version} passed with {row.metrics}")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


_RULES: tuple[Callable[[Connection], Iterator[Breach]], ...] = (
    _answers,
    _states,
    _pins,
    _openings,
    _tokens,
    _pointer,
    _gates,
)
