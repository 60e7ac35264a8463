"""Threads and processes on one queue, killed at any moment: each item is answered once."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage.failpoints import EXIT_CODE, VARIABLE
from storage.queue.check import check
from storage.queue.errors import StaleLease
from storage.queue.review import ReviewQueue

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
def crowd(url: str) -> Iterator[ReviewQueue]:
    """A queue on the database's own clock, as the processes have it."""
    opened = ReviewQueue.open(url)
    yield opened
    opened.close()


def start(
    url: str, name: str, journal: Path, how: str = "work", failpoint: str = ""
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(WORKER), url, name, str(journal), how],
        env={**os.environ, VARIABLE: failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", expected: int = 0) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == expected, errors
    return output


def acknowledged(journals: Iterable[Path]) -> list[str]:
    return [line for path in journals if path.exists() for line in path.read_text().split()]


def answers(queue: ReviewQueue) -> Counter[str]:
    """How often each item was answered."""
    return Counter(stored.item.item_id for stored in queue.submissions_after(0, limit=None))


def test_of_two_people_with_one_lease_one_answers(queue: ReviewQueue, people: Any) -> None:
    people.enqueue(*(f"item-{number:02}" for number in range(30)))
    outcomes: list[str] = []
    for _ in range(30):
        lease = people.claim()
        barrier = threading.Barrier(2)

        def race(key: str, lease: Any = lease, barrier: threading.Barrier = barrier) -> str:
            barrier.wait(10)
            try:
                return str(people.submit(lease, key=f"{lease.item.item_id} {key}")["status"])
            except StaleLease:
                return "stale"

        with ThreadPoolExecutor(2) as pool:
            outcomes += pool.map(race, ["one", "two"])
    assert Counter(outcomes) == {"201": 30, "stale": 30}
    assert set(answers(queue).values()) == {1}
    assert check(queue.database, acknowledged=people.journal) == []


def test_threads_share_the_work(queue: ReviewQueue, people: Any) -> None:
    people.enqueue(*(f"item-{number:03}" for number in range(80)))

    def work(name: str) -> int:
        num_done = 0
        while lease := queue.claim(name):
            people.heartbeat(lease, name)
            people.submit(lease, name, key=lease.item.item_id)
            num_done += 1
        return num_done

    with ThreadPoolExecutor(8) as pool:
        shares = list(pool.map(work, [f"person {number}" for number in range(8)]))
    assert sum(shares) == 80
    assert set(answers(queue).values()) == {1}
    assert check(queue.database, acknowledged=people.journal) == []


def test_four_processes_share_the_work(
    crowd: ReviewQueue, url: str, make: Any, tmp_path: Path
) -> None:
    crowd.enqueue(make(f"item-{number:03}") for number in range(60))
    journals = [tmp_path / f"journal-{number}" for number in range(4)]
    processes = [start(url, path.name, path) for path in journals]
    for process in processes:
        finish(process)
    assert crowd.counts() == {"ready": 0, "leased": 0, "done": 60, "dead": 0}
    assert set(answers(crowd).values()) == {1}
    told = acknowledged(journals)
    assert len(told) == len(set(told)) == 60
    assert check(crowd.database, acknowledged=told) == []


@pytest.mark.parametrize(
    ("failpoint", "num_answers"),
    [
        pytest.param("lease.after_commit:3", 2, id="leased, and nobody knows"),
        pytest.param("submit.before_commit:3", 2, id="answered, not committed"),
        pytest.param("submit.after_commit:3", 3, id="committed, not acknowledged"),
    ],
)
def test_a_process_killed_at_a_failpoint_loses_nothing(
    crowd: ReviewQueue,
    url: str,
    make: Any,
    tmp_path: Path,
    failpoint: str,
    num_answers: int,
) -> None:
    crowd.enqueue(make(f"item-{number}") for number in range(5))
    journal = tmp_path / "journal"
    finish(start(url, "ada", journal, failpoint=failpoint), EXIT_CODE)
    assert len(acknowledged([journal])) == 2
    assert crowd.last_seq() == num_answers
    assert check(crowd.database, acknowledged=acknowledged([journal])) == []
    # The same person comes back, gets the lease that nobody knew of, and finishes.
    finish(start(url, "ada", journal))
    assert crowd.counts() == {"ready": 0, "leased": 0, "done": 5, "dead": 0}
    assert set(answers(crowd).values()) == {1}
    assert check(crowd.database, acknowledged=acknowledged([journal])) == []


@pytest.mark.parametrize(
    ("failpoint", "num_answers"),
    [
        pytest.param("submit.before_commit:2", 0, id="in the middle of the group"),
        pytest.param("submit.after_commit:1", 3, id="committed, and nobody knows"),
    ],
)
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_process_killed_in_a_group_of_answers_keeps_all_or_none(
    crowd: ReviewQueue,
    url: str,
    make: Any,
    tmp_path: Path,
    failpoint: str,
    num_answers: int,
) -> None:
    crowd.enqueue(make(f"item-{number}") for number in range(3))
    journal = tmp_path / "journal"
    finish(start(url, "ada", journal, "together", failpoint), EXIT_CODE)
    assert acknowledged([journal]) == []
    assert crowd.last_seq() == num_answers
    assert check(crowd.database) == []
    assert crowd.counts()["leased"] == 3 - num_answers


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_full_disk_loses_nothing_and_is_passed(
    crowd: ReviewQueue, url: str, make: Any, tmp_path: Path
) -> None:
    crowd.enqueue(make(f"item-{number:02}") for number in range(30))
    journal = tmp_path / "journal"
    output = finish(start(url, "ada", journal, "fill"))
    assert "full: review queue: disk I/O error" in output
    told = acknowledged([journal])
    assert len(told) == len(set(told)) == 30
    assert crowd.counts()["done"] == 30
    assert check(crowd.database, acknowledged=told) == []


@pytest.mark.slow
def test_kills_under_load_lose_nothing(
    crowd: ReviewQueue, url: str, make: Any, tmp_path: Path
) -> None:
    chance = random.Random(0)
    journals = [tmp_path / f"journal-{number}" for number in range(3)]
    running = [start(url, path.name, path) for path in journals]
    for number in range(10):
        crowd.enqueue(make(f"item-{number}-{place}") for place in range(100))
        victim = chance.randrange(3)
        assert running[victim].stdout.readline() == "open\n"  # type: ignore[union-attr] # a pipe
        time.sleep(chance.uniform(0, 0.2))
        running[victim].kill()
        running[victim].communicate(timeout=30)
        told = acknowledged(journals)
        assert check(crowd.database, acknowledged=told) == [], f"after kill {number}"
        running[victim] = start(url, journals[victim].name, journals[victim])
    for process in running:
        finish(process)
    assert crowd.counts()["done"] == 1000
    assert set(answers(crowd).values()) == {1}
    assert check(crowd.database, acknowledged=acknowledged(journals)) == []
