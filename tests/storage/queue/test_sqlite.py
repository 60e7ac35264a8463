"""The file under the queue: missing, locked, damaged, or not a file of SQLite at all."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from storage.errors import TerminalStorageError
from storage.queue.database import Database
from storage.queue.errors import QueueUnavailable
from storage.queue.review import ReviewQueue


@pytest.fixture
def store(sqlite_store: Any) -> Any:
    return sqlite_store


@pytest.fixture
def file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


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


def test_a_damaged_page_is_an_error_and_no_answer(
    queue: ReviewQueue, url: str, file: Path, make: Any
) -> None:
    queue.enqueue(make(f"item-{number}") for number in range(200))
    queue.close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(file.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    file.write_bytes(content)
    with pytest.raises(TerminalStorageError, match="malformed"):
        ReviewQueue.open(url).claim("ada")


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


def test_commits_are_on_disk_before_they_are_acknowledged(queue: ReviewQueue) -> None:
    pragmas = {"synchronous": 2, "foreign_keys": 1, "journal_mode": "wal"}
    with queue.database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in pragmas
        }
    assert found == pragmas
