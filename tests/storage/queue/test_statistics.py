"""What a lead is told of everybody's work is what a plain recount of the answers gives."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from storage.queue import leases
from storage.queue.errors import NotHeld, StaleLease, UnknownItem
from storage.queue.oversight import Oversight
from storage.queue.people import People as ListOfPeople
from storage.queue.review import ReviewQueue
from storage.queue.schema import KINDS
from storage.queue.statistics import counts_now, overview

HOUR_S = 3600.0
NAMES = ("ada", "bob", "cy")


def body(numbers: random.Random) -> dict[str, Any]:
    """An answer as a page sends it."""

    def clicks() -> list[dict[str, int]]:
        return [{"x": 1}] * numbers.randrange(4)

    actions = numbers.choices(["accepted", "edited", "rejected"], k=numbers.randrange(6))
    return {
        "decisions": [{"action": action, "clicks": clicks()} for action in actions],
        "added": [{"clicks": clicks()} for _ in range(numbers.randrange(3))],
        "seconds": numbers.randrange(100) / 4,
    }


def fill(queue: ReviewQueue, make: Any, clock: Any) -> ReviewQueue:
    """Sixty answers of three people over two days, on proposals of three models."""
    numbers = random.Random(5)
    for version in ("v1", "v2", "v3"):
        queue.enqueue(make(f"{version}-{number}", model_version=version) for number in range(20))
    for number in range(60):
        name = numbers.choice(NAMES)
        lease = queue.claim(name)
        assert lease is not None
        key = f"key {number}"
        queue.submit(lease.item.item_id, lease.lease_token, name, key, body(numbers))
        clock.move(numbers.randrange(3000))
    return queue


@pytest.fixture
def busy(queue: ReviewQueue, make: Any, clock: Any) -> ReviewQueue:
    return fill(queue, make, clock)


@pytest.fixture
def busy_sqlite(tmp_path: Path, make: Any, clock: Any) -> Iterator[ReviewQueue]:
    """The same in SQLite, whose plans can be read."""
    opened = ReviewQueue.open(f"sqlite:///{tmp_path / 'busy.sqlite'}", clock=clock)
    yield fill(opened, make, clock)
    opened.close()


def recounted(queue: ReviewQueue) -> dict[str, Any]:
    """The slow way: every body, one after the other."""
    people: dict[str, Counter[str]] = defaultdict(Counter)
    models: dict[str, Counter[str]] = defaultdict(Counter)
    hours: dict[float, Counter[str]] = defaultdict(Counter)
    for one in queue.submissions_after(0, limit=None):
        parts = [*one.body["decisions"], *one.body["added"]]
        actions = Counter(decision["action"] for decision in one.body["decisions"])
        masks = actions["accepted"] + actions["edited"] + len(one.body["added"])
        models[one.item.model_version].update(actions, added=len(one.body["added"]))
        people[one.annotator].update(
            items=1,
            masks=masks,
            clicks=sum(len(part["clicks"]) for part in parts),
            quarters=round(4 * one.body["seconds"]),
        )
        hours[one.at.timestamp() // HOUR_S * HOUR_S].update(items=1, masks=masks)
    return {"people": people, "models": models, "hours": hours}


def test_people_models_and_hours_are_those_of_a_recount(busy: ReviewQueue, clock: Any) -> None:
    found, expected = overview(busy.database), recounted(busy)
    assert [work.name for work in found.people] == sorted(expected["people"])
    for work in found.people:
        counted = expected["people"][work.name]
        assert (work.num_items, work.num_masks) == (counted["items"], counted["masks"])
        assert (work.num_clicks, 4 * work.seconds) == (counted["clicks"], counted["quarters"])
    for model in found.models:
        counted = expected["models"][model.model_version]
        assert (model.num_accepted, model.num_edited, model.num_rejected, model.num_added) == tuple(
            counted[name] for name in ("accepted", "edited", "rejected", "added")
        )
    assert [model.model_version for model in found.models] == ["v1", "v2", "v3"]
    starts = [hour.starts_at.timestamp() for hour in found.throughput]
    assert starts == [clock.seconds // HOUR_S * HOUR_S - HOUR_S * ago for ago in range(23, -1, -1)]
    assert 0 < sum(hour.num_items for hour in found.throughput) < 60, "some are older than a day"
    for hour in found.throughput:
        counted = expected["hours"][hour.starts_at.timestamp()]
        assert (hour.num_items, hour.num_masks) == (counted["items"], counted["masks"])


def test_an_item_that_was_answered_twice_counts_twice(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    people.submit(people.claim(), key="one", decisions=[{"action": "accepted"}])
    queue.reopen("a")
    people.submit(people.claim("bob"), "bob", key="two", decisions=[{"action": "rejected"}])
    [model] = overview(queue.database).models
    assert (model.num_accepted, model.num_rejected) == (1, 1)


def test_who_holds_what_and_who_was_seen_when(people: Any, queue: ReviewQueue, clock: Any) -> None:
    people.enqueue("a", "b", "c")
    lease = people.claim("bob")
    people.submit(lease, "bob", decisions=[])
    answered = clock.seconds
    clock.move(30)
    people.claim("ada")
    taken = clock.seconds
    clock.move(10)
    found = overview(queue.database)
    [held] = found.holders
    assert (held.annotator, held.item_id, held.file_name) == ("ada", "b", "b.png")
    assert (held.held_s, held.expires_in_s) == (10.0, 110.0)
    seen = {work.name: work.last_at and work.last_at.timestamp() for work in found.people}
    assert seen == {"ada": taken, "bob": answered}
    assert found.counts == {"ready": 1, "leased": 1, "done": 1, "dead": 0}
    clock.move(111)
    late = overview(queue.database)
    assert late.holders[0].expires_in_s == -1.0
    # Whoever asks first is given it.
    assert counts_now(queue.database) == late.counts
    assert (late.counts["leased"], found.counts["leased"]) == (0, 1)
    assert late.counts == {"ready": 2, "leased": 0, "done": 1, "dead": 0}, "anybody may have it"


def test_people_who_were_let_in_are_there_before_their_first_item(
    people: Any, queue: ReviewQueue
) -> None:
    listed = ListOfPeople(queue.database)
    for name in ("ada", "bob", "cy"):
        listed.add(name, "lead" if name == "ada" else "annotator")
    people.enqueue("a")
    people.submit(people.claim("cy"), "cy", decisions=[])
    listed.revoke("bob")
    listed.revoke("cy")
    found = overview(queue.database).people
    assert [(work.name, work.role, work.num_items) for work in found] == [
        ("ada", "lead", 0),
        ("cy", "annotator", 1),
    ], "whoever was revoked stays by their work alone"
    assert found[0].last_at is None


def test_an_empty_queue_has_an_overview(queue: ReviewQueue) -> None:
    found = overview(queue.database)
    assert (found.people, found.models, found.holders, found.set_aside) == ([], [], [], [])
    assert sum(hour.num_items for hour in found.throughput) == 0


def test_what_is_set_aside_is_told_with_its_reason(people: Any, queue: ReviewQueue) -> None:
    people.enqueue(*"abc")
    for _ in range(15):
        people.skip(people.claim())
    people.enqueue("d", run_id="run-2")
    queue.withdraw("run-2")
    found = overview(queue.database, most_set_aside=2)
    assert [item.item_id for item in found.set_aside] == ["a", "b"]
    assert found.set_aside[0].reason == "5 leases without an answer (5 skips)"
    assert found.counts["dead"] == 4


@pytest.fixture
def plans(busy_sqlite: ReviewQueue) -> Iterator[Callable[[], list[str]]]:
    """How SQLite finds what was asked for since, a line for each step."""
    asked: list[tuple[str, Any]] = []

    def hear(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "julianday" not in statement:
            asked.append((statement, parameters))

    def explain() -> list[str]:
        explained = list(asked)
        with busy_sqlite.database.read() as connection:
            return [
                str(step[3])
                for statement, parameters in explained
                for step in connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                )
            ]

    event.listen(busy_sqlite.database._engine, "before_cursor_execute", hear)
    yield explain
    event.remove(busy_sqlite.database._engine, "before_cursor_execute", hear)


def test_proposals_count_where_they_are_a_models_own(queue: ReviewQueue, people: Any) -> None:
    for place, kind in enumerate(KINDS):
        people.enqueue(kind, stage=kind, priority=-place)
    accepted = [{"action": "accepted"}]
    for kind in KINDS:
        people.submit(people.claim(), key=kind, decisions=accepted)
    found = overview(queue.database)
    [model] = found.models
    assert model.num_accepted == 2, "of ordinary items, and of those that were looked at twice"
    [ada] = found.people
    assert (ada.num_items, ada.num_masks) == (5, 5), "all of it is work"
    assert found.throughput[-1].num_items == 5


def test_no_body_is_read_for_it(busy_sqlite: ReviewQueue, plans: Callable[[], list[str]]) -> None:
    overview(busy_sqlite.database)
    steps = [step for step in plans() if "annotations" in step]
    assert steps
    assert all("USING COVERING INDEX" in step for step in steps), steps
    assert not any("payloads" in step for step in plans())


def test_lists_of_finished_items_come_from_an_index(
    busy_sqlite: ReviewQueue, plans: Callable[[], list[str]]
) -> None:
    Oversight(busy_sqlite.database).items("done")
    assert [step for step in plans() if "items " in step] == [
        "SEARCH items USING INDEX items_closed (state=? AND item_id>?)"
    ]


def test_the_first_ready_item_still_comes_from_its_own_index(busy_sqlite: ReviewQueue) -> None:
    asker = leases.Asker(annotator="ada", is_lead=False)
    with busy_sqlite.database.read() as connection:
        first = leases._FIRST_READY.limit(1).compile(connection)
        values = tuple(first.construct_params(asker.shown())[name] for name in first.positiontup)
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {first}", values).all()
    # In its order, and whoever may not have the first ones passes over them without their rows.
    assert [step[3] for step in steps] == ["SCAN items USING COVERING INDEX items_ready"]


def test_the_numbers_do_not_come_from_bodies(busy: ReviewQueue, tamper: Any, url: str) -> None:
    before = overview(busy.database)
    clock = busy.database._clock
    tamper("UPDATE annotations SET body = 'gone'", "UPDATE payloads SET body = 'gone'")
    again = ReviewQueue.open(url, clock=clock)
    assert overview(again.database) == before
    again.close()


def test_items_are_listed_page_by_page(busy: ReviewQueue) -> None:
    oversight = Oversight(busy.database)
    everything = oversight.items("done", limit=100)
    assert [item.item_id for item in everything] == sorted(
        one.item.item_id for one in busy.submissions_after(0, limit=None)
    )
    pages, after = [], ""
    while page := oversight.items("done", after=after, limit=7):
        pages += page
        after = page[-1].item_id
    assert pages == everything
    by_item = {one.item.item_id: one for one in busy.submissions_after(0, limit=None)}
    for item in everything:
        assert (item.annotator, item.answered_at) == (
            by_item[item.item_id].annotator,
            by_item[item.item_id].at,
        )


def test_an_item_is_listed_with_whoever_has_it(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b")
    people.claim("ada")
    oversight = Oversight(queue.database)
    [held], [waiting] = oversight.items("leased"), oversight.items("ready")
    assert (held.item_id, held.annotator, held.answered_at) == ("a", "ada", None)
    assert (waiting.item_id, waiting.annotator) == ("b", None)
    assert oversight.items("dead") == []


def test_a_lease_that_a_lead_ends_is_stale(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    lease = people.claim("ada")
    assert Oversight(queue.database).release("a") == "ada"
    for write in (people.submit, people.skip, people.release, people.heartbeat):
        with pytest.raises(StaleLease):
            write(lease, "ada")
    again = people.claim("ada")
    assert (again.item.item_id, again.item.attempts) == ("a", 1), "it does not count as a try"
    with pytest.raises(StaleLease):
        people.submit(lease, "ada", key="late")
    assert people.submit(again, "ada", key="in time")["status"] == 201


def test_what_nobody_holds_cannot_be_released(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    oversight = Oversight(queue.database)
    with pytest.raises(NotHeld, match=r"^item a: nobody holds it now"):
        oversight.release("a")
    people.submit(people.claim())
    with pytest.raises(NotHeld):
        oversight.release("a")
    with pytest.raises(UnknownItem):
        oversight.release("b")


def test_what_an_annotator_may_read(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b", "c", "d")
    people.claim("ada")
    people.claim("bob")
    people.submit(people.claim("cy"), "cy")
    oversight = Oversight(queue.database)

    def readable(name: str) -> str:
        return "".join(item for item in "abcde" if oversight.may_read(item, name))

    expected = {"ada": "ad", "bob": "bd", "cy": "d", "dee": "d"}
    assert {name: readable(name) for name in expected} == expected
    people.enqueue("e", stage="second", not_for="ada")
    assert (readable("ada"), readable("bob")) == ("ad", "bde")
