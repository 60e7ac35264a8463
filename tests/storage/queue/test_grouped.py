"""Steps of an event loop that share a commit: each for itself, and none before it is on disk."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, text

from storage.queue.awaited import AwaitedQueue
from storage.queue.check import check
from storage.queue.database import Database
from storage.queue.errors import (
    IdempotencyConflict,
    QueueUnavailable,
    StaleLease,
    UnknownItem,
)
from storage.queue.grouped import Writes
from storage.queue.leases import Claim
from storage.queue.review import ReviewQueue
from storage.queue.submissions import Draft

NAMES = ("ada", "bob", "cyd", "dan")


def all_of(*asked: Coroutine[Any, Any, Any]) -> list[Any]:
    """What each gets that asks at once with the others; exceptions too."""

    async def together() -> list[Any]:
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(together())


def draft(item_id: str, token: int, annotator: str, key: str = "key") -> Draft:
    held = Claim(item_id=item_id, lease_token=token, annotator=annotator)
    return Draft.of(held, key, {"by": annotator})


@pytest.fixture
def awaited(queue: ReviewQueue) -> AwaitedQueue:
    return AwaitedQueue(queue)


def test_people_who_come_at_once_get_an_item_each_and_answer_it(
    awaited: AwaitedQueue, queue: ReviewQueue, people: Any
) -> None:
    people.enqueue("a", "b", "c", "d")
    leases = all_of(*(awaited.claim(name, is_lead=False) for name in NAMES))
    assert {lease.item.item_id for lease in leases} == {"a", "b", "c", "d"}
    holders = list(zip(leases, NAMES, strict=True))
    held = [Claim(item_id=x.item.item_id, lease_token=1, annotator=name) for x, name in holders]
    assert all_of(*(awaited.heartbeat(each) for each in held)) == [120.0] * 4
    answers = all_of(*(awaited.submit(draft(x.item.item_id, 1, name)) for x, name in holders))
    assert [(answer.status, answer.replayed) for answer in answers] == [(201, False)] * 4
    acknowledged = [answer.submission_id for answer in answers]
    assert len(queue.submissions_after(0)) == 4
    assert check(queue.database, acknowledged=acknowledged) == []


def test_one_person_who_asks_often_at_once_gets_one_item(
    awaited: AwaitedQueue, queue: ReviewQueue, people: Any
) -> None:
    people.enqueue("a", "b", "c")
    leases = all_of(*(awaited.claim("ada", is_lead=False) for _ in range(3)))
    assert {(lease.item.item_id, lease.lease_token) for lease in leases} == {("a", 1)}
    assert queue.counts()["leased"] == 1


def test_who_is_refused_takes_nobody_along(
    awaited: AwaitedQueue, queue: ReviewQueue, people: Any
) -> None:
    people.enqueue("a", "b")
    ada, bob = people.claim("ada"), people.claim("bob")
    found = all_of(
        awaited.submit(draft(ada.item.item_id, ada.lease_token + 1, "ada", "stale")),
        awaited.submit(draft(ada.item.item_id, ada.lease_token, "ada")),
        awaited.submit(draft("nothing", 1, "cyd")),
        awaited.submit(draft(ada.item.item_id, ada.lease_token, "ada")),
        awaited.submit(draft(bob.item.item_id, bob.lease_token, "ada")),
        awaited.submit(draft(bob.item.item_id, bob.lease_token, "bob")),
    )
    stale, first, unknown, same, not_hers, bobs = found
    assert isinstance(stale, StaleLease)
    assert isinstance(unknown, UnknownItem)
    # Her key is taken only if her own answer came before, and on Postgres each goes by itself.
    assert isinstance(not_hers, IdempotencyConflict | StaleLease)
    accepted = [first, same, bobs]
    assert sorted(answer.replayed for answer in accepted) == [False, False, True]
    assert sorted(stored.item.item_id for stored in queue.submissions_after(0)) == ["a", "b"]
    assert check(queue.database, acknowledged=[x.submission_id for x in accepted]) == []


def test_of_a_step_that_fails_nothing_stays(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a")
    writes = Writes(queue.database)

    def dies(connection: Connection) -> None:
        connection.execute(text("UPDATE items SET priority = 5"))
        raise RuntimeError("half way")

    def raises_priority(connection: Connection) -> None:
        connection.execute(text("UPDATE items SET skips = 7"))

    [failed, done] = all_of(writes.run(dies), writes.run(raises_priority))
    assert (str(failed), done) == ("half way", None)
    assert (queue.item("a").priority, queue.item("a").skips) == (0.0, 7)


def test_who_goes_away_while_it_is_written_leaves_the_others(
    awaited: AwaitedQueue, people: Any
) -> None:
    people.enqueue("a", "b")

    async def ada_leaves() -> Any:
        ada = asyncio.create_task(awaited.claim("ada", is_lead=False))
        bob = asyncio.create_task(awaited.claim("bob", is_lead=False))
        await asyncio.sleep(0)
        ada.cancel()
        return await bob

    assert asyncio.run(ada_leaves()).item.item_id in {"a", "b"}


def test_a_transaction_that_is_gone_is_everybodys(sqlite_store: Any) -> None:
    sqlite_store.make()
    queue = ReviewQueue.open(sqlite_store.url)
    writes = Writes(queue.database)

    def ends_it(connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")
        raise QueueUnavailable("disk full")

    found = all_of(writes.run(lambda _: 1), writes.run(ends_it), writes.run(lambda _: 2))
    assert [str(error) for error in found] == ["disk full"] * 3
    assert all_of(writes.run(lambda _: 3)) == [3]
    queue.close()


def test_without_a_turn_everybody_hears_it(sqlite_store: Any) -> None:
    sqlite_store.make()
    database = Database.open(sqlite_store.url, busy_timeout_s=0.05)
    awaited = AwaitedQueue(ReviewQueue(database))
    with database.write():
        found = all_of(awaited.claim("ada", is_lead=False), awaited.claim("bob", is_lead=False))
    assert [type(error) for error in found] == [QueueUnavailable] * 2
    assert all_of(awaited.claim("ada", is_lead=False)) == [None]
    database.close()


def test_nobody_hears_of_an_outcome_before_the_commit(
    awaited: AwaitedQueue, url: str, people: Any
) -> None:
    people.enqueue("a", "b", "c", "d")
    outside = ReviewQueue.open(url)

    async def claim_and_look(name: str) -> bool:
        lease = await awaited.claim(name, is_lead=False)
        held = {holder.annotator: holder.item_id for holder in outside.holders()}
        return lease is not None and held[name] == lease.item.item_id

    assert all_of(*(claim_and_look(name) for name in NAMES)) == [True] * 4
    outside.close()


def test_two_event_loops_share_one_queue(
    awaited: AwaitedQueue, queue: ReviewQueue, people: Any
) -> None:
    people.enqueue(*"abcdefgh")

    def claim_all(loop: int) -> list[Any]:
        return all_of(*(awaited.claim(f"{name} {loop}", is_lead=False) for name in NAMES))

    with ThreadPoolExecutor(2) as pool:
        leases = [lease for found in pool.map(claim_all, range(2)) for lease in found]
    assert {lease.item.item_id for lease in leases} == set("abcdefgh")
    assert queue.counts()["leased"] == 8
