"""What a lead sees and does over HTTP, and that nobody else does."""

from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest

from engine import rle

LEAD_CALLS = [
    ("GET", "/api/lead/overview"),
    ("GET", "/api/lead/items?state=done"),
    ("POST", "/api/lead/items/x/release"),
    ("POST", "/api/lead/items/x/reopen"),
    ("GET", "/api/lead/pins"),
    ("POST", "/api/lead/pins"),
    ("DELETE", "/api/lead/pins/y"),
]


@pytest.fixture
def ada(team: Any) -> httpx.Client:
    client: httpx.Client = team.browser("ada")
    return client


@pytest.fixture
def lead(team: Any) -> httpx.Client:
    client: httpx.Client = team.browser("dee", "lead")
    return client


def work(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.post("/api/lease", json={}).json()["lease"]
    return found


def finish(client: httpx.Client, lease: dict[str, Any], key: str = "one") -> httpx.Response:
    """Accept the first proposal, reject the others, add a mask with two clicks."""
    item = lease["item"]
    proposals = item["proposals"]
    decisions = [
        {"proposal_id": each["proposal_id"], "action": "rejected" if index else "accepted"}
        for index, each in enumerate(proposals)
    ]
    click = {"x": 1, "y": 1, "label": 1}
    shape = rle.encode_one(np.ones((item["height"], item["width"]), dtype=bool))
    mask = {"size": list(shape.size), "counts": shape.counts}
    added = [{"segmentation": mask, "clicks": [click, click]}]
    submission = {"decisions": decisions, "added": added, "seconds": 9.0}
    return client.post(
        f"/api/items/{lease['item']['item_id']}/submit",
        json={"lease_token": lease["lease_token"], "submission": submission},
        headers={"Idempotency-Key": f"0123456789-{key}"},
    )


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json().keys() == {"error", "message", "remedy"}
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize(("method", "path"), LEAD_CALLS)
def test_it_is_for_leads_only(ada: httpx.Client, method: str, path: str) -> None:
    assert problem(ada.request(method, path)) == (403, "forbidden")


def test_the_test_above_has_every_call(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    known = {
        (method, path.partition("?")[0].replace("/x/", "/{item_id}/").replace("/y", "/{image_id}"))
        for method, path in LEAD_CALLS
    }
    assert {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/api/lead")
    } == known


def test_the_overview(ada: httpx.Client, lead: httpx.Client) -> None:
    assert finish(ada, work(ada)).status_code == 201
    held = work(ada)
    found = lead.get("/api/lead/overview").json()
    assert found["counts"] == {"ready": 1, "leased": 1, "done": 1, "dead": 0}
    first, second = found["people"]
    assert datetime.fromisoformat(first.pop("last_seen")).tzinfo is not None
    assert first == {
        "name": "ada",
        "role": "annotator",
        "items": 1,
        "masks": 2,
        "seconds_per_mask": 4.5,
        "clicks_per_mask": 1.0,
    }
    assert (second["name"], second["role"], second["items"]) == ("dee", "lead", 0)
    assert (second["seconds_per_mask"], second["last_seen"]) == (None, None)
    [model] = found["models"]
    assert (model["model_version"], model["num_added"]) == ("v1", 1)
    assert (model["num_accepted"], model["num_edited"], model["num_rejected"]) == (1, 0, 2)
    assert model["share_accepted"] == pytest.approx(1 / 3)
    assert model["share_rejected"] == pytest.approx(2 / 3)
    [holder] = found["holders"]
    assert (holder["annotator"], holder["item_id"]) == ("ada", held["item"]["item_id"])
    assert holder["file_name"] == held["item"]["file_name"]
    assert holder["expires_in_s"] == pytest.approx(120, abs=5)
    assert [hour["items"] for hour in found["throughput"]][-2:].count(1) == 1
    assert len(found["throughput"]) == 24
    assert found["set_aside"] == []


def test_what_is_set_aside_can_be_had_done_after_all(ada: httpx.Client, lead: httpx.Client) -> None:
    for _ in range(15):
        lease = work(ada)
        held = {"lease_token": lease["lease_token"]}
        ada.post(f"/api/items/{lease['item']['item_id']}/skip", json=held)
    aside = lead.get("/api/lead/overview").json()["set_aside"]
    assert len(aside) == 3
    assert aside[0]["reason"] == "5 leases without an answer (5 skips)"
    item_id = aside[0]["item_id"]
    assert lead.post(f"/api/lead/items/{item_id}/reopen").status_code == 204
    assert work(ada)["item"]["item_id"] == item_id


def test_items_are_listed_by_state_and_page(ada: httpx.Client, lead: httpx.Client) -> None:
    for number in range(2):
        finish(ada, work(ada), str(number))
    first = lead.get("/api/lead/items", params={"state": "done", "limit": 1}).json()
    assert [item["annotator"] for item in first["items"]] == ["ada"]
    assert datetime.fromisoformat(first["items"][0]["answered_at"]).tzinfo is not None
    rest = {"state": "done", "after": first["next"], "limit": 1}
    second = lead.get("/api/lead/items", params=rest).json()
    assert second["next"] is None
    assert first["items"][0]["item_id"] < second["items"][0]["item_id"]
    [waiting] = lead.get("/api/lead/items?state=ready").json()["items"]
    assert (waiting["state"], waiting["annotator"], waiting["answered_at"]) == ("ready", None, None)


@pytest.mark.parametrize(
    "query", ["", "state=gone", "state=done&limit=0", "state=done&limit=201", "state=done&after=/"]
)
def test_a_list_of_nothing_is_refused(lead: httpx.Client, query: str) -> None:
    assert problem(lead.get(f"/api/lead/items?{query}")) == (422, "invalid")


def test_a_lease_that_is_ended_keeps_its_holder_out(
    ada: httpx.Client, lead: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    lease = work(ada)
    item_id = lease["item"]["item_id"]
    assert lead.post(f"/api/lead/items/{item_id}/release").status_code == 204
    assert f"lead 'dee' released item {item_id}, which 'ada' held" in caplog.text
    assert problem(finish(ada, lease)) == (409, "stale_lease")
    again = work(ada)
    assert again["item"]["item_id"] == item_id
    assert again["lease_token"] > lease["lease_token"]
    assert problem(finish(ada, lease)) == (409, "stale_lease")
    assert finish(ada, again).status_code == 201


def test_a_finished_item_is_done_once_more(
    ada: httpx.Client, lead: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    lease = work(ada)
    finish(ada, lease)
    item_id = lease["item"]["item_id"]
    assert lead.post(f"/api/lead/items/{item_id}/reopen").status_code == 204
    assert f"lead 'dee' reopened item {item_id}" in caplog.text
    assert problem(lead.post(f"/api/lead/items/{item_id}/reopen")) == (409, "is_open")
    again = work(ada)
    assert again["item"]["item_id"] == item_id
    assert finish(ada, again, "two").status_code == 201


def test_a_lead_sees_what_items_are_for(ada: httpx.Client, lead: httpx.Client, team: Any) -> None:
    [picture, *_] = team.desk.pictures
    dispute = team.desk.new_item(picture, stage="dispute", for_role="lead", priority=9.0)
    team.desk.queue.enqueue([dispute])
    ready = lead.get("/api/lead/items?state=ready").json()["items"]
    assert sorted(item["kind"] for item in ready) == ["assist", "assist", "assist", "dispute"]
    [found] = lead.get("/api/lead/items?state=ready&kind=dispute").json()["items"]
    assert (found["item_id"], found["is_pinned"]) == (dispute.item_id, False)
    assert work(ada)["item"]["item_id"] != dispute.item_id
    assert work(lead)["item"]["item_id"] == dispute.item_id
    [found] = lead.get("/api/lead/items?state=leased&kind=dispute").json()["items"]
    assert found["annotator"] == "dee"
    assert lead.get("/api/lead/items?state=done&kind=dispute").json()["items"] == []


def test_an_image_is_pinned_by_name_and_comes_first(
    ada: httpx.Client, lead: httpx.Client, team: Any
) -> None:
    third = team.desk.pictures[2]
    for name in (third.file_name, third.image_id):
        assert lead.post("/api/lead/pins", json={"image": name}).status_code == 204
    [pin] = lead.get("/api/lead/pins").json()["pins"]
    assert datetime.fromisoformat(pin.pop("pinned_at")).tzinfo is not None
    assert pin == {
        "image_id": third.image_id,
        "file_name": third.file_name,
        "pinned_by": "dee",
        "waits": True,
    }
    items = lead.get("/api/lead/items?state=ready").json()["items"]
    assert [item["file_name"] for item in items if item["is_pinned"]] == [third.file_name]
    lease = work(ada)
    assert lease["item"]["image_id"] == third.image_id
    assert finish(ada, lease).status_code == 201
    assert lead.get("/api/lead/pins").json() == {"pins": []}


def test_an_image_is_pinned_no_more(ada: httpx.Client, lead: httpx.Client, team: Any) -> None:
    first, _, third = team.desk.pictures
    lead.post("/api/lead/pins", json={"image": third.file_name})
    path = f"/api/lead/pins/{third.image_id}"
    assert lead.delete(path).status_code == 204
    assert problem(lead.delete(path)) == (404, "unknown")
    assert work(ada)["item"]["image_id"] == first.image_id


def test_a_pin_of_what_was_not_enqueued_yet_is_listed(lead: httpx.Client, team: Any) -> None:
    assert problem(lead.post("/api/lead/pins", json={"image": "no.png"})) == (404, "unknown")
    assert problem(lead.post("/api/lead/pins", json={"image": ""})) == (422, "invalid")
    team.desk.queue.pin(["0123"], "eve")
    [pin] = lead.get("/api/lead/pins").json()["pins"]
    assert (pin["file_name"], pin["waits"], pin["pinned_by"]) == (None, False, "eve")


def test_what_is_not_so_is_told(ada: httpx.Client, lead: httpx.Client) -> None:
    lease = work(ada)
    finish(ada, lease)
    path = f"/api/lead/items/{lease['item']['item_id']}"
    assert problem(lead.post(f"{path}/release")) == (409, "not_held")
    for verb in ("release", "reopen"):
        assert problem(lead.post(f"/api/lead/items/nothing/{verb}")) == (404, "unknown")


def test_without_sign_in_everybody_is_a_lead(
    api: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    lease = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]
    assert api.post(f"/api/lead/items/{lease['item']['item_id']}/release").status_code == 204
    assert "lead (nobody signs in here) released" in caplog.text
