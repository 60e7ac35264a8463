"""Who may read which item, on every call that names one."""

from typing import Any

import httpx
import pytest

PROMPT = {"points": [[1, 1]], "labels": [1]}


def work(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/api/lease", json={})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["lease"]
    return found


def finish(client: httpx.Client, lease: dict[str, Any]) -> httpx.Response:
    decisions = [
        {"proposal_id": proposal["proposal_id"], "action": "rejected"}
        for proposal in lease["item"]["proposals"]
    ]
    return client.post(
        f"/api/items/{lease['item']['item_id']}/submit",
        json={"lease_token": lease["lease_token"], "submission": {"decisions": decisions}},
        headers={"Idempotency-Key": "0123456789"},
    )


def readings(client: httpx.Client, item: dict[str, Any]) -> set[int]:
    """What each call that shows something of an item answers."""
    return {
        client.post(f"/api/items/{item['item_id']}/predict", json=PROMPT).status_code,
        *(
            client.get(f"/api/items/{item['item_id']}/{part}").status_code
            for part in ("image", "tiles/0/0/0", "embedding")
        ),
    }


@pytest.fixture
def ada(team: Any) -> httpx.Client:
    client: httpx.Client = team.browser("ada")
    return client


@pytest.fixture
def bob(team: Any) -> httpx.Client:
    client: httpx.Client = team.program("bob")
    return client


@pytest.fixture
def lead(team: Any) -> httpx.Client:
    client: httpx.Client = team.browser("dee", "lead")
    return client


def test_an_item_that_waits_can_be_read_by_all(
    ada: httpx.Client, bob: httpx.Client, lead: httpx.Client
) -> None:
    item = work(ada)["item"]
    ada.post(f"/api/items/{item['item_id']}/release", json={"lease_token": 1})
    for client in (ada, bob, lead):
        assert readings(client, item) == {200}


def test_an_item_in_work_is_its_holders_and_the_leads(
    ada: httpx.Client, bob: httpx.Client, lead: httpx.Client
) -> None:
    item = work(ada)["item"]
    assert readings(ada, item) == {200}
    assert readings(bob, item) == {404}
    assert readings(lead, item) == {200}


def test_an_item_that_is_done_is_the_leads(
    ada: httpx.Client, bob: httpx.Client, lead: httpx.Client
) -> None:
    lease = work(ada)
    assert finish(ada, lease).status_code == 201
    assert readings(ada, lease["item"]) == {404}
    assert readings(bob, lease["item"]) == {404}
    assert readings(lead, lease["item"]) == {200}
    assert finish(ada, lease).status_code == 201, "sent again, it is the same answer"


def test_what_is_hidden_looks_like_what_is_not_there(ada: httpx.Client, bob: httpx.Client) -> None:
    item = work(ada)["item"]
    hidden = bob.post(f"/api/items/{item['item_id']}/predict", json=PROMPT).json()
    missing = bob.post("/api/items/nothing/predict", json=PROMPT).json()
    assert hidden["message"] == missing["message"].replace("nothing", item["item_id"])


@pytest.mark.parametrize("verb", ["heartbeat", "skip", "release"])
def test_writing_needs_ones_own_lease(
    ada: httpx.Client, bob: httpx.Client, lead: httpx.Client, verb: str
) -> None:
    lease = work(ada)
    for client in (bob, lead):
        held = {"lease_token": lease["lease_token"]}
        answer = client.post(f"/api/items/{lease['item']['item_id']}/{verb}", json=held)
        assert (answer.status_code, answer.json()["error"]) == (409, "stale_lease")
        assert "ada" not in answer.text


def test_a_refused_answer_tells_nothing_of_anothers_item(
    ada: httpx.Client, bob: httpx.Client, team: Any
) -> None:
    lease = work(ada)
    proposals = [proposal["proposal_id"] for proposal in lease["item"]["proposals"]]
    answer = bob.post(
        f"/api/items/{lease['item']['item_id']}/submit",
        json={"lease_token": lease["lease_token"], "submission": {}},
        headers={"Idempotency-Key": "0123456789"},
    )
    assert (answer.status_code, answer.json()["error"]) == (409, "stale_lease")
    assert not any(name in answer.text for name in proposals)
    assert team.desk.queue.counts()["done"] == 0


def test_every_call_that_names_an_item_is_here(api: httpx.Client) -> None:
    """Another one needs a test of its own above."""
    document = api.get("/openapi.json").json()
    named = {
        (method, path)
        for path, methods in document["paths"].items()
        for method in methods
        if "{item_id}" in path
    }
    written = {"heartbeat", "skip", "release", "submit"}
    assert named == {
        *(("post", f"/api/items/{{item_id}}/{verb}") for verb in written),
        ("post", "/api/items/{item_id}/predict"),
        ("get", "/api/items/{item_id}/image"),
        ("get", "/api/items/{item_id}/tiles/{level}/{column}/{row}"),
        ("get", "/api/items/{item_id}/embedding"),
        ("post", "/api/lead/items/{item_id}/release"),
        ("post", "/api/lead/items/{item_id}/reopen"),
    }
