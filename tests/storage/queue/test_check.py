"""Each invariant, breached by hand, is found; what people and programs do breaches none."""

from typing import Any

import pytest

from storage.queue.check import Breach, check
from storage.queue.pointer import ModelPointer
from storage.queue.review import ReviewQueue


@pytest.fixture
def busy(queue: ReviewQueue, people: Any, promote: Any, pointer: ModelPointer) -> ReviewQueue:
    """A queue with an item in every state, an item with two answers, and a rollback."""
    people.enqueue("dead")
    for _ in range(5):
        people.skip(people.claim())
    people.enqueue("twice", "done", "held", "ready")
    people.submit(people.claim(), key="key-1", n=1)
    queue.reopen("twice")
    people.submit(people.claim(), key="key-2", n=2)
    people.submit(people.claim(), key="key-3", n=3)
    people.claim("bob")
    promote("v1")
    promote("v2")
    pointer.rollback(2)
    return queue


def found(queue: ReviewQueue) -> set[tuple[str, str]]:
    return {(breach.invariant, breach.where) for breach in check(queue.database)}


def id_of(queue: ReviewQueue, seq: int) -> str:
    return queue.submissions_after(seq - 1, limit=1)[0].submission_id


def test_a_sound_queue_has_no_breach(busy: ReviewQueue, people: Any) -> None:
    assert busy.counts() == {"ready": 1, "leased": 1, "done": 2, "dead": 1}
    assert check(busy.database, acknowledged=people.journal) == []


def test_an_empty_queue_has_no_breach(queue: ReviewQueue) -> None:
    assert check(queue.database) == []


def test_what_was_acknowledged_must_be_there(busy: ReviewQueue, people: Any) -> None:
    breaches = check(busy.database, acknowledged=[*people.journal, "gone"])
    assert breaches == [Breach("I4", "submission gone", "was acknowledged and is not there")]


@pytest.mark.parametrize(
    ("statement", "invariant"),
    [
        pytest.param("DELETE FROM annotations WHERE seq = 3", "I4", id="no longer in the outbox"),
        pytest.param(
            "DELETE FROM submissions WHERE idempotency_key = 'key-3'", "I4", id="no stored answer"
        ),
        pytest.param(
            """UPDATE annotations SET body = '{"n":4}' WHERE seq = 3""", "I4", id="another body"
        ),
        pytest.param(
            "UPDATE annotations SET body_sha256 = 'f' WHERE seq = 3", "I4", id="another digest"
        ),
        pytest.param(
            "UPDATE annotations SET num_clicks = 2 WHERE seq = 3", "I4", id="counted as another"
        ),
        pytest.param(
            "UPDATE submissions SET body_sha256 = 'f' WHERE idempotency_key = 'key-3'",
            "I4",
            id="another digest in the answer",
        ),
    ],
)
def test_a_lost_or_changed_answer_is_found(
    busy: ReviewQueue, tamper: Any, statement: str, invariant: str
) -> None:
    where = f"submission {id_of(busy, 3)}"
    tamper(statement)
    assert (invariant, where) in found(busy)


