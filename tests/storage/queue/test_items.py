"""What comes into the queue, once; what is taken out; and what comes back."""

from typing import Any

import pytest

from storage.queue.check import check
from storage.queue.errors import UnknownItem
from storage.queue.review import ReviewQueue, RunProgress


def test_enqueueing_again_changes_nothing(people: Any, queue: ReviewQueue) -> None:
    assert people.enqueue("a", "b") == 2
    before = queue.item("a")
    assert people.enqueue("a", "c", priority=9.0, payload={"other": 1}) == 1
    assert queue.item("a") == before


def test_one_image_may_wait_for_two_models_and_two_stages(queue: ReviewQueue, make: Any) -> None:
    image = {"image_id": "one", "item_id": ""}
    items = [make("-", **image), make("-", **image, model_version="v2")]
    items.append(make("-", **image, stage="second"))
    assert queue.enqueue(items) == 3
    assert queue.enqueue(items) == 0
    assert len({item.item_id for item in items}) == 3
    assert queue.open_images() == {"one"}


def test_of_two_alike_in_one_call_the_first_counts(queue: ReviewQueue, make: Any) -> None:
    twice = [make("a", priority=1, payload={"n": 1}), make("a", priority=2, payload={"n": 2})]
    assert queue.enqueue(twice) == 1
    assert (queue.item("a").priority, queue.item("a").payload) == (1.0, {"n": 1})


def test_a_name_is_for_one_image(queue: ReviewQueue, make: Any) -> None:
    queue.enqueue([make("a")])
    with pytest.raises(ValueError, match="item_id: must not name another image"):
        queue.enqueue([make("b"), make("a", image_id="another")])
    assert queue.counts()["ready"] == 1, "all of a call or nothing"


