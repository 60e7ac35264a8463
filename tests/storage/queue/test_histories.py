"""Arbitrary histories of a queue, each step compared with a queue that is a plain dictionary.

Clocks jump both ways, tokens are stale, answers are repeated, and the process may die right before
or after any commit: then nothing was done, or all of it, and nobody was told.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
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
from storage.queue.leases import Claim
from storage.queue.review import ReviewQueue
from storage.queue.schema import annotations, items, pins

PEOPLE = st.sampled_from(["ada", "bob", "cy"])
# An item is named by its image and its kind.
KIND_OF = {"": "assist", "2": "second"}
IMAGES = st.sampled_from(["a", "b", "c"])
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
    *(items.c[name] for name in ("attempts", "skips", "run_id", "priority")),
)
PINS = select(pins.c.image_id)
OUTBOX = select(annotations.c.submission_id).order_by(annotations.c.seq)


def new_item(
    name: str,
    run: str,
    priority: int,
    not_for: str | None,
    for_role: Literal["lead"] | None = None,
) -> NewItem:
    """The item of an image ("a"), or of the second look at it ("a2")."""
    return NewItem(
        item_id=name,
        image_id=name[0],
        file_name=name,
        height=1,
        width=1,
        model_version="v1",
        stage=KIND_OF[name[1:]],
        run_id=run,
        iteration=1,
        priority=priority,
        not_for=not_for,
        for_role=for_role,
    )


NEW_ITEMS = st.builds(
    new_item,
    st.sampled_from([image + kind for image in "abc" for kind in KIND_OF]),
    RUNS,
    st.integers(0, 2),
    st.sampled_from([None, None, "ada"]),
    st.sampled_from([None, None, "lead"]),
)


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

    def __init__(self, store: Any, expected_queue: ModuleType, steps: list[int]) -> None:
        super().__init__()
        self.now = 1_000_000.0
        clock = type("Clock", (), {"now": lambda _, __: self.now})()
        store.make()
        self.database = MortalDatabase.open(store.url, clock=clock)
        self.queue = ReviewQueue(self.database, expected_queue.CONFIG)
        self.model = expected_queue.Model()
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
        expect: Callable[[Any], Any],
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
        for priority, name in enumerate("ab"):
            self.enqueue(new_item(name, "run-1", priority, None), None)

    @rule(seconds=JUMPS)
    def time_jumps(self, seconds: float) -> None:
        self.now += seconds

    @rule(new=NEW_ITEMS, death=DEATHS)
    def enqueue(self, new: NewItem, death: Any) -> None:
        self.both(death, lambda m: m.enqueue(new), lambda q: q.enqueue([new]))

    @rule(data=st.data(), new=NEW_ITEMS, death=DEATHS)
    def replace(self, data: st.DataObject, new: NewItem, death: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.items)))
        self.both(death, lambda m: m.replace(name, new), lambda q: q.replace(name, new))

    @rule(image=IMAGES, death=DEATHS)
    def pin(self, image: str, death: Any) -> None:
        self.both(death, lambda m: m.pin(image), lambda q: q.pin([image], "dee"))

    @rule(image=IMAGES, death=DEATHS)
    def unpin(self, image: str, death: Any) -> None:
        self.both(death, lambda m: m.unpin(image), lambda q: q.unpin([image]))

    # A person may be a lead now and none later: where nobody was added yet, everybody is one.
    @rule(person=PEOPLE, is_lead=st.booleans(), death=DEATHS)
    def claim(self, person: str, is_lead: bool, death: Any) -> None:
        def act(queue: ReviewQueue) -> Any:
            lease = queue.claim(person, is_lead=is_lead)
            return lease and (lease.item.item_id, lease.lease_token, lease.expires_in_s)

        found = self.both(death, lambda m: m.claim(person, is_lead, self.now), act)
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
            assert set(connection.execute(PINS).scalars()) == self.model.pins
        assert {tuple(row) for row in found} == {
            (name, *item.columns(), self.model.priority(item))
            for name, item in self.model.items.items()
        }
        self.steps[0] += 1
        if self.steps[0] % CHECK_EVERY == 0:
            assert check(self.database, acknowledged=self.model.outbox) == []


@pytest.fixture(scope="module")
def expected_queue() -> ModuleType:
    """The module of that name."""
    file = Path(__file__).with_name("expected_queue.py")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def memory_store(store: Any, empty_file: bytes) -> Iterator[Any]:
    """Histories are about the order of things: a file of SQLite need not reach a disk for them."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        if store.kind == "sqlite":
            yield type(store)(Path(folder) / "queue.sqlite", empty_file)
        else:
            yield store


def run(store: Any, expected_queue: ModuleType, num_histories: int, num_steps: int) -> int:
    """Play histories; returns the number of steps."""
    steps = [0]
    run_state_machine_as_test(
        lambda: History(store, expected_queue, steps),
        settings=settings(
            max_examples=num_histories,
            stateful_step_count=num_steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return steps[0]


def test_short_histories(memory_store: Any, expected_queue: ModuleType) -> None:
    # Some end early, the first one at once.
    histories, steps = {"sqlite": (8, 100), "postgres": (4, 40)}[memory_store.kind]
    assert run(memory_store, expected_queue, histories, 50) >= steps


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_long_histories(memory_store: Any, expected_queue: ModuleType) -> None:
    # One in ten ends early.
    histories, steps = {"sqlite": (600, 50_000), "postgres": (35, 2_500)}[memory_store.kind]
    assert run(memory_store, expected_queue, histories, 100) >= steps
