"""The review queue: images that wait for people, handed out under leases, answered exactly once."""

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, or_, select, update

from storage.failpoints import failpoint
from storage.queue import leases, pins, submissions
from storage.queue.anew import ask_anew
from storage.queue.database import Database, QueueClock
from storage.queue.documents import check_name
from storage.queue.errors import UnknownItem
from storage.queue.items import (
    WITHDRAWN,
    Item,
    ItemHead,
    NewItem,
    enqueue,
    item_of,
    ready,
    replace,
    select_items,
)
from storage.queue.leases import Asker, Claim, QueueConfig
from storage.queue.pins import Pin
from storage.queue.prepared import Prepared
from storage.queue.schema import IS_LEASED, IS_READY, KINDS, STATES, items
from storage.queue.submissions import Draft, Submission, SubmitResult
from storage.queue.work import Lease, Work

# Small enough that nobody waits long for a turn to write.
_ENQUEUE_AT_ONCE = 500
_ITEM = Prepared(select_items().where(items.c.item_id == bindparam("wanted")))


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has which item, since how long, and for how long; below 0 the lease has run out."""

    annotator: str
    item_id: str
    held_s: float
    expires_in_s: float


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """How many items of one run are in each state."""

    ready: int
    leased: int
    done: int
    dead: int

    @property
    def open(self) -> int:
        """Items that still wait for an answer."""
        return self.ready + self.leased

    @property
    def total(self) -> int:
        """All items of the run."""
        return self.open + self.done + self.dead


class ReviewQueue:
    """Items, leases and submissions; safe to share between threads, and between processes by url.

    Every method may raise QueueUnavailable (transient: locked, full, unreachable); then nothing
    was done, or, when the answer to a commit was lost, doing it again changes nothing.
    """

    def __init__(self, database: Database, config: QueueConfig | None = None) -> None:
        self.database = database
        self._config = config or QueueConfig()
        self.work = Work(database, self._config)

    @classmethod
    def open(
        cls, url: str, config: QueueConfig | None = None, *, clock: QueueClock | None = None
    ) -> Self:
        """Open a database, making its tables when missing; urls, errors as in `Database.open`."""
        return cls(Database.open(url, clock=clock), config)

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    def enqueue(self, new: Iterable[NewItem]) -> int:
        """Add items; returns how many were new. One that is there already stays as it is."""
        num_new = 0
        remaining = iter(new)
        while batch := list(itertools.islice(remaining, _ENQUEUE_AT_ONCE)):
            with self.database.write() as connection:
                num_new += enqueue(connection, batch)
        return num_new

    def ask_anew(self, new: NewItem, *, since: int) -> bool:
        """Add an item, or make it ready again with this payload if it is done.

        Not if it was answered with a `seq` over `since`. Returns whether it became ready.
        """
        with self.database.write() as connection:
            return ask_anew(connection, new, since)

    def claim(self, annotator: str, *, is_lead: bool = False) -> Lease | None:
        """Lease an item to `annotator`; None when there is nothing for them to do.

        Whoever holds an item gets it again with the same token. Else ready items go first, by
        priority, those skipped least often before all others; then those whose lease ran out.
        What is not for them, or for leads only, is left to others.
        """
        step = self.work.claim(annotator, is_lead=is_lead)
        with self.database.write() as connection:
            lease = step(connection)
        failpoint("lease.after_commit")
        return lease

    def peek(self, annotator: str, *, is_lead: bool = False) -> Item | None:
        """The item that `annotator` would be given after the one it holds; changes nothing.

        Whoever claims first gets it, so this is a guess.
        """
        asker = Asker(annotator=check_name("annotator", annotator), is_lead=is_lead)
        with self.database.read() as connection:
            now = self.database.now(connection)
            item_id = leases.foreseen(connection, asker, now, self._config)
            if item_id is None:
                return None
            statement = select_items().where(items.c.item_id == item_id)
            return item_of(connection.execute(statement).one())

    def heartbeat(self, item_id: str, lease_token: int, annotator: str) -> float:
        """Keep a lease alive; returns the seconds it now has, 0 once its cap is reached.

        Raises StaleLease when the item was finished or went to somebody else, UnknownItem.
        """
        held = Claim(item_id=item_id, lease_token=lease_token, annotator=annotator)
        with self.database.write() as connection:
            return self.work.heartbeat(held)(connection)

    def check_held(self, item_id: str, lease_token: int, annotator: str) -> None:
        """Raise StaleLease or UnknownItem unless this lease is the item's, as a write would."""
        held = Claim(item_id=item_id, lease_token=lease_token, annotator=annotator)
        with self.database.read() as connection:
            matching = select(items.c.item_id).where(held.matches())
            if connection.execute(matching).first() is None:
                raise leases.refusal(connection, item_id)

    def release(self, item_id: str, lease_token: int, annotator: str) -> None:
        """Give an item back as if it had not been claimed; raises StaleLease, UnknownItem."""
        held = Claim(item_id=item_id, lease_token=lease_token, annotator=annotator)
        with self.database.write() as connection:
            leases.release(connection, held)

    def skip(self, item_id: str, lease_token: int, annotator: str) -> None:
        """Give an item back for later, behind those skipped less often.

        The lease counts as an attempt: the last one leaves the item dead. Raises StaleLease,
        UnknownItem.
        """
        held = Claim(item_id=item_id, lease_token=lease_token, annotator=annotator)
        with self.database.write() as connection:
            leases.skip(connection, held, self._config)

    def submit(
        self,
        item_id: str,
        lease_token: int,
        annotator: str,
        idempotency_key: str,
        body: Mapping[str, Any],
    ) -> SubmitResult:
        """Accept an answer and finish its item; the same answer again changes nothing.

        A lease that ran out is accepted as long as nobody else was given the item. Raises
        StaleLease, UnknownItem, IdempotencyConflict (same key, other item or body), ValueError
        for a body that is not JSON.
        """
        held = Claim(item_id=item_id, lease_token=lease_token, annotator=annotator)
        step = self.work.submit(Draft.of(held, idempotency_key, body))
        with self.database.write() as connection:
            result = step(connection)
        failpoint("submit.after_commit")
        return result

    def pin(self, image_ids: Iterable[str], by: str) -> int:
        """Have images come first, those that are enqueued later as well; returns how many are new.

        A pin goes when an ordinary (`assist`) item of its image is answered. Of skips before it
        nothing stays; one after it takes the item behind those skipped less often, as always.
        """
        wanted = [check_name("image_id", image_id) for image_id in image_ids]
        check_name("by", by)
        with self.database.write() as connection:
            return pins.pin(connection, wanted, by, self.database.now(connection))

    def unpin(self, image_ids: Iterable[str]) -> int:
        """Give items the priority back that they had; returns how many images were pinned."""
        with self.database.write() as connection:
            return pins.unpin(connection, image_ids)

    def pins(self) -> list[Pin]:
        """Who wants which images first, the oldest wish first."""
        with self.database.read() as connection:
            return pins.all_pins(connection)

    def replace(self, old_item_id: str, new: NewItem) -> bool:
        """Withdraw an item that is ready and enqueue another with its skips, both or neither.

        False, and nothing has changed, when it is not ready (any more) or the new one is there
        already. Raises ValueError like `enqueue`.
        """
        with self.database.write() as connection:
            return replace(connection, old_item_id, new)

    def ready_items(self, kinds: Collection[str]) -> list[ItemHead]:
        """The items of some kinds that are ready, without payloads, in the order of claims."""
        with self.database.read() as connection:
            return ready(connection, kinds)

    def submissions_after(self, seq: int, limit: int | None = 100) -> list[Submission]:
        """Accepted submissions with a greater `seq`, in the order of their commits."""
        with self.database.read() as connection:
            return submissions.after(connection, seq, limit)

    def last_seq(self) -> int:
        """The `seq` of the newest submission, 0 before the first."""
        with self.database.read() as connection:
            return submissions.last_seq(connection)

    def item(self, item_id: str) -> Item:
        """One item; raises UnknownItem."""
        with self.database.read() as connection:
            row = _ITEM.first(connection, {"wanted": item_id})
        if row is None:
            raise UnknownItem(f"item {item_id}: no such item")
        return item_of(row)

    def reopen(self, item_id: str) -> bool:
        """Make a done or dead item ready again, with all its attempts; False if it is open now.

        An answer it has stays, and its next one comes on top. Raises UnknownItem.
        """
        closed = and_(items.c.item_id == item_id, items.c.state.in_(("done", "dead")))
        answered = case((items.c.state == "done", 1), else_=0)
        fresh = {"state": "ready", "attempts": 0, "skips": 0, "dead_reason": None}
        statement = update(items).where(closed)
        statement = statement.values(openings=items.c.openings + answered, **fresh)
        with self.database.write() as connection:
            changed = connection.execute(statement).rowcount > 0
            if not changed and not _exists(connection, item_id):
                raise UnknownItem(f"item {item_id}: no such item")
        return changed

    def withdraw(self, run_id: str) -> int:
        """Take a run's ready items out of the queue (dead, "withdrawn"); returns how many.

        Items that somebody holds stay theirs. A later run may enqueue withdrawn ones again.
        """
        return self._withdraw(items.c.run_id == run_id)

    def withdraw_items(self, item_ids: Collection[str]) -> int:
        """`withdraw` these items, of whatever run, as far as they are ready; returns how many."""
        return self._withdraw(items.c.item_id.in_(item_ids))

    def _withdraw(self, which: ColumnElement[bool]) -> int:
        statement = update(items).where(which, IS_READY)
        with self.database.write() as connection:
            values = {"state": "dead", "dead_reason": WITHDRAWN}
            return connection.execute(statement.values(**values)).rowcount

    def counts(self) -> dict[str, int]:
        """The number of items in each state."""
        with self.database.read() as connection:
            return _counts(connection)

    def progress(self, run_id: str) -> RunProgress:
        """The number of one run's items in each state."""
        with self.database.read() as connection:
            return RunProgress(**_counts(connection, run_id))

    def open_items(self, run_id: str) -> int:
        """How many items of a run still wait for an answer."""
        return self.progress(run_id).open

    def open_images(self) -> set[str]:
        """The ids of the images that wait for an answer, whatever the run."""
        statement = select(items.c.image_id).where(items.c.state.in_(("ready", "leased")))
        with self.database.read() as connection:
            return set(connection.execute(statement).scalars())

    def asked_images(self, model_version: str, kinds: Collection[str] = KINDS) -> set[str]:
        """The ids of the images with an item of this model and these kinds, not withdrawn.

        Enqueueing one of them again changes nothing, even when nobody will answer it any more.
        """
        kept = or_(items.c.dead_reason.is_(None), items.c.dead_reason != WITHDRAWN)
        statement = select(items.c.image_id).where(
            items.c.model_version == model_version, items.c.stage.in_(kinds), kept
        )
        with self.database.read() as connection:
            return set(connection.execute(statement).scalars())

    def holders(self) -> list[Holder]:
        """Who holds what, by name."""
        columns = ("lease_owner", "item_id", "leased_at", "lease_expires")
        statement = select(*(items.c[name] for name in columns)).where(IS_LEASED)
        with self.database.read() as connection:
            now = self.database.now(connection)
            rows = connection.execute(statement.order_by(items.c.lease_owner)).all()
        return [
            Holder(
                annotator=row.lease_owner,
                item_id=row.item_id,
                held_s=now - row.leased_at,
                expires_in_s=row.lease_expires - now,
            )
            for row in rows
        ]


def _exists(connection: Connection, item_id: str) -> bool:
    statement = select(items.c.item_id).where(items.c.item_id == item_id)
    return connection.execute(statement).first() is not None


def _counts(connection: Connection, run_id: str | None = None) -> dict[str, int]:
    statement = select(items.c.state, func.count()).group_by(items.c.state)
    if run_id is not None:
        statement = statement.where(items.c.run_id == run_id)
    found = {str(row[0]): int(row[1]) for row in connection.execute(statement)}
    return {state: found.get(state, 0) for state in STATES}
