"""A real queue in a file of its own, a clock that only tests move, and items to put into it."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from storage.queue.items import NewItem
from storage.queue.pointer import GateDecision, ModelPointer
from storage.queue.review import Lease, ReviewQueue


class HandClock:
    """Stands still until a test moves it, in either direction."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def now(self, _: Connection) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.seconds += seconds


def new_item(name: str, **changes: Any) -> NewItem:
    values: dict[str, Any] = {
        "item_id": name,
        "image_id": f"image-{name}",
        "file_name": f"{name}.png",
        "height": 20,
        "width": 30,
        "model_version": "v1",
        "run_id": "run-1",
        "iteration": 1,
        "payload": {"proposals": [name]},
    }
    return NewItem(**{**values, **changes})


class People:
    """Shortcuts for what annotators do; `journal` holds what they were told was accepted."""

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue
        self.journal: list[str] = []

    def enqueue(self, *names: str, **changes: Any) -> int:
        """Items in this order: the first has the highest priority."""
        return self._queue.enqueue(
            new_item(name, **{"priority": -float(place), **changes})
            for place, name in enumerate(names)
        )

    def claim(self, annotator: str = "ada") -> Lease:
        lease = self._queue.claim(annotator)
        assert lease is not None, "nothing left to claim"
        return lease

    def submit(
        self, lease: Lease, annotator: str = "ada", key: str = "key", **body: Any
    ) -> dict[str, Any]:
        result = self._queue.submit(lease.item.item_id, lease.lease_token, annotator, key, body)
        self.journal.append(result.submission_id)
        return {"status": result.status, "replayed": result.replayed, **result.response}

    def heartbeat(self, lease: Lease, annotator: str = "ada") -> float:
        return self._queue.heartbeat(lease.item.item_id, lease.lease_token, annotator)

    def skip(self, lease: Lease, annotator: str = "ada") -> None:
        self._queue.skip(lease.item.item_id, lease.lease_token, annotator)

    def release(self, lease: Lease, annotator: str = "ada") -> None:
        self._queue.release(lease.item.item_id, lease.lease_token, annotator)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def empty_queue(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A queue's file, made once and copied: making one takes longer than most tests."""
    file = tmp_path_factory.mktemp("empty") / "queue.sqlite"
    ReviewQueue.open(f"sqlite:///{file}").close()
    return file.read_bytes()


@pytest.fixture
def queue(empty_queue: bytes, file: Path, url: str, clock: HandClock) -> Iterator[ReviewQueue]:
    file.write_bytes(empty_queue)
    opened = ReviewQueue.open(url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def people(queue: ReviewQueue) -> People:
    return People(queue)


@pytest.fixture
def make() -> Callable[..., NewItem]:
    return new_item


@pytest.fixture
def pointer(queue: ReviewQueue) -> ModelPointer:
    return ModelPointer(queue.database)


@pytest.fixture
def promote(pointer: ModelPointer) -> Callable[[str], bool]:
    """Puts a version in service after a gate that it passes."""

    def by_name(version: str) -> bool:
        current = pointer.current()
        decision = GateDecision(
            model_version=version, metrics={"mean_iou": 0.5}, passed=True, reason="better"
        )
        generation = 0 if current is None else current[1]
        return pointer.promote(version, generation, pointer.record_gate(decision))

    return by_name


@pytest.fixture
def tamper(file: Path, queue: ReviewQueue) -> Callable[..., None]:
    """Writes into the file behind the queue's back, with no constraint in the way."""

    def by_hand(*statements: str) -> None:
        queue.close()
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            changed = connection.execute(statement).rowcount
            assert changed != 0, f"changed nothing: {statement}"
        connection.close()

    return by_hand
