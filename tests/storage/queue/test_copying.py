"""A queue in another database is the same queue; the old one takes nothing that would be lost."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from storage.errors import TerminalStorageError
from storage.failpoints import EXIT_CODE, VARIABLE
from storage.queue import copying, forgetting
from storage.queue.check import check
from storage.queue.database import Database, read_url, shown
from storage.queue.errors import QueueMoved
from storage.queue.leases import Claim
from storage.queue.people import People
from storage.queue.pointer import GateDecision, ModelPointer
from storage.queue.review import ReviewQueue
from storage.queue.schema import metadata
from storage.queue.submissions import Draft

CARRIER = Path(__file__).with_name("carrier.py")


@dataclass
class Pair:
    """The urls of a queue and of where it goes."""

    source: str
    target: str

    @property
    def back(self) -> "Pair":
        """The other way."""
        return Pair(self.target, self.source)

    def carry(self) -> None:
        """All of a move that is the queue's."""
        source, target = self.open()
        try:
            copying.require_free(source, target)
            copying.carry(source, target)
            copying.release(target)
        finally:
            source.close()
            target.close()

    def open(self) -> tuple[Database, Database]:
        """Both, whatever stands around them."""
        source, target = (Database.open(url, even_moved=True) for url in (self.source, self.target))
        return source, target

    def killed(self, failpoint: str) -> int:
        """The exit code of a process that is killed there while it carries the queue."""
        done = subprocess.run(
            [sys.executable, CARRIER, self.source, self.target],
            env={**os.environ, VARIABLE: failpoint},
            capture_output=True,
            check=False,
        )
        return done.returncode


@pytest.fixture(
    params=[
        "sqlite to sqlite",
        pytest.param("sqlite to postgres", marks=pytest.mark.postgres),
        pytest.param("postgres to sqlite", marks=pytest.mark.postgres),
    ]
)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    source, _, target = request.param.partition(" to ")
    urls = {"sqlite": f"sqlite:///{tmp_path / 'one.sqlite'}"}
    if "postgres" in request.param:
        urls["postgres"] = request.getfixturevalue("postgres_store").another()
    there = f"sqlite:///{tmp_path / 'two.sqlite'}" if source == target else urls[target]
    return Pair(urls[source], there)


@pytest.fixture
def full(pair: Pair, make: Callable[..., Any]) -> Iterator[ReviewQueue]:
    """The source, with something in every table; its last answer was forgotten."""
    queue = ReviewQueue.open(pair.source)
    fill(queue, make)
    yield queue
    queue.close()


def fill(queue: ReviewQueue, make: Callable[..., Any]) -> None:
    queue.enqueue(make(f"item-{n:02}", payload={"text": "ä☃\\u0000" * 99}) for n in range(45))
    for number in range(30):
        answer(queue, f"key {number}")
    answered = {stored.seq: stored.item.image_id for stored in queue.submissions_after(0)}
    forgetting.forget(queue.database, answered[30])
    queue.pin(["image-item-44", "image-later"], "ada")
    assert queue.claim("holder") is not None
    People(queue.database).add("ada", "lead")
    pointer = ModelPointer(queue.database)
    decision = GateDecision(model_version="v1", metrics={"iou": 0.1}, passed=True, reason="better")
    assert pointer.promote("v1", 0, pointer.record_gate(decision))


def answer(queue: ReviewQueue, key: str, annotator: str = "ada") -> str:
    lease = queue.claim(annotator)
    assert lease is not None
    body = {"said": f"{key} é" * 9}
    held = (lease.item.item_id, lease.lease_token, annotator)
    return queue.submit(*held, key, body).submission_id


def rows_of(url: str) -> dict[str, list[str]]:
    """Every row of every table."""
    database = Database.open(url, even_moved=True)
    with database.read() as connection:
        found = {
            table.name: sorted(map(str, connection.execute(select(table)).mappings()))
            for table in metadata.sorted_tables
        }
    database.close()
    return found


def in_use(*urls: str) -> list[str]:
    """Those that can be opened and written to."""
    found = []
    for url in urls:
        try:
            queue = ReviewQueue.open(url)
        except QueueMoved:
            continue
        queue.pin(["probe"], "probe")
        queue.unpin(["probe"])
        queue.close()
        found.append(url)
    return found


