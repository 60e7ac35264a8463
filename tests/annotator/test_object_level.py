"""Who may read which item, on every call that names one."""

from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

WRITES = {"heartbeat", "skip", "release", "submit"}
PROMPT = {"points": [[1, 1]], "labels": [1]}


class Filled(dict[str, str]):
    """Values for the names in a path; what it does not know is 0, such as the place of a tile."""

    def __missing__(self, key: str) -> str:
        return "0"


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


def test_what_waits_for_others_cannot_be_read(
    team: Any, ada: httpx.Client, bob: httpx.Client, lead: httpx.Client
) -> None:
    picture = team.desk.pictures[0]
    changes = {"priority": 9.0, "model_version": "v1"}
    second = team.desk.new_item(picture, stage="second", not_for="ada", **changes)
    dispute = team.desk.new_item(picture, stage="dispute", for_role="lead", **changes)
    team.desk.queue.enqueue([second, dispute])
    names = [{"item_id": item.item_id} for item in (second, dispute)]
    found = {client: [readings(client, item) for item in names] for client in (ada, bob, lead)}
    assert found == {ada: [{404}, {404}], bob: [{200}, {404}], lead: [{200}, {200}]}


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
        assert "ada" not in answer.text.replace(lease["item"]["item_id"], "")


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


def test_no_call_shows_anything_of_anothers_item(
    ada: httpx.Client, bob: httpx.Client, team: Any
) -> None:
    """Every call of the app itself that names an item, so that none is forgotten."""
    item = work(ada)["item"]
    asked = []
    for route in iter_route_contexts(team.desk.server.app.routes):
        path = route.path or ""
        if (
            "{item_id}" not in path
            or path.startswith("/api/lead/")
            or path.rpartition("/")[2] in WRITES
        ):
            continue
        filled = path.format_map(Filled(item_id=item["item_id"]))
        for method in route.methods or ():
            answer = bob.request(method, filled, json=None if method == "GET" else PROMPT)
            assert answer.status_code == 404, (method, path, answer.text)
            asked.append(path)
    assert "/api/items/{item_id}/predict" in asked
