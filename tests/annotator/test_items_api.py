"""Claim, heartbeat, submit, skip, release over HTTP: what is answered, and what is refused."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from storage.queue import copying
from storage.queue.database import Database, DatabaseClock
from storage.queue.review import ReviewQueue

KEY = "0123456789abcdef"


class MovedClock(DatabaseClock):
    """The database's clock, moved on by hand."""

    ahead_s = 0.0

    def now(self, connection: Connection) -> float:
        return super().now(connection) + self.ahead_s


@pytest.fixture
def clock(desk: Any) -> MovedClock:
    desk.queue.database._clock = moved = MovedClock()
    return moved


def claim(api: httpx.Client, annotator: str = "ada") -> dict[str, Any]:
    answer = api.post("/api/lease", json={"annotator": annotator})
    assert answer.status_code == 200, answer.text
    lease: dict[str, Any] = answer.json()["lease"]
    return lease


def call(
    api: httpx.Client, lease: dict[str, Any], verb: str, annotator: str = "ada"
) -> httpx.Response:
    held = {"annotator": annotator, "lease_token": lease["lease_token"]}
    return api.post(f"/api/items/{lease['item']['item_id']}/{verb}", json=held)


def answer_to(lease: dict[str, Any], action: str = "accepted", **changes: Any) -> dict[str, Any]:
    decisions = [
        {"proposal_id": proposal["proposal_id"], "action": action}
        for proposal in lease["item"]["proposals"]
    ]
    return {"decisions": decisions, "added": [], "seconds": 2.0, **changes}


def submit(
    api: httpx.Client,
    lease: dict[str, Any],
    submission: dict[str, Any],
    *,
    key: str | None = KEY,
    annotator: str = "ada",
) -> httpx.Response:
    return api.post(
        f"/api/items/{lease['item']['item_id']}/submit",
        json={
            "annotator": annotator,
            "lease_token": lease["lease_token"],
            "submission": submission,
        },
        headers={} if key is None else {"Idempotency-Key": key},
    )


