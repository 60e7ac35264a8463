"""Answers to items: each is accepted once, whatever the network repeats."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import Connection, Row, func, insert, select

from storage.queue import leases
from storage.queue.database import as_utc, by_dialect, take_turn
from storage.queue.dialect import Dialect
from storage.queue.documents import check_name, from_text, sha256, to_text
from storage.queue.errors import IdempotencyConflict
from storage.queue.items import Item, item_of, select_items
from storage.queue.leases import Claim
from storage.queue.pins import unpin
from storage.queue.prepared import Prepared
from storage.queue.schema import annotations, items, submissions
from storage.queue.summary import Summary


@dataclass(frozen=True, kw_only=True)
class SubmitResult:
    """The answer to a submission; a repeated one gets the first answer again, `replayed`."""

    status: int
    response: dict[str, Any]
    replayed: bool

    @property
    def submission_id(self) -> str:
        """The id under which the submission is kept."""
        return str(self.response["submission_id"])


@dataclass(frozen=True, kw_only=True)
class Submission:
    """An accepted submission: its place in the order of commits, its item and its body."""

    seq: int
    submission_id: str
    item: Item
    annotator: str
    lease_token: int
    body: dict[str, Any]
    body_sha: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A submission on its way in."""

    held: Claim
    idempotency_key: str
    body: str
    summary: Summary

    @classmethod
    def of(cls, held: Claim, idempotency_key: str, body: Mapping[str, Any]) -> Self:
        """A body to submit; raises ValueError for one that is not JSON, and for what is no name."""
        check_name("annotator", held.annotator)
        return cls(
            held=held,
            idempotency_key=check_name("idempotency_key", idempotency_key),
            body=to_text("body", body),
            summary=Summary.of(body),
        )

    @property
    def submission_id(self) -> str:
        """The same for every repetition of this submission."""
        key = json.dumps([self.held.annotator, self.idempotency_key])
        return hashlib.sha256(key.encode()).hexdigest()[:32]


def submit(connection: Connection, draft: Draft, now: float) -> SubmitResult:
    """Accept a draft and mark its item done, or return the stored answer to the same draft.

    Raises IdempotencyConflict when its key was used for something else, StaleLease when the item
    is no longer the annotator's, UnknownItem; the transaction must then be rolled back.
    """
    response = {
        "submission_id": draft.submission_id,
        "item_id": draft.held.item_id,
        "state": "done",
    }
    body_sha256 = sha256(draft.body)
    # The primary key decides between two copies of one request; looking first would let both in.
    inserted = _FIRST_COPY[connection.dialect.name].first(
        connection,
        {
            "annotator": draft.held.annotator,
            "idempotency_key": draft.idempotency_key,
            "submission_id": draft.submission_id,
            "item_id": draft.held.item_id,
            "body_sha256": body_sha256,
            "status": 201,
            "response": to_text("response", response),
            "at": now,
        },
    )
    if inserted is None:
        return _stored_answer(connection, draft, body_sha256)
    finished = leases.finish(connection, draft.held)
    if finished.pinned_image is not None:
        unpin(connection, [finished.pinned_image])
    _append(connection, draft, finished.opening, body_sha256, now)
    return SubmitResult(status=201, response=response, replayed=False)


def after(connection: Connection, seq: int, limit: int | None) -> list[Submission]:
    """The accepted submissions behind `seq`, oldest first, at most `limit` (None: all)."""
    statement = (
        select_items()
        .join(annotations, annotations.c.item_id == items.c.item_id)
        .add_columns(*(annotations.c[name] for name in _OF_ANNOTATION))
        .add_columns(annotations.c.body.label("answer"))
        .where(annotations.c.seq > seq)
        .order_by(annotations.c.seq)
        .limit(limit)
    )
    return [_submission_of(row) for row in connection.execute(statement)]


def last_seq(connection: Connection) -> int:
    """The `seq` of the newest accepted submission, 0 when there is none."""
    newest = func.coalesce(func.max(annotations.c.seq), 0)
    return int(connection.execute(select(newest)).scalar_one())


def _first_copy(dialect: Dialect) -> Prepared:
    """Keeps a submission unless it is there; gives a row if it is new."""
    statement = dialect.insert(submissions).on_conflict_do_nothing()
    return Prepared(statement.returning(submissions.c.submission_id), submissions.c.keys())


_FIRST_COPY = by_dialect(_first_copy)
_APPEND = Prepared(
    insert(annotations),
    [column.name for column in annotations.c if column is not annotations.c.seq],
)
_OF_ANNOTATION = ("seq", "submission_id", "annotator", "lease_token", "body_sha256", "at")


def _submission_of(row: Row[Any]) -> Submission:
    return Submission(
        seq=row.seq,
        submission_id=row.submission_id,
        item=item_of(row),
        annotator=row.annotator,
        lease_token=row.lease_token,
        body=from_text(row.answer),
        body_sha=row.body_sha256,
        at=as_utc(row.at),
    )


def _stored_answer(connection: Connection, draft: Draft, body_sha256: str) -> SubmitResult:
    stored = connection.execute(
        select(submissions).where(
            submissions.c.annotator == draft.held.annotator,
            submissions.c.idempotency_key == draft.idempotency_key,
        )
    ).one()
    if (stored.item_id, stored.body_sha256) != (draft.held.item_id, body_sha256):
        raise IdempotencyConflict(
            f"idempotency key {draft.idempotency_key!r}: already used for another submission;"
            " make a new key for each"
        )
    return SubmitResult(status=stored.status, response=from_text(stored.response), replayed=True)


def _append(
    connection: Connection, draft: Draft, opening: int, body_sha256: str, now: float
) -> None:
    # Last of all, so that other submissions wait for the commit only.
    take_turn(connection, "outbox")
    _APPEND.rows(
        connection,
        {
            "submission_id": draft.submission_id,
            "item_id": draft.held.item_id,
            "ordinal": opening,
            "annotator": draft.held.annotator,
            "lease_token": draft.held.lease_token,
            "body": draft.body,
            "body_sha256": body_sha256,
            "at": now,
            **asdict(draft.summary),
        },
    )
