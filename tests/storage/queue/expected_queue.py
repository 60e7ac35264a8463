"""The queue as a plain dictionary: what each step must do and answer, by the rules alone."""

from dataclasses import dataclass, field
from typing import Any

from storage.queue.items import NewItem
from storage.queue.leases import Claim, QueueConfig
from storage.queue.pins import PINNED_PRIORITY
from storage.queue.submissions import Draft
from storage.queue.summary import Summary

CONFIG = QueueConfig(ttl_s=120, cap_s=400, max_attempts=3)


@dataclass
class Expected:
    """An item as the rules of the queue say it must be."""

    image: str
    run: str
    priority: int
    not_for: str | None
    for_leads: bool
    is_ordinary: bool
    state: str = "ready"
    owner: str | None = None
    token: int = 0
    leased_at: float = 0.0
    expires: float = 0.0
    attempts: int = 0
    skips: int = 0
    withdrawn: bool = False

    def columns(self) -> tuple[Any, ...]:
        return self.state, self.owner, self.token, self.attempts, self.skips, self.run

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

    def is_for(self, person: str, is_lead: bool) -> bool:
        return self.not_for != person and (is_lead or not self.for_leads)

    def is_held(self, held: Claim) -> bool:
        shown = ("leased", held.annotator, held.lease_token)
        return (self.state, self.owner, self.token) == shown

    def has_run_out(self, now: float) -> bool:
        return self.state == "leased" and self.expires <= now

    @property
    def is_spent(self) -> bool:
        return self.attempts >= CONFIG.max_attempts


@dataclass
class Model:
    """The whole queue as it must be; each method does a step and says what the answer must be."""

    items: dict[str, Expected] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    outbox: list[str] = field(default_factory=list)
    pins: set[str] = field(default_factory=set)

    def enqueue(self, new: NewItem, *, same_run: bool = False) -> int:
        known = self.items.get(new.item_id)
        if known is not None:
            stays = known.run == new.run_id and not same_run
            if stays or not known.withdrawn:
                return 0
        # A name stands for an image, a model and a kind.
        fresh = Expected(
            image=new.image_id,
            run=new.run_id,
            priority=int(new.priority),
            not_for=new.not_for,
            for_leads=new.for_role == "lead",
            is_ordinary=new.stage == "assist",
            token=0 if known is None else known.token,
        )
        self.items[new.item_id] = fresh
        return 1

    def replace(self, name: str, new: NewItem) -> bool:
        old = self.items[name]
        if old.state != "ready":
            return False
        skips = old.skips
        self._withdraw(old)
        if not self.enqueue(new, same_run=True):
            old.state, old.withdrawn = "ready", False
            return False
        self.items[new.item_id].skips = skips
        return True

    def pin(self, image: str) -> int:
        if image in self.pins:
            return 0
        self.pins.add(image)
        for item in self.items.values():
            if item.image == image:
                item.skips = 0
        return 1

    def unpin(self, image: str) -> int:
        num = int(image in self.pins)
        self.pins.discard(image)
        return num

    def priority(self, item: Expected) -> float:
        return PINNED_PRIORITY if item.image in self.pins else item.priority

    def claim(self, person: str, is_lead: bool, now: float) -> tuple[str, int, float] | None:
        name = self._resumed(person, is_lead, now) or self._granted(person, is_lead, now)
        if name is None:
            return None
        item = self.items[name]
        return name, item.token, max(0.0, item.expires - now)

    def _resumed(self, person: str, is_lead: bool, now: float) -> str | None:
        for name, item in self.items.items():
            if item.owner != person:
                continue
            if not item.is_for(person, is_lead):
                item.attempts -= 1
                item.close("ready")
                return None
            if item.expires > now:
                item.prolong(now)
                return name
            if not item.is_spent:
                item.begin(now)
                return name
            item.close("dead")
        return None

    def _granted(self, person: str, is_lead: bool, now: float) -> str | None:
        theirs = [name for name, item in self.items.items() if item.is_for(person, is_lead)]
        ready = [name for name in theirs if self.items[name].state == "ready"]
        late: list[str] = []
        if not ready:
            for item in self.items.values():
                if item.state == "leased" and item.expires <= now and item.is_spent:
                    item.close("dead")
            late = [name for name in theirs if self.items[name].has_run_out(now)]
        order = self._by_skips if ready else self._by_priority
        chosen = min(ready or late, key=order, default=None)
        if chosen is not None:
            item = self.items[chosen]
            item.state, item.owner, item.token = "leased", person, item.token + 1
            item.begin(now)
        return chosen

    def _by_skips(self, name: str) -> tuple[int, float, str]:
        return self.items[name].skips, *self._by_priority(name)

    def _by_priority(self, name: str) -> tuple[float, str]:
        return -self.priority(self.items[name]), name

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
        if item.is_ordinary:
            self.pins.discard(item.image)
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
            self._withdraw(item)
        return len(ready)

    def _withdraw(self, item: Expected) -> None:
        item.close("dead")
        item.withdrawn = True