def refused(answer: httpx.Response, status: int, error: str) -> str:
    """Check the form of a refusal; returns its message."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error", "message", "remedy"}
    assert body["error"] == error
    assert body["message"]
    assert body["remedy"]
    return str(body["message"])


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_withheld_proposals_are_sent_to_nobody(desk: Any) -> None:
    picture = desk.pictures[0]
    shown = desk.new_item(picture, picture.masks[:1]).payload
    [secret] = desk.new_item(picture, picture.masks[1:2]).payload["proposals"]
    secret["proposal_id"] = "secret"
    hiding = {**shown, "withheld": [secret]}
    desk.queue.enqueue([desk.new_item(picture, model_version="v2", priority=9.0, payload=hiding)])
    with desk.open() as api:
        ahead = api.post("/api/peek", json={"annotator": "ada"})
        lease = claim(api)
        again = api.post("/api/lease", json={"annotator": "ada"})
        for item in (ahead.json()["item"], lease["item"], again.json()["lease"]["item"]):
            assert item["model_version"] == "v2"
            assert [one["proposal_id"] for one in item["proposals"]] == ["p0"]
        assert secret["segmentation"]["counts"] not in ahead.text + again.text
        guess = answer_to(lease)
        guess["decisions"].append({"proposal_id": "secret", "action": "accepted"})
        message = refused(submit(api, lease, guess), 422, "invalid")
        assert "must be a proposal of this item" in message
        assert submit(api, lease, answer_to(lease)).status_code == 201


def test_a_lease_brings_the_image_and_its_proposals(api: httpx.Client, desk: Any) -> None:
    answer = api.post("/api/lease", json={"annotator": "ada"}).json()
    item = answer["lease"]["item"]
    assert item["image_id"] == desk.pictures[0].image_id
    assert (item["height"], item["width"]) == (96, 128)
    assert item["model_version"] == "v1"
    assert [proposal["proposal_id"] for proposal in item["proposals"]] == ["p0", "p1", "p2"]
    assert item["proposals"][0]["segmentation"]["size"] == [96, 128]
    assert answer["lease"]["expires_in_s"] == pytest.approx(120, abs=2)
    assert answer["counts"] == {"ready": 2, "leased": 1, "done": 0, "dead": 0}


def test_two_people_get_different_items_and_each_the_same_again(api: httpx.Client) -> None:
    ada, bob = claim(api, "ada"), claim(api, "bob")
    assert ada["item"]["item_id"] != bob["item"]["item_id"]
    again = claim(api, "ada")
    assert (again["item"], again["lease_token"]) == (ada["item"], ada["lease_token"])


def test_an_empty_queue_says_so_and_who_still_works(api: httpx.Client) -> None:
    for name in ("ada", "bob", "cy"):
        claim(api, name)
    answer = api.post("/api/lease", json={"annotator": "dee"}).json()
    assert answer == {"lease": None, "counts": {"ready": 0, "leased": 3, "done": 0, "dead": 0}}


def test_a_submission_is_kept_as_it_was_sent(api: httpx.Client, desk: Any) -> None:
    lease = claim(api)
    mask = lease["item"]["proposals"][0]["segmentation"]
    click = {"x": 30.5, "y": 30.0, "label": 1, "at_s": 1.5, "predicted_iou": 0.75}
    added = [{"segmentation": mask, "clicks": [click], "category": "disk"}]
    answer = submit(api, lease, answer_to(lease, "rejected", added=added))
    assert answer.status_code == 201
    assert answer.headers["Idempotent-Replayed"] == "false"
    assert answer.json()["state"] == "done"
    (stored,) = desk.queue.submissions_after(0)
    assert stored.submission_id == answer.json()["submission_id"]
    assert stored.annotator == "ada"
    assert stored.body["added"] == [
        {"segmentation": mask, "clicks": [click], "category": "disk", "drawn": False}
    ]
    assert [decision["action"] for decision in stored.body["decisions"]] == ["rejected"] * 3


def test_a_repeated_submission_changes_nothing(api: httpx.Client, desk: Any) -> None:
    lease = claim(api)
    first = submit(api, lease, answer_to(lease))
    second = submit(api, lease, answer_to(lease))
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(desk.queue.submissions_after(0)) == 1


def test_a_key_is_for_one_submission(api: httpx.Client) -> None:
    lease = claim(api)
    submit(api, lease, answer_to(lease))
    other = submit(api, lease, answer_to(lease, "rejected"))
    assert KEY in refused(other, 422, "idempotency_conflict")


def test_of_two_copies_at_once_one_counts(api: httpx.Client, desk: Any) -> None:
    lease = claim(api)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(api, lease, answer_to(lease)), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert [answer.headers["Idempotent-Replayed"] for answer in answers].count("false") == 1
    assert len(desk.queue.submissions_after(0)) == 1


@pytest.mark.parametrize("verb", ["heartbeat", "skip", "release"])
def test_a_lease_that_went_to_another_is_refused(
    api: httpx.Client, clock: MovedClock, verb: str
) -> None:
    stale = claim(api, "ada")
    clock.ahead_s = 500.0
    others = ("bob", "cy", "zoe")  # none can be a part of an item's hexadecimal name
    for name in others:
        claim(api, name)
    message = refused(call(api, stale, verb), 409, "stale_lease")
    assert not any(name in message for name in others)


def test_a_late_submission_counts_only_while_nobody_else_has_the_item(
    api: httpx.Client, clock: MovedClock, desk: Any
) -> None:
    late = claim(api, "ada")
    clock.ahead_s = 500.0
    assert submit(api, late, answer_to(late)).status_code == 201
    stale = claim(api, "ada")
    clock.ahead_s = 1000.0
    taken = [claim(api, name) for name in ("bob", "cy")]
    assert stale["item"]["item_id"] in {lease["item"]["item_id"] for lease in taken}
    refused(submit(api, stale, answer_to(stale), key=KEY + "-2"), 409, "stale_lease")
    assert len(desk.queue.submissions_after(0)) == 1


def test_another_token_or_another_name_is_refused(api: httpx.Client) -> None:
    lease = claim(api)
    guessed = {**lease, "lease_token": lease["lease_token"] + 1}
    refused(submit(api, guessed, answer_to(lease)), 409, "stale_lease")
    refused(submit(api, lease, answer_to(lease), annotator="bob"), 409, "stale_lease")
    refused(call(api, lease, "release", "bob"), 409, "stale_lease")


def test_a_heartbeat_starts_the_lease_anew(api: httpx.Client, clock: MovedClock) -> None:
    lease = claim(api)
    clock.ahead_s = 100.0
    assert call(api, lease, "heartbeat").json()["expires_in_s"] == pytest.approx(120, abs=2)


def test_released_and_skipped_items_come_back(api: httpx.Client) -> None:
    first = claim(api)
    released = call(api, first, "release")
    assert (released.status_code, released.content) == (204, b"")
    again = claim(api)
    assert again["item"]["item_id"] == first["item"]["item_id"]
    assert again["lease_token"] > first["lease_token"]
    assert call(api, again, "skip").status_code == 204
    assert claim(api)["item"]["item_id"] != first["item"]["item_id"]


@pytest.mark.parametrize("verb", ["heartbeat", "skip", "release", "submit", "predict"])
def test_an_unknown_item_is_404(api: httpx.Client, verb: str) -> None:
    lease = {"item": {"item_id": "nothing", "proposals": []}, "lease_token": 1}
    if verb == "submit":
        answer = submit(api, lease, answer_to(lease))
    elif verb == "predict":
        answer = api.post("/api/items/nothing/predict", json={"points": [[1, 1]], "labels": [1]})
    else:
        answer = call(api, lease, verb)
    assert "nothing" in refused(answer, 404, "unknown")


@pytest.mark.parametrize("key", [None, "short", "with a space", "x" * 201])
def test_a_submission_needs_a_sound_key(api: httpx.Client, key: str | None) -> None:
    lease = claim(api)
    message = refused(submit(api, lease, answer_to(lease), key=key), 422, "invalid")
    assert message.startswith("Idempotency-Key:")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"decisions": []}, "submission.decisions", id="undecided"),
        pytest.param(
            {"decisions": [{"proposal_id": "other", "action": "accepted"}]},
            "submission.decisions[0].proposal_id",
            id="of another item",
        ),
        pytest.param(
            {"added": [{"segmentation": {"size": [2, 2], "counts": "04"}}]},
            "submission.added[0].segmentation.size",
            id="of another size",
        ),
        pytest.param(
            {"added": [{"segmentation": {"size": [96, 128], "counts": "04"}}]},
            "submission.added[0].segmentation",
            id="not a mask",
        ),
        pytest.param({"seconds": -1}, "submission.seconds", id="negative time"),
    ],
)
def test_a_submission_that_does_not_fit_names_the_field(
    api: httpx.Client, desk: Any, changes: dict[str, Any], field: str
) -> None:
    lease = claim(api)
    message = refused(submit(api, lease, answer_to(lease, **changes)), 422, "invalid")
    assert message.startswith(f"{field}:")
    assert desk.queue.submissions_after(0) == []


def test_an_unknown_category_is_named(desk: Any) -> None:
    with desk.open(categories=("disk", "ring")) as api:
        lease = claim(api)
        wrong = answer_to(lease)
        wrong["decisions"][1]["category"] = "cube"
        message = refused(submit(api, lease, wrong), 422, "invalid")
        expected = "submission.decisions[1].category: must be one of disk, ring, got 'cube'"
        assert message == expected
        wrong["decisions"][1]["category"] = "ring"
        assert submit(api, lease, wrong).status_code == 201
    [stored] = desk.queue.submissions_after(0)
    assert stored.body["decisions"][1]["category"] == "ring"


def test_a_finished_run_is_told_once(api: httpx.Client, desk: Any) -> None:
    desk.queue.enqueue([desk.new_item(desk.pictures[0], model_version="v2", run_id="run-2")])
    for number in range(4):
        lease = claim(api)
        submit(api, lease, answer_to(lease), key=f"{KEY}-{number}")
        submit(api, lease, answer_to(lease), key=f"{KEY}-{number}")
    # Each is told behind its answer, so the second may come a moment later.
    assert eventually(lambda: sorted(desk.finished) == ["run-1", "run-2"])


def test_a_run_may_count_as_done_before_its_last_item(desk: Any) -> None:
    with desk.open(batch_done_share=0.6) as api:
        for number in range(2):
            assert desk.finished == []
            lease = claim(api)
            submit(api, lease, answer_to(lease), key=f"{KEY}-{number}")
        assert eventually(lambda: desk.finished == ["run-1"])


def test_a_listener_that_fails_costs_nothing(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(list[str]):
        def append(self, run_id: str) -> None:
            raise RuntimeError(f"cannot tell of {run_id}")

    desk.finished = Broken()
    with desk.open() as api:
        for number in range(3):
            lease = claim(api)
            answer = submit(api, lease, answer_to(lease), key=f"{KEY}-{number}")
            assert answer.status_code == 201
        assert eventually(lambda: "could not be told" in caplog.text)
    assert desk.queue.counts()["done"] == 3


def test_progress_counts_all_and_one_run(api: httpx.Client) -> None:
    claim(api)
    expected = {"ready": 2, "leased": 1, "done": 0, "dead": 0}
    assert api.get("/api/progress").json() == {"counts": expected, "run": None}
    one = api.get("/api/progress", params={"run_id": "run-1"}).json()
    assert one["run"] == {"run_id": "run-1", **expected}
    answer = api.get("/api/progress", params={"run_id": "run-9"})
    assert "run-9" in refused(answer, 404, "unknown")


def test_a_locked_database_is_503_and_tells_when_to_come_back(desk: Any, tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite"
    impatient = ReviewQueue(Database.open(f"sqlite:///{file}", busy_timeout_s=0.1))
    desk.queue.close()
    desk.queue = impatient
    with desk.open(retry_after_s=7) as api:
        lease = claim(api)
        blocker = sqlite3.connect(file, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for answer in (
            api.post("/api/lease", json={"annotator": "bob"}),
            call(api, lease, "heartbeat"),
            submit(api, lease, answer_to(lease)),
        ):
            refused(answer, 503, "unavailable")
            assert answer.headers["Retry-After"] == "7"
        blocker.execute("ROLLBACK")
        blocker.close()
        assert submit(api, lease, answer_to(lease)).status_code == 201


def test_a_queue_that_moved_is_503_and_says_where_it_went(desk: Any, tmp_path: Path) -> None:
    with desk.open(retry_after_s=7) as api:
        lease = claim(api)
        source, target = (
            Database.open(f"sqlite:///{tmp_path / name}.sqlite") for name in ("queue", "new")
        )
        copying.carry(source, target)
        copying.release(target)
        for answer in (
            api.post("/api/lease", json={"annotator": "bob"}),
            call(api, lease, "heartbeat"),
            submit(api, lease, answer_to(lease)),
        ):
            told = refused(answer, 503, "moved")
            assert f"the queue moved to sqlite:///{tmp_path / 'new.sqlite'}; restart serve" in told
            assert answer.headers["Retry-After"] == "7"
        # Sent again to a server that was started anew, the answer counts.
        desk.queue.close()
        desk.queue = ReviewQueue(target)
    with desk.open() as api:
        assert submit(api, lease, answer_to(lease)).status_code == 201
    source.close()