def test_every_row_arrives_and_numbers_go_on(pair: Pair, full: ReviewQueue) -> None:
    before = rows_of(pair.source)
    token = People(full.database).renew("ada")
    held = full.claim("holder")
    assert held is not None
    before = rows_of(pair.source)
    assert all(before[name] for name in set(before) - {"sessions"})
    pair.carry()
    assert rows_of(pair.target) == before == rows_of(pair.source)
    there = ReviewQueue.open(pair.target)
    assert check(there.database) == []
    again = there.claim("holder")
    assert again is not None
    assert (again.item, again.lease_token) == (held.item, held.lease_token)
    identity = People(there.database).of_token(token)
    assert identity is not None
    assert identity.name == "ada"
    answer(there, "a new key")
    assert there.last_seq() == 31, "the number of an answer that was forgotten is not given again"
    there.close()


WRITES: dict[str, Callable[[ReviewQueue], object]] = {
    "claim": lambda queue: queue.claim("bob"),
    "submit": lambda queue: queue.submit("item-00", 1, "bob", "k", {}),
    "pin": lambda queue: queue.pin(["x"], "bob"),
    "person": lambda queue: People(queue.database).add("bob"),
    "gate": lambda queue: ModelPointer(queue.database).record_gate(
        GateDecision(model_version="v2", metrics={}, passed=True, reason="better")
    ),
    "forget": lambda queue: forgetting.forget(queue.database, "image-item-00"),
}


def test_the_old_queue_takes_nothing_and_says_where_it_went(
    pair: Pair, full: ReviewQueue, make: Any
) -> None:
    pair.carry()
    before = rows_of(pair.source)
    writes = {**WRITES, "enqueue": lambda queue: queue.enqueue([make("new")])}
    for write in writes.values():
        with pytest.raises(QueueMoved, match=r"the queue moved to .*; restart serve, ") as caught:
            write(full)
        assert "\n" not in str(caught.value)
    assert rows_of(pair.source) == before
    with pytest.raises(QueueMoved, match="the queue moved to "):
        ReviewQueue.open(pair.source)


def test_back_again_with_what_came_meanwhile(pair: Pair, full: ReviewQueue) -> None:
    pair.carry()
    there = ReviewQueue.open(pair.target)
    told = answer(there, "there")
    pair.back.carry()
    with pytest.raises(QueueMoved):
        answer(there, "late")
    there.close()
    assert in_use(pair.source, pair.target) == [pair.source]
    assert check(full.database, acknowledged=[told]) == []
    answer(full, "here again", "bob")
    pair.carry()
    assert in_use(pair.source, pair.target) == [pair.target]


def test_another_queue_is_not_overwritten(pair: Pair, full: ReviewQueue, make: Any) -> None:
    other = ReviewQueue.open(pair.target)
    other.enqueue([make("theirs")])
    before = rows_of(pair.target), rows_of(pair.source)
    source, target = pair.open()
    for attempt in (copying.require_free, copying.carry):
        with pytest.raises(TerminalStorageError, match="another review queue is there"):
            attempt(source, target)
    copying.give_back(source, target)
    assert (rows_of(pair.target), rows_of(pair.source)) == before
    assert in_use(pair.source, pair.target) == [pair.source, pair.target]
    answer(full, "goes on", "bob")
    for each in (source, target, other.database):
        each.close()


def test_a_queue_that_went_elsewhere_is_not_overwritten(
    pair: Pair, full: ReviewQueue, tmp_path: Path
) -> None:
    before = rows_of(pair.source)
    pair.carry()
    third = Pair(f"sqlite:///{tmp_path / 'third.sqlite'}", pair.source)
    with pytest.raises(TerminalStorageError, match=r"a review queue that moved to .* is there"):
        third.carry()
    assert rows_of(pair.source) == before
    full.close()


@pytest.mark.usefixtures("full")
def test_a_copy_is_of_no_use_before_it_is_released_and_can_be_given_back(pair: Pair) -> None:
    source, target = pair.open()
    copying.carry(source, target)
    assert in_use(pair.source, pair.target) == []
    with pytest.raises(QueueMoved, match=r"a copy of .* that was not finished"):
        ReviewQueue.open(pair.target)
    copying.release(target)
    copying.give_back(source, target)
    source.close()
    target.close()
    assert in_use(pair.source, pair.target) == [pair.source]
    pair.carry()
    assert in_use(pair.source, pair.target) == [pair.target]


