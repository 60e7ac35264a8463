"""An answer counts once, whoever repeats it and however late it comes."""

from typing import Any

import pytest

from storage.queue.errors import IdempotencyConflict, StaleLease, UnknownItem
from storage.queue.review import ReviewQueue


def test_an_answer_finishes_its_item_and_is_kept_as_it_was(
    people: Any, queue: ReviewQueue, clock: Any
) -> None:
    people.enqueue("a")
    lease = people.claim()
    body = {"decisions": [{"x": 1.5}], "text": "ß\x00\ud800", "none": None}
    answer = people.submit(lease, **body)
    assert (answer["status"], answer["replayed"], answer["state"]) == (201, False, "done")
    (stored,) = queue.submissions_after(0)
    assert (stored.seq, stored.submission_id) == (1, answer["submission_id"])
    assert (stored.annotator, stored.lease_token, stored.body) == ("ada", 1, body)
    assert stored.at.timestamp() == clock.seconds
    assert stored.item == queue.item("a")
    assert stored.item.state == "done"
    assert queue.holders() == []


def test_the_same_answer_again_gets_the_same_reply(
    people: Any, queue: ReviewQueue, clock: Any
) -> None:
    people.enqueue("a", "b")
    lease = people.claim()
    first = people.submit(lease, x=1, y=2)
    people.claim()
    clock.move(100_000)
    again = people.submit(lease, y=2, x=1)
    assert again == {**first, "replayed": True}
    assert queue.last_seq() == 1


def test_a_key_belongs_to_one_body_of_one_item(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b")
    first = people.claim()
    people.submit(first, x=1)
    with pytest.raises(IdempotencyConflict, match="'key': already used"):
        people.submit(first, x=2)
    with pytest.raises(IdempotencyConflict):
        people.submit(people.claim(), x=1)
    assert queue.counts() == {"ready": 0, "leased": 1, "done": 1, "dead": 0}


def test_two_people_may_choose_the_same_key(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b")
    ada, bob = people.claim("ada"), people.claim("bob")
    assert people.submit(ada, "ada", x=1)["status"] == 201
    assert people.submit(bob, "bob", x=2)["status"] == 201
    assert [stored.body for stored in queue.submissions_after(0)] == [{"x": 1}, {"x": 2}]


def test_a_refused_answer_leaves_its_key_free(people: Any, clock: Any) -> None:
    people.enqueue("a", "b")
    lost = people.claim()
    clock.move(500)
    people.claim("bob")
    assert people.claim("cy").item.item_id == lost.item.item_id
    with pytest.raises(StaleLease):
        people.submit(lost, x=1)
    people.skip(people.claim("bob"), "bob")
    assert people.submit(people.claim(), x=2)["replayed"] is False


def test_an_answer_to_no_item_is_refused(queue: ReviewQueue) -> None:
    with pytest.raises(UnknownItem):
        queue.submit("nothing", 1, "ada", "key", {})
    assert queue.last_seq() == 0


def test_a_late_answer_counts_while_nobody_else_has_the_item(people: Any, clock: Any) -> None:
    people.enqueue("a")
    lease = people.claim()
    clock.move(86_400)
    assert people.submit(lease)["status"] == 201


def test_an_item_is_answered_once(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    lease = people.claim()
    people.submit(lease, key="first")
    with pytest.raises(StaleLease):
        people.submit(lease, key="second")
    assert queue.last_seq() == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"x": float("nan")}, id="NaN"),
        pytest.param({"x": float("inf")}, id="infinite"),
        pytest.param({"x": b"bytes"}, id="bytes"),
        pytest.param({"x": {1, 2}}, id="set"),
        pytest.param({(1, 2): 3}, id="tuple as a key"),
    ],
)
def test_what_json_cannot_say_is_refused(
    people: Any, queue: ReviewQueue, body: dict[str, Any]
) -> None:
    people.enqueue("a")
    lease = people.claim()
    with pytest.raises(ValueError, match=r"^body: must be a JSON object"):
        queue.submit(lease.item.item_id, lease.lease_token, "ada", "key", body)
    assert queue.counts()["leased"] == 1


@pytest.mark.parametrize("key", ["", " ", "a\nb", "x" * 201])
def test_a_key_must_be_printable(queue: ReviewQueue, key: str) -> None:
    with pytest.raises(ValueError, match="idempotency_key: must be"):
        queue.submit("a", 1, "ada", key, {})


def test_readers_go_on_where_they_stopped(people: Any, queue: ReviewQueue) -> None:
    people.enqueue(*"abcde")
    for number in range(5):
        people.submit(people.claim(), key=f"key {number}", number=number)
    assert queue.last_seq() == 5
    first = queue.submissions_after(0, limit=2)
    rest = queue.submissions_after(first[-1].seq, limit=None)
    assert [stored.body["number"] for stored in first + rest] == [0, 1, 2, 3, 4]
    assert queue.submissions_after(5) == []


def test_an_answer_keeps_the_model_version_of_its_proposals(
    people: Any, queue: ReviewQueue, promote: Any
) -> None:
    promote("v1")
    people.enqueue("a", model_version="v1")
    lease = people.claim()
    promote("v2")
    people.submit(lease)
    assert queue.submissions_after(0)[0].item.model_version == "v1"
