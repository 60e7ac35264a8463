"""The file under the queue: missing, locked, damaged, of another version, or not a file at all."""

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from storage.errors import NewerStoreError, TerminalStorageError
from storage.queue.database import Database, DatabaseClock
from storage.queue.errors import QueueUnavailable
from storage.queue.review import ReviewQueue


@pytest.mark.parametrize(
    "url",
    [
        "",
        "queue.sqlite",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///queue.sqlite",
        "postgresql://localhost/queue",
        "http://localhost/",
    ],
)
def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^queue url: must be sqlite:///FILE, got "):
        Database.open(url)


def test_a_file_that_cannot_be_made_may_be_made_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'missing' / 'queue.sqlite'}"
    with pytest.raises(QueueUnavailable, match="unable to open database file"):
        ReviewQueue.open(url)
    (tmp_path / "missing").mkdir()
    ReviewQueue.open(url).close()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"no database at all, but long enough to be one" * 100, id="text"),
        pytest.param(b"SQLite format 3\x00" + b"\xff" * 8000, id="header only"),
    ],
)
def test_a_file_of_something_else_is_refused(file: Path, url: str, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(TerminalStorageError, match="review queue: file is not a database"):
        ReviewQueue.open(url)
    assert file.read_bytes() == content


def test_a_damaged_page_is_an_error_and_no_answer(queue: ReviewQueue, url: str, make: Any) -> None:
    queue.enqueue(make(f"item-{number}") for number in range(200))
    queue.close()
    file = Path(url.removeprefix("sqlite:///"))
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(file.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    file.write_bytes(content)
    with pytest.raises(TerminalStorageError, match="malformed"):
        ReviewQueue.open(url).claim("ada")


def test_a_newer_queue_is_left_alone(tamper: Any, url: str) -> None:
    tamper("UPDATE schema_version SET version = 3")
    with pytest.raises(NewerStoreError, match="schema 3, this maskloop reads 2; install the newer"):
        ReviewQueue.open(url)


def test_opening_again_keeps_everything(people: Any, url: str) -> None:
    people.enqueue("a", "b")
    people.submit(people.claim())
    again = ReviewQueue.open(url)
    assert again.counts() == {"ready": 1, "leased": 0, "done": 1, "dead": 0}
    again.close()


def test_many_may_open_a_new_file_at_once(url: str) -> None:
    start, troubles = threading.Barrier(6), []

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


def test_a_lock_that_stays_is_unavailable_and_passes(people: Any, file: Path, url: str) -> None:
    people.enqueue("a")
    impatient = ReviewQueue(Database.open(url, busy_timeout_s=0.1))
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueUnavailable, match="database is locked"):
        impatient.claim("ada")
    assert impatient.counts()["ready"] == 1, "readers wait for nobody"
    blocker.execute("ROLLBACK")
    blocker.close()
    assert impatient.claim("ada") is not None
    impatient.close()


def test_a_turn_that_does_not_come_is_unavailable(url: str) -> None:
    database = Database.open(url, busy_timeout_s=0.1)
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write():
            inside.set()
            assert go_on.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    with pytest.raises(QueueUnavailable, match=r"no turn to write in 0\.1 s"), database.write():
        pass
    go_on.set()
    holder.join(10)
    with database.write():
        pass
    database.close()


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


def test_commits_are_on_disk_before_they_are_acknowledged(queue: ReviewQueue) -> None:
    pragmas = {"synchronous": 2, "foreign_keys": 1, "journal_mode": "wal"}
    with queue.database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in pragmas
        }
    assert found == pragmas


def test_the_databases_clock_tells_the_time(queue: ReviewQueue) -> None:
    with queue.database.read() as connection:
        assert DatabaseClock().now(connection) == pytest.approx(time.time(), abs=1.0)