def test_many_items_come_in_portions(queue: ReviewQueue, make: Any) -> None:
    assert queue.enqueue(make(f"item-{number}") for number in range(1201)) == 1201
    assert queue.counts() == {"ready": 1201, "leased": 0, "done": 0, "dead": 0}
    assert queue.enqueue([]) == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image_id": ""}, "image_id"),
        ({"model_version": "a\nb"}, "model_version"),
        ({"run_id": " "}, "run_id"),
        ({"stage": "relabel"}, "stage"),
        ({"not_for": ""}, "not_for"),
        ({"for_role": "annotator"}, "for_role"),
        ({"item_id": "a\x00"}, "item_id"),
        ({"file_name": "caf\udce9.png"}, "file_name"),
        ({"height": 0}, "height"),
        ({"width": -3}, "width"),
        ({"priority": float("nan")}, "priority"),
        ({"priority": float("inf")}, "priority"),
    ],
)
def test_an_item_that_makes_no_sense_names_the_field(
    make: Any, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        make("a", **changes)


def test_a_payload_must_be_json(queue: ReviewQueue, make: Any) -> None:
    with pytest.raises(ValueError, match=r"^payload: must be a JSON object"):
        queue.enqueue([make("a", payload={"score": float("nan")})])
    assert queue.counts()["ready"] == 0


@pytest.mark.parametrize("name", ["'; DROP TABLE items; --", "<b>", "=1+1", "../../etc/passwd"])
def test_names_are_only_names(queue: ReviewQueue, make: Any, name: str) -> None:
    queue.enqueue([make(name, file_name=name, run_id=name)])
    lease = queue.claim(name)
    assert lease is not None
    assert (lease.item.item_id, lease.item.file_name, lease.item.run_id) == (name, name, name)
    assert queue.progress(name).leased == 1


def test_progress_is_counted_by_run(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b", "c", "d")
    people.enqueue("z", run_id="run-2", priority=-9.0)
    people.submit(people.claim())
    people.claim()
    queue.withdraw("run-2")
    assert queue.progress("run-1") == RunProgress(ready=2, leased=1, done=1, dead=0)
    assert (queue.progress("run-1").open, queue.progress("run-1").total) == (3, 4)
    assert (queue.open_items("run-1"), queue.open_items("run-2")) == (3, 0)
    assert queue.progress("run-3").total == 0
    assert queue.counts() == {"ready": 2, "leased": 1, "done": 1, "dead": 1}
    assert queue.open_images() == {"image-b", "image-c", "image-d"}


def test_withdrawing_leaves_what_people_hold_or_did(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b", "c")
    people.submit(people.claim("ada"), "ada")
    held = people.claim("bob")
    assert queue.withdraw("run-1") == 1
    assert queue.withdraw("run-1") == 0
    assert (queue.item("c").state, queue.item("c").dead_reason) == ("dead", "withdrawn")
    assert people.submit(held, "bob")["status"] == 201


def test_a_later_run_brings_withdrawn_items_back(
    people: Any, queue: ReviewQueue, make: Any
) -> None:
    people.enqueue("a")
    people.skip(people.claim())
    token = people.claim().lease_token
    people.release(people.claim())
    queue.withdraw("run-1")
    assert queue.enqueue([make("a")]) == 0, "of the run that withdrew it"
    assert queue.enqueue([make("a", run_id="run-2", iteration=2, payload={"new": 1})]) == 1
    item = queue.item("a")
    assert (item.state, item.run_id, item.iteration) == ("ready", "run-2", 2)
    assert (item.attempts, item.skips, item.payload) == (0, 0, {"new": 1})
    assert people.claim().lease_token == token + 1, "tokens never go back"


def test_what_people_gave_up_does_not_come_back_by_itself(
    people: Any, queue: ReviewQueue, make: Any
) -> None:
    people.enqueue("a")
    for _ in range(5):
        people.skip(people.claim())
    assert queue.enqueue([make("a", run_id="run-2")]) == 0
    assert queue.item("a").state == "dead"


def test_a_done_item_can_be_reopened_for_another_answer(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    people.submit(people.claim(), key="one", n=1)
    assert queue.reopen("a") is True
    again = people.claim("bob")
    assert (again.lease_token, again.item.attempts) == (2, 1)
    people.submit(again, "bob", key="two", n=2)
    assert [stored.body["n"] for stored in queue.submissions_after(0)] == [1, 2]


def test_a_dead_item_can_be_reopened_with_all_its_attempts(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    for _ in range(5):
        people.skip(people.claim())
    assert queue.reopen("a") is True
    assert (queue.item("a").state, queue.item("a").skips) == ("ready", 0)
    assert check(queue.database) == [], "it was never answered, so none is missing"
    assert people.submit(people.claim())["status"] == 201


def test_only_what_is_closed_can_be_reopened(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b")
    people.claim()
    assert queue.reopen("a") is False
    assert queue.reopen("b") is False
    with pytest.raises(UnknownItem):
        queue.reopen("nothing")
    with pytest.raises(UnknownItem):
        queue.item("nothing")


def test_the_name_of_an_item_does_not_come_of_what_it_is(queue: ReviewQueue, make: Any) -> None:
    names = [make("-", item_id="").item_id for _ in range(20)]
    assert len(set(names)) == 20, "or whoever knows image, model and kinds could try the kinds"
    assert queue.enqueue([make("-", item_id="")]) == 1
    assert queue.enqueue([make("-", item_id="")]) == 0, "it is the same item by any name"


def test_an_item_keeps_whom_it_is_for(queue: ReviewQueue, make: Any) -> None:
    queue.enqueue([make("a", stage="second", not_for="ada")])
    assert (queue.item("a").stage, queue.item("a").not_for) == ("second", "ada")
    queue.withdraw("run-1")
    queue.enqueue([make("a", stage="second", run_id="run-2", for_role="lead")])
    assert (queue.item("a").not_for, queue.item("a").for_role) == (None, "lead")


def test_images_that_a_model_asked_about_already(
    people: Any, queue: ReviewQueue, make: Any
) -> None:
    people.enqueue("dead")
    for _ in range(5):
        people.skip(people.claim())
    people.enqueue("done", "held", "gone")
    people.submit(people.claim())
    people.claim()
    queue.withdraw("run-1")
    people.enqueue("other", model_version="v2")
    assert queue.asked_images("v1") == {"image-dead", "image-done", "image-held"}
    assert queue.asked_images("v2") == {"image-other"}
    assert queue.asked_images("v1", ["second", "audit"]) == set()
    queue.enqueue([make("audited", stage="audit")])
    assert queue.asked_images("v1", ["second", "audit"]) == {"image-audited"}


def test_what_was_settled_is_asked_anew_with_what_is_new(
    people: Any, queue: ReviewQueue, make: Any
) -> None:
    first, again = (
        make("a", stage="dispute", run_id=run_id, item_id="", payload={"of": run_id})
        for run_id in ("run-1", "run-2")
    )
    assert queue.ask_anew(first, since=0) is True
    assert queue.ask_anew(again, since=0) is False, "it waits already"
    lease = people.claim()
    assert queue.ask_anew(again, since=0) is False, "somebody works on it"
    people.submit(lease)
    answered = queue.last_seq()
    assert queue.ask_anew(again, since=answered - 1) is False, "who answered knew as much"
    assert queue.ask_anew(again, since=answered) is True
    item = queue.item(first.item_id)
    assert (item.state, item.run_id, item.payload) == ("ready", "run-2", {"of": "run-2"})
    people.submit(people.claim(), key="another")
    assert [one.item.item_id for one in queue.submissions_after(0)] == [first.item_id] * 2
    assert check(queue.database) == []
