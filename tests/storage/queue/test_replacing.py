"""An item gives way to one with newer proposals, unless somebody has it; and what is ready."""

from typing import Any

import pytest

from storage.queue.check import check
from storage.queue.items import ItemHead
from storage.queue.pins import PINNED_PRIORITY
from storage.queue.review import ReviewQueue


def newer(make: Any, **changes: Any) -> Any:
    values = {"image_id": "image-a", "model_version": "v2", "run_id": "run-2", **changes}
    return make("new", **values)


def test_a_ready_item_gives_way(queue: ReviewQueue, people: Any, make: Any) -> None:
    people.enqueue("a", "b")
    people.skip(people.claim())
    assert queue.replace("a", newer(make, priority=5, payload={"n": 2})) is True
    old, new = queue.item("a"), queue.item("new")
    assert (old.state, old.dead_reason) == ("dead", "withdrawn")
    assert (new.state, new.skips, new.priority, new.payload) == ("ready", 1, 5.0, {"n": 2})
    assert [people.claim(name).item.item_id for name in ("ada", "bob")] == ["b", "new"]
    assert queue.replace("a", newer(make, model_version="v3", item_id="newest")) is False
    assert queue.counts() == {"ready": 0, "leased": 2, "done": 0, "dead": 1}
    assert check(queue.database) == []


def test_what_somebody_holds_or_did_stays(queue: ReviewQueue, people: Any, make: Any) -> None:
    people.enqueue("a")
    lease = people.claim()
    assert queue.replace("a", newer(make)) is False
    people.submit(lease)
    assert queue.replace("a", newer(make)) is False
    assert queue.replace("nothing", newer(make)) is False
    assert queue.counts() == {"ready": 0, "leased": 0, "done": 1, "dead": 0}


def test_nothing_changes_where_the_new_one_is_there_already(
    queue: ReviewQueue, people: Any, make: Any
) -> None:
    people.enqueue("a")
    queue.enqueue([newer(make, priority=9)])
    people.submit(people.claim())
    before = queue.item("a"), queue.item("new")
    assert before[1].state == "done"
    assert queue.replace("a", newer(make, payload={"n": 2})) is False
    assert (queue.item("a"), queue.item("new")) == before


def test_an_item_may_be_renewed_in_place(queue: ReviewQueue, people: Any, make: Any) -> None:
    people.enqueue("a")
    people.skip(people.claim())
    assert queue.replace("a", make("a", run_id="run-2", payload={"n": 2})) is True
    item = queue.item("a")
    assert (item.state, item.run_id, item.skips, item.payload) == ("ready", "run-2", 1, {"n": 2})


def test_what_gave_way_comes_back(queue: ReviewQueue, people: Any, make: Any) -> None:
    """As when the model before the present one serves again: also within one run."""
    people.enqueue("a")
    assert queue.replace("a", newer(make, run_id=queue.item("a").run_id)) is True
    assert queue.replace("new", make("a", payload={"n": 3})) is True
    assert (queue.item("a").state, queue.item("a").payload) == ("ready", {"n": 3})
    assert queue.item("new").dead_reason == "withdrawn"
    assert queue.enqueue([newer(make, run_id=queue.item("a").run_id)]) == 0, "a run goes on"
    assert check(queue.database) == []


def test_items_are_withdrawn_by_name(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a", "b", "c")
    held = people.claim().item.item_id
    assert queue.withdraw_items([held, "b", "nothing"]) == 1
    assert (queue.item(held).state, queue.item("b").dead_reason) == ("leased", "withdrawn")
    assert queue.withdraw_items([]) == 0


def test_a_name_of_another_image_is_refused(queue: ReviewQueue, people: Any, make: Any) -> None:
    people.enqueue("a", "b")
    with pytest.raises(ValueError, match="item_id: must not name another image"):
        queue.replace("a", newer(make, item_id="b"))
    assert queue.counts()["ready"] == 2


def test_it_stays_in_front_where_its_image_is_pinned(
    queue: ReviewQueue, people: Any, make: Any
) -> None:
    people.enqueue("a", "b")
    queue.pin(["image-a"], "dee")
    [head, _] = queue.ready_items(["assist"])
    assert queue.replace("a", newer(make, priority=head.priority)) is True
    assert queue.item("new").priority == PINNED_PRIORITY
    people.submit(people.claim())
    assert (queue.pins(), queue.item("new").priority) == ([], 0.0)
    assert check(queue.database) == []


def test_what_is_ready_is_listed_by_kind_in_order(
    queue: ReviewQueue, people: Any, make: Any
) -> None:
    people.enqueue("held", "later", "first", "dispute", stage="assist", priority=0)
    people.claim()
    queue.enqueue([make("second", stage="second", not_for="ada", priority=3)])
    queue.enqueue([make("gold", stage="gold", priority=4)])
    queue.pin(["image-first"], "dee")
    heads = queue.ready_items({"assist", "second"})
    assert [head.item_id for head in heads] == ["first", "second", "held", "later"]
    assert heads[1] == ItemHead(
        item_id="second",
        image_id="image-second",
        model_version="v1",
        run_id="run-1",
        iteration=1,
        priority=3.0,
        stage="second",
        not_for="ada",
        for_role=None,
    )
    assert heads[0].priority == 0.0, "its own, for whatever comes in its place"
    assert queue.ready_items([]) == []
