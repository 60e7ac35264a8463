"""Images that somebody wants first come first, and everything has its place back afterwards."""

import threading
from typing import Any

import pytest

from storage.queue.check import check
from storage.queue.oversight import Oversight
from storage.queue.pins import PINNED_PRIORITY, pin
from storage.queue.review import ReviewQueue


def order(queue: ReviewQueue) -> list[str]:
    return [item.item_id for item in queue.ready_items(["assist"])]


def priorities(queue: ReviewQueue, *names: str) -> list[float]:
    return [queue.item(name).priority for name in names]


@pytest.fixture(autouse=True)
def _sound(queue: ReviewQueue) -> Any:
    yield
    assert check(queue.database) == []


def test_a_pinned_image_comes_first_and_goes_back(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a", "b", "c")
    assert queue.pin(["image-c"], "dee") == 1
    assert (order(queue), queue.item("c").priority) == (["c", "a", "b"], PINNED_PRIORITY)
    assert people.claim().item.item_id == "c"
    people.release(people.claim())
    assert queue.unpin(["image-c"]) == 1
    assert (order(queue), priorities(queue, "c")) == (["a", "b", "c"], [-2.0])


def test_pins_are_listed_the_oldest_first(queue: ReviewQueue, clock: Any) -> None:
    queue.pin(["y", "z"], "dee")
    clock.move(1)
    assert queue.pin(["x", "y"], "eve") == 1, "one that is there stays as it is"
    assert [(each.image_id, each.pinned_by) for each in queue.pins()] == [
        ("y", "dee"),
        ("z", "dee"),
        ("x", "eve"),
    ]
    assert [each.pinned_at.timestamp() - clock.seconds for each in queue.pins()] == [-1, -1, 0]
    assert queue.unpin(["x", "z", "nothing"]) == 2
    assert queue.unpin([]) == queue.pin([], "dee") == 0
    assert [each.image_id for each in queue.pins()] == ["y"]


def test_a_lead_sees_what_is_pinned(queue: ReviewQueue, people: Any, clock: Any) -> None:
    people.enqueue("a", "b")
    people.enqueue("a too", image_id="image-a", file_name="a.png", model_version="v2", priority=-9)
    people.submit(people.claim("cy"), "cy", key="of a")
    people.submit(people.claim("cy"), "cy", key="of b")
    queue.pin(["image-b", "unknown"], "dee")
    clock.move(1)
    queue.pin(["image-a"], "dee")
    oversight = Oversight(queue.database)
    found = oversight.pins()
    assert [(each.image_id, each.file_name, each.waits) for each in found] == [
        ("image-b", "b.png", False),
        ("unknown", None, False),
        ("image-a", "a.png", True),
    ]
    [waiting] = oversight.items("ready", "assist")
    assert (waiting.kind, waiting.is_pinned) == ("assist", True)
    assert oversight.items("ready", "gold") == []
    names = ("image-a", "a.png", "b.png", "a")
    assert [sorted(oversight.images_named(name)) for name in names] == [
        ["image-a"],
        ["image-a"],
        ["image-b"],
        [],
    ]


def test_pinning_twice_keeps_the_priority_that_it_had(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a", priority=0.1)
    for _ in range(2):
        queue.pin(["image-a"], "dee")
    queue.unpin(["image-a"])
    assert priorities(queue, "a") == [0.1]


def test_what_comes_while_its_image_is_pinned_is_in_front(queue: ReviewQueue, people: Any) -> None:
    queue.pin(["image-c"], "dee")
    people.enqueue("a", "b", "c")
    assert order(queue) == ["c", "a", "b"]
    queue.unpin(["image-c"])
    assert order(queue) == ["a", "b", "c"]


def test_what_comes_back_while_its_image_is_pinned_is_in_front(
    queue: ReviewQueue, people: Any, make: Any
) -> None:
    people.enqueue("gone", "reopened", "z")
    people.submit(people.claim("cy"), "cy", key="one")
    people.submit(people.claim("cy"), "cy", key="two")
    queue.reopen("gone")
    queue.withdraw("run-1")
    queue.pin(["image-gone", "image-reopened"], "dee")
    queue.reopen("reopened")
    queue.enqueue([make("gone", run_id="run-2", priority=7), make("z", run_id="run-2")])
    assert order(queue) == ["gone", "reopened", "z"]
    queue.unpin(["image-gone", "image-reopened"])
    assert priorities(queue, "gone", "reopened", "z") == [7.0, -1.0, 0.0]


def test_a_pin_goes_with_the_answer_to_an_ordinary_item(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a", "b")
    people.enqueue("later", image_id="image-b", model_version="v2", priority=-9)
    queue.pin(["image-a", "image-b"], "dee")
    people.submit(people.claim(), key="of a")
    assert [each.image_id for each in queue.pins()] == ["image-b"]
    people.submit(people.claim(), key="of b")
    assert queue.pins() == [], "one answer is enough, though another item of it waits"
    assert priorities(queue, "a", "b", "later") == [0.0, -1.0, -9.0]


@pytest.mark.parametrize("kind", ["gold", "second", "dispute", "audit"])
def test_no_other_answer_takes_it_away(queue: ReviewQueue, people: Any, kind: str) -> None:
    people.enqueue("a", stage=kind)
    queue.pin(["image-a"], "dee")
    people.submit(people.claim())
    assert [each.image_id for each in queue.pins()] == ["image-a"]


def test_an_answer_that_is_refused_leaves_it(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a")
    queue.pin(["image-a"], "dee")
    lease = people.claim()
    with pytest.raises(ValueError, match="body"):
        people.submit(lease, n=float("nan"))
    people.release(lease)
    assert len(queue.pins()) == 1
    people.submit(people.claim())
    assert queue.pins() == []


def test_a_pin_is_newer_than_the_skips_before_it(queue: ReviewQueue, people: Any) -> None:
    people.enqueue("a", "b")
    people.skip(people.claim())
    assert order(queue) == ["b", "a"]
    queue.pin(["image-a"], "dee")
    assert order(queue) == ["a", "b"]
    people.skip(people.claim())
    assert order(queue) == ["b", "a"], "whoever skips it is given another"


def test_many_images_are_pinned_at_once(queue: ReviewQueue, make: Any) -> None:
    queue.enqueue(make(f"{number:04}") for number in range(1200))
    names = [f"image-{number:04}" for number in range(0, 1200, 2)]
    assert queue.pin(names, "dee") == 600
    assert [int(name) % 2 for name in order(queue)] == [0] * 600 + [1] * 600
    assert queue.unpin(names) == 600
    assert order(queue) == [f"{number:04}" for number in range(1200)]


@pytest.mark.parametrize(("image_id", "by"), [("", "dee"), ("a\nb", "dee"), ("a", " ")])
def test_what_is_no_name_is_refused(queue: ReviewQueue, image_id: str, by: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 200 printable characters"):
        queue.pin(["fine", image_id], by)
    assert queue.pins() == []


def test_nothing_has_such_a_priority_by_itself(make: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^priority: must be finite and below 1000000, got 1000000"
    ):
        make("a", priority=PINNED_PRIORITY)


def test_a_pin_and_an_item_that_come_at_once_meet(
    queue: ReviewQueue, people: Any, clock: Any
) -> None:
    """Whichever is first to commit, the other one sees it."""
    enqueued = threading.Thread(target=lambda: people.enqueue("a"))
    with queue.database.write() as connection:
        pin(connection, ["image-a"], "dee", clock.seconds)
        enqueued.start()
        enqueued.join(0.3)
        assert enqueued.is_alive(), "it waits for the pin"
    enqueued.join(10)
    assert priorities(queue, "a") == [PINNED_PRIORITY]