@pytest.mark.parametrize(
    ("failpoint", "usable"),
    [("move.after_copy", 0), ("move.after_fence", None), ("move.after_release", 1)],
)
def test_killed_at_any_point_one_queue_at_most_takes_answers(
    pair: Pair, full: ReviewQueue, failpoint: str, usable: int | None
) -> None:
    before = rows_of(pair.source)
    urls = (pair.source, pair.target)
    assert pair.killed(failpoint) == EXIT_CODE
    assert in_use(*urls) == ([] if usable is None else [urls[usable]])
    told = []
    if usable == 0:
        # It goes on where it was, and the copy that is there is made anew.
        told = [answer(full, "meanwhile", "bob")]
        before = rows_of(pair.source)
    pair.carry()
    assert in_use(*urls) == [pair.target]
    assert rows_of(pair.target) == before
    there = Database.open(pair.target)
    assert check(there, acknowledged=told) == []
    there.close()


def test_a_queue_that_was_used_there_is_not_carried_once_more(
    pair: Pair, full: ReviewQueue
) -> None:
    pair.carry()
    there = ReviewQueue.open(pair.target)
    told = answer(there, "there")
    with pytest.raises(TerminalStorageError, match="not what was copied to it"):
        pair.carry()
    assert check(there.database, acknowledged=[told]) == []
    assert in_use(pair.source, pair.target) == [pair.target]
    there.close()
    full.close()


def test_all_that_was_acknowledged_while_it_moved_is_there(pair: Pair, make: Any) -> None:
    queue = ReviewQueue.open(pair.source)
    queue.enqueue(make(f"item-{number:04}") for number in range(3000))
    enough, told = threading.Event(), []

    def work(name: str) -> str:
        for number in range(1000):
            try:
                told.append(answer(queue, f"{name} {number}", name))
            except QueueMoved as error:
                return str(error)
            if len(told) > 20:
                enough.set()
        return "never refused"

    with ThreadPoolExecutor(4) as pool:
        ends = [pool.submit(work, f"person {number}") for number in range(4)]
        assert enough.wait(60)
        pair.carry()
        assert all("the queue moved to" in end.result() for end in ends)
    queue.close()
    there = Database.open(pair.target)
    assert check(there, acknowledged=told) == []
    assert len(rows_of(pair.target)["annotations"]) == len(told)
    there.close()


@pytest.mark.postgres
def test_whoever_began_before_the_fence_and_writes_after_it_is_refused(
    postgres_store: Any, tmp_path: Path, make: Any
) -> None:
    pair = Pair(postgres_store.another(), f"sqlite:///{tmp_path / 'there.sqlite'}")
    queue = ReviewQueue.open(pair.source)
    queue.enqueue([make("one")])
    lease = queue.claim("ada")
    assert lease is not None
    submit = queue.work.submit(draft("one", lease.lease_token, "ada"))

    def write_late() -> None:
        with queue.database.write() as connection:
            assert connection.execute(select(1)).scalar_one() == 1
            pair.carry()
            submit(connection)

    with pytest.raises(QueueMoved):
        write_late()
    queue.close()
    assert rows_of(pair.target)["annotations"] == []


def draft(item_id: str, lease_token: int, annotator: str) -> Any:
    held = Claim(item_id=item_id, lease_token=lease_token, annotator=annotator)
    return Draft.of(held, "key", {})


def test_a_snapshot_is_of_one_moment_and_leaves_the_queue_as_it_is(
    pair: Pair, full: ReviewQueue
) -> None:
    target = Database.open(pair.target)
    copying.snapshot(full.database, target)
    assert rows_of(pair.target) == rows_of(pair.source)
    assert check(target) == []
    target.close()
    assert in_use(pair.source) == [pair.source]


def test_passwords_are_in_no_error(tmp_path: Path) -> None:
    url = read_url("postgresql://ada:sesame@db:5433/masks?password=sesame&sslmode=require")
    assert shown(url) == "postgresql://db:5433/masks"
    assert shown(read_url(f"sqlite:///{tmp_path}/q.sqlite")) == f"sqlite:///{tmp_path}/q.sqlite"
