"""Arbitrary histories of a queue, each step compared with a queue that is a plain dictionary."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from storage.queue.check import check
from storage.queue.errors import IdempotencyConflict, StaleLease
from storage.queue.items import NewItem
from storage.queue.leases import QueueConfig
from storage.queue.review import ReviewQueue

CONFIG = QueueConfig(ttl_s=120, cap_s=400, max_attempts=3)
PEOPLE = st.sampled_from(["ada", "bob", "cy"])
NAMES = st.sampled_from(["a", "b", "c", "d"])
RUNS = st.sampled_from(["run-1", "run-2"])
# Both ways, as the time of a machine jumps when it is set right.
JUMPS = st.sampled_from([-300.0, -1.0, 1.0, 60.0, 119.0, 120.0, 300.0])


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
    answers: list[str] = field(default_factory=list)

    def close(self, state: str) -> None:
        self.state, self.owner = state, None

    def open_again(self, **changes: Any) -> None:
        self.attempts, self.skips, self.withdrawn = 0, 0, False
        self.close("ready")
        for name, value in changes.items():
            setattr(self, name, value)

    def prolong(self, now: float) -> None:
        self.expires = min(self.leased_at + CONFIG.cap_s, now + CONFIG.ttl_s)

    def begin(self, now: float) -> None:
        self.leased_at, self.expires = now, now + CONFIG.ttl_s
        self.attempts += 1

    @property
    def is_spent(self) -> bool:
        return self.attempts >= CONFIG.max_attempts


class History(RuleBasedStateMachine):
    """The real queue and the expected one, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1_000_000.0
        clock = type("Clock", (), {"now": lambda _, __: self.now})()
        self.queue = ReviewQueue.open(
            f"sqlite:///{self.folder / 'queue.sqlite'}", CONFIG, clock=clock
        )
        self.items: dict[str, Expected] = {}
        self.leases: list[tuple[str, int, str]] = []
        self.answers: dict[tuple[str, str], tuple[str, int, str]] = {}
        self.outbox: list[str] = []

    def teardown(self) -> None:
        self.queue.close()
        shutil.rmtree(self.folder)

    @initialize()
    def two_items(self) -> None:
        self.enqueue("a", "run-1", 0)
        self.enqueue("b", "run-1", 1)

    @rule(seconds=JUMPS)
    def time_jumps(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=NAMES, run=RUNS, priority=st.integers(0, 2))
    def enqueue(self, name: str, run: str, priority: int) -> None:
        item = NewItem(
            item_id=name,
            image_id=name,
            file_name=name,
            height=1,
            width=1,
            model_version="v1",
            run_id=run,
            iteration=1,
            priority=priority,
        )
        known = self.items.get(name)
        new = known is None or (known.withdrawn and known.run != run)
        assert self.queue.enqueue([item]) == new
        if known is None:
            self.items[name] = Expected(run, priority)
        elif new:
            known.open_again(run=run, priority=priority)

    @rule(person=PEOPLE)
    def claim(self, person: str) -> None:
        expected = self.expected_claim(person)
        lease = self.queue.claim(person)
        if expected is None:
            assert lease is None
            return
        assert lease is not None
        item = self.items[expected]
        assert (lease.item.item_id, lease.lease_token) == (expected, item.token)
        assert lease.expires_in_s == max(0.0, item.expires - self.now)
        self.leases.append((expected, item.token, person))

    def expected_claim(self, person: str) -> str | None:
        return self.resumed(person) or self.granted(person)

    def resumed(self, person: str) -> str | None:
        for name, item in self.items.items():
            if item.owner != person:
                continue
            if item.expires > self.now:
                item.prolong(self.now)
                return name
            if not item.is_spent:
                item.begin(self.now)
                return name
            item.close("dead")
        return None

    def granted(self, person: str) -> str | None:
        ready = [name for name, item in self.items.items() if item.state == "ready"]
        late = [
            name
            for name, item in self.items.items()
            if item.state == "leased" and item.expires <= self.now
        ]
        if not ready:
            for name in late:
                if self.items[name].is_spent:
                    self.items[name].close("dead")
            late = [name for name in late if self.items[name].state == "leased"]
        order = self.by_skips if ready else self.by_priority
        chosen = min(ready or late, key=order, default=None)
        if chosen is not None:
            item = self.items[chosen]
            item.state, item.owner, item.token = "leased", person, item.token + 1
            item.begin(self.now)
        return chosen

    def by_skips(self, name: str) -> tuple[int, int, str]:
        return self.items[name].skips, *self.by_priority(name)

    def by_priority(self, name: str) -> tuple[int, str]:
        return -self.items[name].priority, name

    # Any lease that was ever given: most of them are stale.
    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        name, token, person = data.draw(st.sampled_from(self.leases))
        item = self.items[name]
        if self.is_held(name, token, person):
            item.prolong(self.now)
        left = self.attempt(name, token, person, self.queue.heartbeat)
        assert left is None or left == max(0.0, item.expires - self.now)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        name, token, person = data.draw(st.sampled_from(self.leases))
        held, item = self.is_held(name, token, person), self.items[name]
        self.attempt(name, token, person, self.queue.skip)
        if held:
            item.skips += 1
            item.close("dead" if item.is_spent else "ready")

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name, token, person = data.draw(st.sampled_from(self.leases))
        held, item = self.is_held(name, token, person), self.items[name]
        self.attempt(name, token, person, self.queue.release)
        if held:
            item.attempts -= 1
            item.close("ready")

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), number=st.integers(0, 3), text=st.sampled_from(["x", "y"]))
    def submit(self, data: st.DataObject, number: int, text: str) -> None:
        name, token, person = data.draw(st.sampled_from(self.leases))
        key = f"{name}/{number}"
        first = self.answers.get((person, key))
        held = self.is_held(name, token, person)
        try:
            result = self.queue.submit(name, token, person, key, {"text": text})
        except IdempotencyConflict:
            assert first is not None
            assert first[2] != text
            return
        except StaleLease:
            assert first is None
            assert not held
            return
        assert result.replayed == (first is not None)
        if first is None:
            assert held
            self.accept(result.submission_id, name, token, person, key, text)
        assert result.submission_id == self.answers[(person, key)][0]

    def accept(
        self, submission_id: str, name: str, token: int, person: str, key: str, text: str
    ) -> None:
        self.answers[(person, key)] = (submission_id, token, text)
        self.items[name].answers.append(submission_id)
        self.items[name].close("done")
        self.outbox.append(submission_id)

    @rule(name=NAMES)
    def reopen(self, name: str) -> None:
        item = self.items.get(name)
        if item is None:
            return
        closed = item.state in ("done", "dead")
        assert self.queue.reopen(name) == closed
        if closed:
            item.open_again()

    @rule(run=RUNS)
    def withdraw(self, run: str) -> None:
        ready = [i for i in self.items.values() if i.run == run and i.state == "ready"]
        assert self.queue.withdraw(run) == len(ready)
        for item in ready:
            item.close("dead")
            item.withdrawn = True

    def is_held(self, name: str, token: int, person: str) -> bool:
        item = self.items[name]
        return (item.state, item.owner, item.token) == ("leased", person, token)

    def attempt(
        self, name: str, token: int, person: str, act: Callable[[str, int, str], Any]
    ) -> Any:
        """Do it if the lease is still good, else see that it is refused."""
        if self.is_held(name, token, person):
            return act(name, token, person)
        with pytest.raises(StaleLease):
            act(name, token, person)
        return None

    @invariant()
    def both_are_alike(self) -> None:
        for name, item in self.items.items():
            real = self.queue.item(name)
            assert (real.state, real.attempts, real.skips) == (
                item.state,
                item.attempts,
                item.skips,
            )
        held = {(h.item_id, h.annotator) for h in self.queue.holders()}
        assert held == {(name, item.owner) for name, item in self.items.items() if item.owner}

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        stored = self.queue.submissions_after(0, limit=None)
        assert [answer.submission_id for answer in stored] == self.outbox
        assert check(self.queue.database, acknowledged=self.outbox) == []


def test_short_histories() -> None:
    run_state_machine_as_test(
        History, settings=settings(max_examples=20, stateful_step_count=30, deadline=None)
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_long_histories() -> None:
    run_state_machine_as_test(
        History, settings=settings(max_examples=50, stateful_step_count=60, deadline=None)
    )
