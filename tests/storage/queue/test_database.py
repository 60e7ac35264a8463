"""The database under the queue: its url, its tables, its transactions and its time."""

import threading
import time
from typing import Any

import pytest

from storage.errors import NewerStoreError
from storage.queue.database import Database, DatabaseClock
from storage.queue.review import ReviewQueue


@pytest.mark.parametrize(
    "url",
    [
        "",
        "queue.sqlite",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///queue.sqlite",
        "postgresql://localhost",
        "postgresql+asyncpg://localhost/queue",
        "mysql://localhost/queue",
        "http://localhost/",
    ],
)
def test_another_kind_of_url_is_refused(url: str) -> None:
    expected = r"^queue url: must be sqlite:///FILE or postgresql://HOST/DATABASE, got "
    with pytest.raises(ValueError, match=expected):
        Database.open(url)


def test_a_url_is_quoted_without_its_password() -> None:
    with pytest.raises(ValueError, match=r"got 'mysql://\*\*\*@db/queue'"):
        Database.open("mysql://ada:secret@db/queue")


def test_a_newer_queue_is_left_alone(tamper: Any, url: str) -> None:
    tamper("UPDATE schema_version SET version = 4")
    with pytest.raises(NewerStoreError, match="schema 4, this maskloop reads 3; install the newer"):
        ReviewQueue.open(url)


def test_opening_again_keeps_everything(people: Any, url: str) -> None:
    people.enqueue("a", "b")
    people.submit(people.claim())
    again = ReviewQueue.open(url)
    assert again.counts() == {"ready": 1, "leased": 0, "done": 1, "dead": 0}
    again.close()


def test_many_may_open_a_new_queue_at_once(store: Any) -> None:
    start, troubles, url = threading.Barrier(6), [], store.another()

    def open_it() -> None:
        start.wait(10)
        try:
            ReviewQueue.open(url).close()
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert troubles == []


def test_whatever_fails_inside_a_transaction_undoes_it(queue: ReviewQueue) -> None:
    def begin_and_fail() -> None:
        with queue.database.write() as connection:
            served = "UPDATE current_model SET generation = 7, model_version = 'v'"
            connection.exec_driver_sql(served)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        begin_and_fail()
    with queue.database.read() as connection:
        found = connection.exec_driver_sql("SELECT generation FROM current_model").scalar_one()
    assert found == 0


def test_a_reader_sees_one_state(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a")
    count = "SELECT count(*) FROM items"
    with queue.database.read() as connection:
        assert connection.exec_driver_sql(count).scalar_one() == 1
        people.enqueue("b")
        assert connection.exec_driver_sql(count).scalar_one() == 1
    assert queue.counts()["ready"] == 2


def test_the_databases_clock_tells_the_time(queue: ReviewQueue) -> None:
    with queue.database.read() as connection:
        assert DatabaseClock().now(connection) == pytest.approx(time.time(), abs=1.0)
