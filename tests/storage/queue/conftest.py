"""A real queue on SQLite and on Postgres, a clock that only tests move, and items to put in."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from sqlalchemy import Connection

from storage.queue.items import NewItem
from storage.queue.pointer import GateDecision, ModelPointer
from storage.queue.review import ReviewQueue
from storage.queue.schema import metadata
from storage.queue.work import Lease


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


class Store(Protocol):
    """A database for a queue at `url`, and the way into it behind the queue's back."""

    kind: str
    url: str

    def make(self) -> None:
        """The tables of an empty queue."""

    def another(self) -> str:
        """The url of a database without tables."""

    def tamper(self, *statements: str) -> None:
        """Change what is there, with no constraint in the way."""


class SqliteStore:
    """A file, copied from an empty one: making one takes longer than most tests."""

    kind = "sqlite"

    def __init__(self, file: Path, empty: bytes) -> None:
        self.url = f"sqlite:///{file}"
        self._file = file
        self._empty = empty

    def make(self) -> None:
        self._file.write_bytes(self._empty)

    def another(self) -> str:
        return f"sqlite:///{self._file.with_name('another.sqlite')}"

    def tamper(self, *statements: str) -> None:
        connection = sqlite3.connect(self._file, isolation_level=None)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            changed = connection.execute(statement).rowcount
            assert changed != 0, f"changed nothing: {statement}"
        connection.close()


CHECKS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'c' AND connamespace = 'public'::regnamespace
"""


class PostgresStore:
    """One database for all tests, as if new for each."""

    kind = "postgres"

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = url = server.create("tests")
        ReviewQueue.open(url).close()
        self._connection = psycopg.connect(url, autocommit=True)
        self._dropped: list[Any] = []
        # What a new queue holds, in the order of foreign keys.
        self._first = {
            table.name: self._connection.execute(f'SELECT * FROM "{table.name}"').fetchall()
            for table in metadata.sorted_tables
        }

    def make(self) -> None:
        for name in reversed(self._first):
            self._connection.execute(f'DELETE FROM "{name}"')
        for name, rows in self._first.items():
            for row in rows:
                marks = ", ".join(["%s"] * len(row))
                self._connection.execute(f'INSERT INTO "{name}" VALUES ({marks})', row)
        for (sequence,) in self._connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S'"
        ).fetchall():
            self._connection.execute(f"ALTER SEQUENCE {sequence} RESTART")
        for table, name, rule in self._dropped:
            self._connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule}")
        self._dropped = []

    def another(self) -> str:
        self._server.execute("DROP DATABASE IF EXISTS another WITH (FORCE)")
        return str(self._server.create("another"))

    def tamper(self, *statements: str) -> None:
        self._dropped = self._connection.execute(CHECKS).fetchall()
        for table, name, _ in self._dropped:
            self._connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        self._connection.execute("SET session_replication_role = replica")
        for statement in statements:
            changed = self._connection.execute(statement.encode()).rowcount
            assert changed != 0, f"changed nothing: {statement}"
        self._connection.execute("SET session_replication_role = origin")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("empty") / "queue.sqlite"
    ReviewQueue.open(f"sqlite:///{file}").close()
    return file.read_bytes()


@pytest.fixture(scope="session")
def postgres_store(postgres: Any) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path, empty_file: bytes) -> SqliteStore:
    return SqliteStore(tmp_path / "queue.sqlite", empty_file)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest) -> Store:
    """Each test that wants a queue runs on both."""
    found: Any = request.getfixturevalue(f"{request.param}_store")
    if request.param == "postgres":
        found.make()
    return found  # type: ignore[no-any-return] # by its name


@pytest.fixture
def url(store: Store) -> str:
    return store.url


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def queue(store: Store, clock: HandClock) -> Iterator[ReviewQueue]:
    store.make()
    opened = ReviewQueue.open(store.url, clock=clock)
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
def tamper(store: Store, queue: ReviewQueue) -> Callable[..., None]:
    """Writes into the database behind the queue's back, with no constraint in the way."""

    def by_hand(*statements: str) -> None:
        queue.close()
        store.tamper(*statements)

    return by_hand
