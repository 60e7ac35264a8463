"""Who gets which item, for how long, and what becomes of it when they do not come back."""

from typing import Any

import pytest

from storage.queue.errors import StaleLease, UnknownItem
from storage.queue.leases import QueueConfig
from storage.queue.review import ReviewQueue


def names_in_order(queue: ReviewQueue, num: int) -> list[str]:
    """What `num` newcomers get, one after the other."""
    leases = [queue.claim(f"newcomer {number}") for number in range(num)]
    return [lease.item.item_id for lease in leases if lease is not None]


def test_an_empty_queue_has_nothing_to_give(queue: ReviewQueue) -> None:
    assert queue.claim("ada") is None


def test_the_highest_priority_goes_first_and_ties_by_name(queue: ReviewQueue, make: Any) -> None:
    queue.enqueue([make("c"), make("low", priority=-1.5), make("high", priority=2), make("b")])
    assert names_in_order(queue, 5) == ["high", "b", "c", "low"]


def test_a_lease_carries_the_whole_item(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a", iteration=3, payload={"proposals": [{"id": 1}], "note": "é\ud800\x00"})
    lease = people.claim()
    assert (lease.lease_token, lease.expires_in_s) == (1, 120.0)
    item = lease.item
    assert (item.item_id, item.image_id, item.file_name) == ("a", "image-a", "a.png")
    assert (item.height, item.width, item.iteration) == (20, 30, 3)
    assert item.payload == {"proposals": [{"id": 1}], "note": "é\ud800\x00"}
    assert (item.state, item.attempts, item.skips) == ("leased", 1, 0)
    assert queue.item("a") == item


def test_one_person_holds_one_item_and_gets_it_again(people: Any, clock: Any) -> None:
    people.enqueue("a", "b")
    first = people.claim()
    clock.move(100)
    again = people.claim()
    assert (again.item, again.lease_token) == (first.item, first.lease_token)
    assert again.expires_in_s == 120.0
    assert people.claim("bob").item.item_id == "b"


def test_a_peek_is_what_comes_after_what_is_held(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b")
    assert peeked(queue) == "a", "nothing is held yet"
    held = people.claim()
    assert (held.item.item_id, peeked(queue), peeked(queue, "bob")) == ("a", "b", "b")
    people.claim("bob")
    assert peeked(queue) is None
    people.skip(held)
    assert peeked(queue) == "a"


def test_a_peek_changes_nothing(people: Any, queue: ReviewQueue, clock: Any) -> None:
    people.enqueue("a", "b")
    lease = people.claim()
    before = (queue.item("a"), queue.item("b"), queue.holders(), queue.counts())
    clock.move(100)
    queue.peek("ada")
    queue.peek("bob")
    clock.move(-100)
    assert (queue.item("a"), queue.item("b"), queue.holders(), queue.counts()) == before
    assert people.claim().lease_token == lease.lease_token


def test_a_peek_sees_others_leases_that_ran_out(
    people: Any, queue: ReviewQueue, clock: Any
) -> None:
    people.enqueue("a", "b")
    people.claim()
    people.claim("bob")
    assert peeked(queue) is None
    clock.move(121)
    assert (peeked(queue), peeked(queue, "bob"), peeked(queue, "cy")) == ("b", "a", "a")
    assert people.claim("cy").item.item_id == "a"


def test_a_peek_passes_over_what_would_be_set_aside(
    people: Any, queue: ReviewQueue, clock: Any
) -> None:
    people.enqueue("a")
    for number in range(QueueConfig().max_attempts):
        assert peeked(queue) == "a"
        people.claim(f"person {number}")
        clock.move(121)
    assert peeked(queue) is None
    assert queue.claim("ada") is None


def peeked(queue: ReviewQueue, annotator: str = "ada") -> str | None:
    item = queue.peek(annotator)
    return None if item is None else item.item_id


@pytest.fixture
def reserved(people: Any) -> None:
    """Not for ada; for leads; for a lead who is not ada; for all."""
    people.enqueue("second", priority=4, stage="second", not_for="ada")
    people.enqueue("dispute", priority=3, stage="dispute", for_role="lead")
    people.enqueue("both", priority=2, stage="dispute", not_for="ada", for_role="lead")
    people.enqueue("plain", priority=1)


@pytest.mark.parametrize(
    ("annotator", "is_lead", "expected"),
    [
        ("ada", False, ["plain"]),
        ("ada", True, ["dispute", "plain"]),
        ("bob", False, ["second", "plain"]),
        ("bob", True, ["second", "dispute", "both", "plain"]),
    ],
)
@pytest.mark.usefixtures("reserved")
def test_everybody_is_given_what_is_for_them(
    queue: ReviewQueue, people: Any, annotator: str, is_lead: bool, expected: list[str]
) -> None:
    foreseen, given = [], []
    while item := queue.peek(annotator, is_lead=is_lead):
        foreseen.append(item.item_id)
        lease = queue.claim(annotator, is_lead=is_lead)
        assert lease is not None
        given.append(lease.item.item_id)
        people.submit(lease, annotator, key=lease.item.item_id)
    assert foreseen == given == expected
    assert queue.claim(annotator, is_lead=is_lead) is None, "though others might be given more"
    assert queue.counts()["ready"] == 4 - len(expected)


@pytest.mark.usefixtures("reserved")
def test_what_ran_out_is_taken_over_by_those_it_is_for(
    queue: ReviewQueue, people: Any, clock: Any
) -> None:
    for name in ("bob", "cy", "dee", "eve"):
        queue.claim(name, is_lead=True)
    clock.move(121)
    assert (peeked(queue, "ada"), people.claim("ada").item.item_id) == ("plain", "plain")
    assert (peeked(queue, "fay"), people.claim("fay").item.item_id) == ("second", "second")
    assert (peeked(queue, "gus"), queue.claim("gus")) == (None, None)
    lead = queue.claim("ada's lead", is_lead=True)
    assert lead is not None
    assert lead.item.item_id == "dispute"


@pytest.mark.usefixtures("reserved")
def test_what_is_for_leads_goes_back_when_its_holder_is_none(queue: ReviewQueue) -> None:
    held = queue.claim("ada", is_lead=True)
    again = queue.claim("ada", is_lead=True)
    assert held is not None
    assert again is not None
    assert (held.item.item_id, again.lease_token) == ("dispute", held.lease_token)
    other = queue.claim("ada", is_lead=False)
    assert other is not None
    assert other.item.item_id == "plain"
    dispute = queue.item("dispute")
    assert (dispute.state, dispute.attempts) == ("ready", 0), "as if it had not been claimed"


def test_a_heartbeat_starts_the_time_anew(people: Any, clock: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    lease = people.claim()
    for _ in range(5):
        clock.move(119)
        assert people.heartbeat(lease) == 120.0
        assert queue.claim("bob") is None


def test_no_heartbeat_goes_beyond_the_cap(people: Any, clock: Any) -> None:
    people.enqueue("a")
    lease = people.claim()
    for _ in range(36):
        clock.move(99)
        people.heartbeat(lease)
    assert people.heartbeat(lease) == 3600 - 36 * 99
    clock.move(40)
    assert people.heartbeat(lease) == 0.0
    assert people.claim("bob").lease_token == lease.lease_token + 1
    with pytest.raises(StaleLease):
        people.heartbeat(lease)


@pytest.mark.parametrize(("waited_s", "taken"), [(119.9, False), (120.0, True), (500.0, True)])
def test_a_lease_that_runs_out_goes_to_the_next(
    people: Any, clock: Any, queue: ReviewQueue, waited_s: float, taken: bool
) -> None:
    people.enqueue("a")
    lease = people.claim()
    clock.move(waited_s)
    assert (queue.claim("bob") is not None) == taken
    if taken:
        with pytest.raises(StaleLease):
            people.submit(lease)
    else:
        assert people.submit(lease)["status"] == 201


def test_ready_items_go_before_those_that_ran_out(people: Any, clock: Any) -> None:
    people.enqueue("urgent", "later")
    people.claim("ada")
    clock.move(500)
    assert people.claim("bob").item.item_id == "later"
    assert people.claim("cy").item.item_id == "urgent"


def test_a_lease_that_ran_out_untaken_goes_on(people: Any, clock: Any) -> None:
    people.enqueue("a")
    lease = people.claim()
    clock.move(500)
    assert people.heartbeat(lease) == 120.0
    clock.move(500)
    again = people.claim()
    assert (again.lease_token, again.item.attempts) == (lease.lease_token, 2)


@pytest.mark.parametrize("act", ["heartbeat", "skip", "release", "submit"])
def test_the_first_holder_can_do_nothing_after_the_second_came(
    people: Any, clock: Any, queue: ReviewQueue, act: str
) -> None:
    people.enqueue("a")
    stale = people.claim()
    clock.move(500)
    fresh = people.claim("bob")
    with pytest.raises(StaleLease) as caught:
        getattr(people, act)(stale)
    assert "bob" not in str(caught.value), "who has it now is nobody's business"
    assert people.heartbeat(fresh, "bob") == 120.0
    assert queue.last_seq() == 0


@pytest.mark.parametrize(
    ("token", "annotator"),
    [
        pytest.param(0, "ada", id="older token"),
        pytest.param(2, "ada", id="guessed token"),
        pytest.param(1, "bob", id="another name"),
        pytest.param(1, "Ada", id="another case"),
    ],
)
@pytest.mark.parametrize("act", ["heartbeat", "skip", "release"])
def test_only_the_holder_with_the_token_may_act(
    people: Any, queue: ReviewQueue, act: str, token: int, annotator: str
) -> None:
    people.enqueue("a")
    people.claim()
    with pytest.raises(StaleLease):
        getattr(queue, act)("a", token, annotator)
    with pytest.raises(UnknownItem, match="no such item"):
        getattr(queue, act)("nothing", token, annotator)
    assert queue.counts()["leased"] == 1


def test_release_gives_back_as_if_nothing_had_been(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b")
    for number in range(1, 8):
        lease = people.claim()
        assert (lease.item.item_id, lease.lease_token) == ("a", number)
        people.release(lease)
        with pytest.raises(StaleLease):
            people.heartbeat(lease)
    assert queue.item("a").attempts == 0


def test_what_was_skipped_comes_behind_the_rest(people: Any) -> None:
    people.enqueue("a", "b")
    seen = []
    for _ in range(6):
        lease = people.claim()
        seen.append(lease.item.item_id)
        people.skip(lease)
    assert seen == ["a", "b"] * 3


def test_the_last_skip_sets_an_item_aside(people: Any, queue: ReviewQueue) -> None:
    people.enqueue("a")
    for _ in range(5):
        people.skip(people.claim())
    assert queue.claim("ada") is None
    item = queue.item("a")
    assert (item.state, item.dead_reason) == ("dead", "5 leases without an answer (5 skips)")


def test_an_item_that_nobody_finishes_is_set_aside(
    people: Any, clock: Any, queue: ReviewQueue
) -> None:
    people.enqueue("a")
    for number in range(5):
        people.claim(f"person {number}")
        clock.move(500)
    assert queue.claim("bob") is None
    assert queue.item("a").dead_reason == "5 leases without an answer (0 skips)"


def test_an_item_that_crashes_its_own_annotator_is_set_aside(
    people: Any, clock: Any, queue: ReviewQueue
) -> None:
    people.enqueue("crash", "fine")
    for _ in range(5):
        assert people.claim().item.item_id == "crash"
        clock.move(500)
    assert people.claim().item.item_id == "fine"
    assert queue.counts() == {"ready": 0, "leased": 1, "done": 0, "dead": 1}


def test_who_holds_what_is_known(people: Any, clock: Any, queue: ReviewQueue) -> None:
    people.enqueue("a", "b")
    people.claim("bob")
    clock.move(200)
    people.claim("ada")
    shown = [(h.annotator, h.item_id, h.held_s, h.expires_in_s) for h in queue.holders()]
    assert shown == [("ada", "b", 0.0, 120.0), ("bob", "a", 200.0, -80.0)]


def test_a_clock_that_jumps_back_leaves_leases_valid(
    people: Any, clock: Any, queue: ReviewQueue
) -> None:
    people.enqueue("a")
    lease = people.claim()
    clock.move(-3600)
    assert queue.claim("bob") is None
    assert people.heartbeat(lease) == 120.0
    assert people.submit(lease)["status"] == 201


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\nb", "a\x00b", "\u202eada", "\ud800"])
def test_a_name_must_be_printable(queue: ReviewQueue, name: str) -> None:
    with pytest.raises(ValueError, match="annotator: must be 1 to 200 printable"):
        queue.claim(name)


@pytest.mark.parametrize(
    "values",
    [
        {"ttl_s": 0},
        {"ttl_s": float("inf")},
        {"cap_s": -1},
        {"cap_s": float("nan")},
        {"max_attempts": 0},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(values))}: must be"):
        QueueConfig(**values)


def test_other_times_can_be_agreed(url: str, clock: Any, make: Any) -> None:
    config = QueueConfig(ttl_s=10, cap_s=5, max_attempts=1)
    queue = ReviewQueue.open(url, config, clock=clock)
    queue.enqueue([make("a")])
    lease = queue.claim("ada")
    assert lease is not None
    assert lease.expires_in_s == 5.0, "the cap also ends the first stretch"
    clock.move(5)
    assert queue.claim("bob") is None
    assert queue.counts()["dead"] == 1
    queue.close()
