"""Arbitrary histories of a queue, each step compared with a queue that is a plain dictionary.

Clocks jump both ways, tokens are stale, answers are repeated, and the process may die right before
or after any commit: then nothing was done, or all of it, and nobody was told.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select

from storage.queue.check import check
from storage.queue.database import Database
from storage.queue.errors import IdempotencyConflict, StaleLease
from storage.queue.items import NewItem
from storage.queue.leases import Claim, QueueConfig
from storage.queue.review import ReviewQueue
from storage.queue.schema import annotations, items
from storage.queue.submissions import Draft
from storage.queue.summary import Summary

CONFIG = QueueConfig(ttl_s=120, cap_s=400, max_attempts=3)
PEOPLE = st.sampled_from(["ada", "bob", "cy"])
NAMES = st.sampled_from(["a", "b", "c", "d"])
RUNS = st.sampled_from(["run-1", "run-2"])
# Both ways, as the time of a machine jumps when it is set right.
JUMPS = st.sampled_from([-300.0, -1.0, 1.0, 60.0, 119.0, 120.0, 300.0])
# Mostly none, or histories would be about nothing else.
DEATHS = st.sampled_from([None] * 22 + ["before", "after"])
# Of the whole check, which reads all there is; what it finds does not go away.
CHECK_EVERY = 20
# Made once: to build them takes longer than to ask them.
STATES = select(
    *(items.c[name] for name in ("item_id", "state", "lease_owner", "lease_token")),
    *(items.c[name] for name in ("attempts", "skips")),
)
OUTBOX = select(annotations.c.submission_id).order_by(annotations.c.seq)


@dataclass
class Expected:
    """An item as the rules of the queue say it must be."""

    run: str
    priority: int
    state: str = "ready"
    owner: str | None = None
    token: int = 0
    leased_at: float = 0.0
    expires: float = 0.0
    attempts: int = 0
    skips: int = 0
    withdrawn: bool = False

    def close(self, state: str) -> None:
        self.state, self.owner = state, None

    def open_again(self) -> None:
        self.attempts, self.skips, self.withdrawn = 0, 0, False
        self.close("ready")

    def prolong(self, now: float) -> None:
        self.expires = min(self.leased_at + CONFIG.cap_s, now + CONFIG.ttl_s)

    def begin(self, now: float) -> None:
        self.leased_at, self.expires = now, now + CONFIG.ttl_s
        self.attempts += 1

    def is_held(self, held: Claim) -> bool:
        shown = ("leased", held.annotator, held.lease_token)
        return (self.state, self.owner, self.token) == shown

    @property
    def is_spent(self) -> bool:
        return self.attempts >= CONFIG.max_attempts


@dataclass
class Model:
    """The whole queue as it must be; each method does a step and says what the answer must be."""

    items: dict[str, Expected] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    outbox: list[str] = field(default_factory=list)

    def enqueue(self, name: str, run: str, priority: int) -> int:
        known = self.items.get(name)
        if known is None:
            self.items[name] = Expected(run, priority)
            return 1
        if not known.withdrawn or known.run == run:
            return 0
        known.open_again()
        known.run, known.priority = run, priority
        return 1

    def claim(self, person: str, now: float) -> tuple[str, int, float] | None:
        name = self._resumed(person, now) or self._granted(person, now)
        if name is None:
            return None
        item = self.items[name]
        return name, item.token, max(0.0, item.expires - now)

    def _resumed(self, person: str, now: float) -> str | None:
        for name, item in self.items.items():
            if item.owner != person:
                continue
            if item.expires > now:
                item.prolong(now)
                return name
            if not item.is_spent:
                item.begin(now)
                return name
            item.close("dead")
        return None

    def _granted(self, person: str, now: float) -> str | None:
        found = self.items.items()
        ready = [name for name, item in found if item.state == "ready"]
        late = [name for name, item in found if item.state == "leased" and item.expires <= now]
        if not ready:
            for name in late:
                if self.items[name].is_spent:
                    self.items[name].close("dead")
            late = [name for name in late if self.items[name].state == "leased"]
        order = self._by_skips if ready else self._by_priority
        chosen = min(ready or late, key=order, default=None)
        if chosen is not None:
            item = self.items[chosen]
            item.state, item.owner, item.token = "leased", person, item.token + 1
            item.begin(now)
        return chosen

    def _by_skips(self, name: str) -> tuple[int, int, str]:
        return self.items[name].skips, *self._by_priority(name)

    def _by_priority(self, name: str) -> tuple[int, str]:
        return -self.items[name].priority, name

    def heartbeat(self, held: Claim, now: float) -> float | str:
        item = self.items[held.item_id]
        if not item.is_held(held):
            return "stale"
        item.prolong(now)
        return max(0.0, item.expires - now)

    def skip(self, held: Claim) -> str | None:
        item = self.items[held.item_id]
        if not item.is_held(held):
            return "stale"
        item.skips += 1
        item.close("dead" if item.is_spent else "ready")
        return None

    def release(self, held: Claim) -> str | None:
        item = self.items[held.item_id]
        if not item.is_held(held):
            return "stale"
        item.attempts -= 1
        item.close("ready")
        return None

    def submit(self, held: Claim, key: str, text: str) -> tuple[str, bool] | str:
        draft = Draft(held=held, idempotency_key=key, body="", summary=Summary())
        submission_id = draft.submission_id
        first = self.answers.get((held.annotator, key))
        if first is not None:
            return (submission_id, True) if first == (held.item_id, text) else "conflict"
        item = self.items[held.item_id]
        if not item.is_held(held):
            return "stale"
        item.close("done")
        self.answers[held.annotator, key] = (held.item_id, text)
        self.outbox.append(submission_id)
        return submission_id, False

    def reopen(self, name: str) -> bool:
        item = self.items[name]
        closed = item.state in ("done", "dead")
        if closed:
            item.open_again()
        return closed

    def withdraw(self, run: str) -> int:
        ready = [i for i in self.items.values() if i.run == run and i.state == "ready"]
        for item in ready:
            item.close("dead")
            item.withdrawn = True
        return len(ready)


class DeathError(Exception):
    """The process died."""


class MortalDatabase(Database):
    """Dies once, right before or right after the next commit, when it is told to."""

    dies: Literal["before", "after"] | None = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
            if self.dies == "before":
                raise DeathError
        if self.dies == "after":
            raise DeathError


class History(RuleBasedStateMachine):
    """The real queue and the expected one, side by side."""

    def __init__(self, store: Any, steps: list[int]) -> None:
        super().__init__()
        self.now = 1_000_000.0
        clock = type("Clock", (), {"now": lambda _, __: self.now})()
        store.make()
        self.database = MortalDatabase.open(store.url, clock=clock)
        self.queue = ReviewQueue(self.database, CONFIG)
        self.model = Model()
        self.leases: list[Claim] = []
        self.steps = steps

    def teardown(self) -> None:
        try:
            assert check(self.database, acknowledged=self.model.outbox) == []
        finally:
            self.queue.close()

    def both(
        self,
        death: Literal["before", "after"] | None,
        expect: Callable[[Model], Any],
        act: Callable[[ReviewQueue], Any],
    ) -> Any:
        """Do a step on both and compare; None where the process died and nobody was told."""
        before = deepcopy(self.model) if death == "before" else self.model
        expected = expect(self.model)
        self.database.dies = death
        try:
            found = act(self.queue)
        except StaleLease:
            found = "stale"
        except IdempotencyConflict:
            found = "conflict"
        except DeathError:
            # It starts again, with nothing in memory and new connections.
            self.model = before
            self.database.close()
            return None
        finally:
            self.database.dies = None
        assert found == expected
        return found

    @initialize()
    def two_items(self) -> None:
        self.enqueue("a", "run-1", 0, None)
        self.enqueue("b", "run-1", 1, None)

    @rule(seconds=JUMPS)
    def time_jumps(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=NAMES, run=RUNS, priority=st.integers(0, 2), death=DEATHS)
    def enqueue(self, name: str, run: str, priority: int, death: Any) -> None:
        size = {"height": 1, "width": 1}
        item = NewItem(
            item_id=name,
            image_id=name,
            file_name=name,
            model_version="v1",
            run_id=run,
            iteration=1,
            priority=priority,
            **size,
        )
        self.both(death, lambda m: m.enqueue(name, run, priority), lambda q: q.enqueue([item]))

    @rule(person=PEOPLE, death=DEATHS)
    def claim(self, person: str, death: Any) -> None:
        def act(queue: ReviewQueue) -> Any:
            lease = queue.claim(person)
            return lease and (lease.item.item_id, lease.lease_token, lease.expires_in_s)

        found = self.both(death, lambda m: m.claim(person, self.now), act)
        if found is not None:
            self.leases.append(Claim(item_id=found[0], lease_token=found[1], annotator=person))

    # Any lease that was ever given: most of them are stale.
    @precondition(lambda self: self.leases)
    @rule(data=st.data(), death=DEATHS)
    def heartbeat(self, data: st.DataObject, death: Any) -> None:
        held = data.draw(st.sampled_from(self.leases))
        shown = (held.item_id, held.lease_token, held.annotator)
        self.both(death, lambda m: m.heartbeat(held, self.now), lambda q: q.heartbeat(*shown))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), death=DEATHS)
    def skip(self, data: st.DataObject, death: Any) -> None:
        held = data.draw(st.sampled_from(self.leases))
        shown = (held.item_id, held.lease_token, held.annotator)
        self.both(death, lambda m: m.skip(held), lambda q: q.skip(*shown))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), death=DEATHS)
    def release(self, data: st.DataObject, death: Any) -> None:
        held = data.draw(st.sampled_from(self.leases))
        shown = (held.item_id, held.lease_token, held.annotator)
        self.both(death, lambda m: m.release(held), lambda q: q.release(*shown))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), key=st.sampled_from("123456"), text=st.sampled_from("xy"), death=DEATHS)
    def submit(self, data: st.DataObject, key: str, text: str, death: Any) -> None:
        held = data.draw(st.sampled_from(self.leases))
        shown = (held.item_id, held.lease_token, held.annotator)

        def act(queue: ReviewQueue) -> Any:
            result = queue.submit(*shown, key, {"text": text})
            return result.submission_id, result.replayed

        self.both(death, lambda m: m.submit(held, key, text), act)

    @rule(data=st.data(), death=DEATHS)
    def reopen(self, data: st.DataObject, death: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.items)))
        self.both(death, lambda m: m.reopen(name), lambda q: q.reopen(name))

    @rule(run=RUNS, death=DEATHS)
    def withdraw(self, run: str, death: Any) -> None:
        self.both(death, lambda m: m.withdraw(run), lambda q: q.withdraw(run))

    @invariant()
    def both_are_alike(self) -> None:
        with self.database.read() as connection:
            found = connection.execute(STATES).all()
            assert list(connection.execute(OUTBOX).scalars()) == self.model.outbox
        assert {tuple(row) for row in found} == {
            (name, item.state, item.owner, item.token, item.attempts, item.skips)
            for name, item in self.model.items.items()
        }
        self.steps[0] += 1
        if self.steps[0] % CHECK_EVERY == 0:
            assert check(self.database, acknowledged=self.model.outbox) == []


@pytest.fixture
def memory_store(store: Any, empty_file: bytes) -> Iterator[Any]:
    """Histories are about the order of things: a file of SQLite need not reach a disk for them."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        if store.kind == "sqlite":
            yield type(store)(Path(folder) / "queue.sqlite", empty_file)
        else:
            yield store


def run(store: Any, num_histories: int, num_steps: int) -> int:
    """Play histories; returns the number of steps."""
    steps = [0]
    run_state_machine_as_test(
        lambda: History(store, steps),
        settings=settings(
            max_examples=num_histories,
            stateful_step_count=num_steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return steps[0]


def test_short_histories(memory_store: Any) -> None:
    assert run(memory_store, {"sqlite": 8, "postgres": 3}[memory_store.kind], 50) >= 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_long_histories(memory_store: Any) -> None:
    # One in ten ends early.
    histories, steps = {"sqlite": (600, 50_000), "postgres": (35, 2_500)}[memory_store.kind]
    assert run(memory_store, histories, 100) >= steps
