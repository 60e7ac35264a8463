"""Postgres under the queue: restarts, limits, rights, and transactions side by side."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from storage.errors import TerminalStorageError
from storage.queue import submissions
from storage.queue.database import Database, insert_into
from storage.queue.documents import to_text
from storage.queue.errors import QueueUnavailable, StaleGeneration
from storage.queue.leases import Claim
from storage.queue.pointer import ModelPointer
from storage.queue.postgres import Postgres
from storage.queue.review import ReviewQueue
from storage.queue.schema import annotations, items
from storage.queue.submissions import Draft
from storage.queue.summary import Summary
from storage.queue.work import Lease

pytestmark = pytest.mark.postgres


@pytest.fixture
def store(postgres_store: Any) -> Any:
    postgres_store.make()
    return postgres_store


@pytest.fixture
def impatient(url: str, clock: Any) -> Iterator[ReviewQueue]:
    """The same queue, but it waits a tenth of a second only."""
    opened = ReviewQueue(Database.open(url, clock=clock, busy_timeout_s=0.1))
    yield opened
    opened.close()


@pytest.fixture
def own_server(local_postgres: ModuleType) -> Iterator[Any]:
    """A server that a test may stop."""
    with local_postgres.LocalPostgres({"fsync": "off"}) as server:
        yield server


def as_role(url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@", 1)


def draft_of(lease: Lease, annotator: str, key: str = "key") -> Draft:
    held = Claim(item_id=lease.item.item_id, lease_token=lease.lease_token, annotator=annotator)
    return Draft(held=held, idempotency_key=key, body=to_text("body", {}), summary=Summary())


def is_waiting(work: "Callable[[], bool]") -> bool:
    """Whether something is still not done a while later."""
    time.sleep(0.3)
    return not work()


def test_nobody_there_is_unavailable(tmp_path: Any) -> None:
    with pytest.raises(QueueUnavailable, match=r"review queue: .*[Cc]onnection"):
        ReviewQueue.open(f"postgresql://postgres@/queue?host={tmp_path}")


def test_another_encoding_is_refused(postgres: Any) -> None:
    postgres.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(TerminalStorageError, match="encoding UTF8, got SQL_ASCII; make another"):
        ReviewQueue.open(postgres.url("ascii"))


def test_no_right_to_make_tables_is_said_once_and_for_all(postgres: Any, store: Any) -> None:
    url = store.another()
    postgres.execute("CREATE ROLE guest LOGIN")
    try:
        with pytest.raises(TerminalStorageError, match="permission denied for schema public"):
            ReviewQueue.open(as_role(url, "guest"))
    finally:
        postgres.execute("DROP ROLE guest")


def test_too_many_connections_are_unavailable(postgres: Any, url: str) -> None:
    postgres.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    try:
        with pytest.raises(QueueUnavailable, match="too many connections"):
            ReviewQueue.open(as_role(url, "crowd"))
    finally:
        postgres.execute("DROP ROLE crowd")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("08006", QueueUnavailable),
        ("25006", QueueUnavailable),
        ("40001", QueueUnavailable),
        ("40P01", QueueUnavailable),
        ("53100", QueueUnavailable),
        ("53300", QueueUnavailable),
        ("55P03", QueueUnavailable),
        ("57014", QueueUnavailable),
        ("57P01", QueueUnavailable),
        ("57P03", QueueUnavailable),
        ("58030", QueueUnavailable),
        ("42501", TerminalStorageError),
        ("XX001", TerminalStorageError),
        ("57P04", TerminalStorageError),
        ("42P01", type(None)),
        ("22003", type(None)),
    ],
)
def test_each_state_of_the_server_has_its_meaning(state: str, expected: type) -> None:
    error = psycopg.errors.lookup(state)("first line\nsecond")
    failure = Postgres().failure(DBAPIError("SELECT", {}, error))
    assert type(failure) is expected
    assert failure is None or str(failure) == "review queue: first line"


def test_a_row_that_stays_locked_is_unavailable_and_passes(
    people: Any, impatient: ReviewQueue, store: Any
) -> None:
    people.enqueue("a")
    lease = people.claim()
    with psycopg.connect(store.url) as blocker:
        blocker.execute("SELECT * FROM items FOR UPDATE")
        with pytest.raises(QueueUnavailable, match="lock timeout"):
            impatient.heartbeat("a", lease.lease_token, "ada")
        assert impatient.claim("bob") is None, "claims wait for nobody"
        assert impatient.counts()["leased"] == 1, "readers neither"
    assert impatient.heartbeat("a", lease.lease_token, "ada") == 120.0


def test_claims_side_by_side_get_different_items(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b", "c")
    with queue.database.write() as connection:
        connection.exec_driver_sql("SELECT * FROM items WHERE item_id = 'a' FOR UPDATE")
        assert people.claim("ada").item.item_id == "b"
        assert people.claim("bob").item.item_id == "c"
        assert queue.claim("cy") is None
    assert people.claim("cy").item.item_id == "a"


def test_one_person_twice_at_once_gets_one_item(people: Any, queue: ReviewQueue) -> None:
    for number in range(20):
        people.enqueue(f"{number:02}-a", f"{number:02}-b")
        barrier = threading.Barrier(4)

        def claim(_: int, barrier: threading.Barrier = barrier) -> tuple[str, int]:
            barrier.wait(10)
            lease = people.claim("ada")
            return lease.item.item_id, lease.lease_token

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(claim, range(4)))) == 1
        assert [holder.annotator for holder in queue.holders()] == ["ada"]
        people.submit(people.claim("ada"), "ada", key=f"key {number}")


def test_answers_are_numbered_in_the_order_of_their_commits(
    people: Any, queue: ReviewQueue, clock: Any
) -> None:
    people.enqueue("a", "b")
    ada, bob = people.claim("ada"), people.claim("bob")
    done = threading.Event()

    def answer_after() -> None:
        people.submit(bob, "bob")
        done.set()

    later = threading.Thread(target=answer_after)
    with queue.database.write() as connection:
        submissions.submit(connection, draft_of(ada, "ada"), clock.seconds)
        later.start()
        assert is_waiting(done.is_set), "its number would be the second, its commit the first"
        assert queue.last_seq() == 0
    later.join(20)
    assert [(a.seq, a.annotator) for a in queue.submissions_after(0)] == [(1, "ada"), (2, "bob")]


def test_readers_miss_no_answer_while_many_are_given(people: Any, queue: ReviewQueue) -> None:
    people.enqueue(*(f"item-{number:03}" for number in range(120)))
    seen: list[int] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set() or len(seen) < 120:
            seen.extend(found.seq for found in queue.submissions_after(max(seen, default=0)))

    def work(name: str) -> None:
        while lease := queue.claim(name):
            people.submit(lease, name, key=lease.item.item_id)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, [f"person {number}" for number in range(6)]))
    over.set()
    reader.join(20)
    assert seen == sorted(seen)
    assert len(seen) == 120


def test_of_two_rollbacks_at_once_one_is_told_to_look_again(
    pointer: ModelPointer, promote: Any
) -> None:
    for version in ("v1", "v2", "v3"):
        promote(version)
    barrier = threading.Barrier(2)

    def roll_back(_: int) -> str | None:
        barrier.wait(10)
        try:
            return pointer.rollback(3)
        except StaleGeneration:
            return "stale"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(map(str, pool.map(roll_back, range(2)))) == ["stale", "v2"]
    assert pointer.current() == ("v2", 4)


def test_a_lost_connection_is_unavailable_and_is_replaced(
    people: Any, queue: ReviewQueue, postgres: Any
) -> None:
    people.enqueue("a")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='maskloop'"

    def be_cut_off() -> None:
        with queue.database.write() as connection:
            connection.execute(insert_into(connection, items).values(item_id="half"))

    def cut_and_go_on() -> None:
        with queue.database.write() as connection:
            postgres.execute(cut)
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(QueueUnavailable):
        cut_and_go_on()
    assert people.claim().item.item_id == "a"
    with pytest.raises(DBAPIError):
        be_cut_off()
    postgres.execute(cut)
    assert queue.counts()["leased"] == 1, "an idle connection that was cut is replaced unseen"


def test_an_answer_whose_commit_got_lost_may_be_repeated(
    people: Any, queue: ReviewQueue, postgres: Any, clock: Any
) -> None:
    people.enqueue("a")
    lease = people.claim()

    def answer_and_be_cut_off() -> None:
        with queue.database.write() as connection:
            submissions.submit(connection, draft_of(lease, "ada"), clock.seconds)
            own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            postgres.execute(f"SELECT pg_terminate_backend({own})")

    with pytest.raises(QueueUnavailable):
        answer_and_be_cut_off()
    assert people.submit(lease)["replayed"] is False
    assert people.submit(lease)["replayed"] is True


def test_a_crash_of_the_server_passes(own_server: Any, make: Any) -> None:
    queue = ReviewQueue.open(own_server.create("queue"))
    queue.enqueue([make("a")])
    own_server.stop()
    with pytest.raises(QueueUnavailable):
        queue.claim("ada")
    own_server.start()
    lease = queue.claim("ada")
    assert lease is not None
    queue.submit("a", lease.lease_token, "ada", "key", {})
    own_server.restart()
    assert queue.last_seq() == 1
    queue.close()


def test_the_time_is_now_and_not_when_the_transaction_began(url: str) -> None:
    database = Database.open(url)
    with database.write() as connection:
        before = database.now(connection)
        time.sleep(0.05)
        assert database.now(connection) >= before + 0.05
    database.close()


@pytest.mark.parametrize(("given", "kept"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_commits_are_on_disk_before_they_are_acknowledged(
    postgres: Any, url: str, given: str, kept: str
) -> None:
    postgres.execute(f"ALTER DATABASE tests SET synchronous_commit = '{given}'")
    database = Database.open(url)
    try:
        with database.read() as connection:
            found = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
        assert found == kept
    finally:
        database.close()
        postgres.execute("ALTER DATABASE tests RESET synchronous_commit")


def test_names_sort_by_their_bytes_as_in_sqlite(queue: ReviewQueue) -> None:
    find = "SELECT collation_name FROM information_schema.columns WHERE table_name = 'items'"
    with queue.database.read() as connection:
        ordered = connection.exec_driver_sql(
            f"{find} AND column_name IN ('item_id', 'lease_owner')"
        ).scalars()
        assert list(ordered) == ["C", "C"]


def test_tokens_and_places_have_eight_bytes(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    with queue.database.write() as connection:
        connection.execute(items.update().values(lease_token=2**53 - 1))
        connection.exec_driver_sql(f"ALTER SEQUENCE annotations_seq_seq RESTART {2**53}")
    people.submit(people.claim())
    assert queue.last_seq() == 2**53
    assert annotations.c.seq.type.compile(queue.database._engine.dialect) == "BIGINT"