@pytest.mark.parametrize(
    ("statement", "invariant", "item"),
    [
        pytest.param("state = 'lost' WHERE item_id = 'ready'", "I5", "ready", id="unknown state"),
        pytest.param(
            "lease_owner = NULL WHERE item_id = 'held'", "I5", "held", id="lease without an owner"
        ),
        pytest.param(
            "lease_expires = NULL WHERE item_id = 'held'", "I5", "held", id="lease without an end"
        ),
        pytest.param(
            "leased_at = NULL WHERE item_id = 'held'", "I5", "held", id="lease without a start"
        ),
        pytest.param(
            "lease_owner = 'cy' WHERE item_id = 'done'", "I5", "done", id="done and owned"
        ),
        pytest.param(
            "dead_reason = NULL WHERE item_id = 'dead'", "I5", "dead", id="dead without a reason"
        ),
        pytest.param(
            "dead_reason = 'x' WHERE item_id = 'ready'", "I5", "ready", id="a reason, but not dead"
        ),
        pytest.param("state = 'done' WHERE item_id = 'ready'", "I5", "ready", id="done unanswered"),
        pytest.param("state = 'ready' WHERE item_id = 'done'", "I5", "done", id="answered, ready"),
        pytest.param("openings = 3 WHERE item_id = 'twice'", "I5", "twice", id="an answer short"),
        pytest.param("stage = 'relabel' WHERE item_id = 'ready'", "I5", "ready", id="unknown kind"),
        pytest.param(
            "for_role = 'guest' WHERE item_id = 'ready'", "I5", "ready", id="for an unknown role"
        ),
        pytest.param(
            "not_for = 'bob' WHERE item_id = 'held'", "I5", "held", id="not for its holder"
        ),
        pytest.param(
            "base_priority = 1 WHERE item_id = 'ready'", "I5", "ready", id="in front, not pinned"
        ),
        pytest.param("lease_token = 0 WHERE item_id = 'done'", "I10", "done", id="token went back"),
    ],
)
def test_an_item_that_contradicts_itself_is_found(
    busy: ReviewQueue, tamper: Any, statement: str, invariant: str, item: str
) -> None:
    tamper(f"UPDATE items SET {statement}")
    assert found(busy) == {(invariant, f"item {item}")}


@pytest.mark.parametrize(
    ("statement", "invariant", "item"),
    [
        pytest.param("DELETE FROM payloads WHERE item_id = 'ready'", "I5", "ready", id="payload"),
        pytest.param(
            "INSERT INTO pins VALUES ('image-ready', 'dee', 1)", "I5", "ready", id="pinned"
        ),
        pytest.param("UPDATE annotations SET ordinal = 7 WHERE seq = 3", "I5", "done", id="number"),
        pytest.param(
            "UPDATE annotations SET lease_token = 9 WHERE seq = 1", "I10", "twice", id="token"
        ),
        pytest.param("UPDATE annotations SET seq = 90 WHERE seq = 1", "I10", "twice", id="order"),
    ],
)
def test_what_belongs_to_an_item_is_looked_at(
    busy: ReviewQueue, tamper: Any, statement: str, invariant: str, item: str
) -> None:
    tamper(statement)
    assert found(busy) == {(invariant, f"item {item}")}


@pytest.mark.parametrize(
    ("statement", "breaches"),
    [
        pytest.param("DELETE FROM current_model", {("I9", "current_model")}, id="no pointer"),
        pytest.param(
            "INSERT INTO current_model VALUES (2, 'v1', 3)",
            {("I9", "current_model")},
            id="two pointers",
        ),
        pytest.param(
            "UPDATE current_model SET model_version = 'v2'",
            {("I9", "current_model")},
            id="another model serves",
        ),
        pytest.param(
            "UPDATE current_model SET generation = 2",
            {("I10", "current_model")},
            id="generation went back",
        ),
        pytest.param(
            "DELETE FROM promotions WHERE generation = 2",
            {("I10", "current_model")},
            id="a generation is missing",
        ),
        pytest.param(
            "UPDATE gates SET passed = 0 WHERE model_version = 'v2'",
            {("I9", "promotion 2")},
            id="it failed its gate",
        ),
        pytest.param(
            "DELETE FROM gates WHERE model_version = 'v2'",
            {("I9", "promotion 2")},
            id="it had no gate",
        ),
        pytest.param(
            "UPDATE promotions SET gate_id = 1 WHERE generation = 2",
            {("I9", "promotion 2")},
            id="the gate of another",
        ),
        pytest.param(
            """UPDATE gates SET metrics = '{"mean_iou":"nan"}' WHERE model_version = 'v2'""",
            {("I9", "promotion 2")},
            id="it passed with nan",
        ),
    ],
)
def test_a_pointer_that_cannot_be_is_found(
    busy: ReviewQueue, tamper: Any, statement: str, breaches: set[tuple[str, str]]
) -> None:
    tamper(statement)
    assert found(busy) == breaches
