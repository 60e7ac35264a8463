"""A text in, masks out, as safely as a click."""

from typing import Any

import httpx
import pytest

from storage.queue.people import People


def leased(api: httpx.Client, who: str = "ada") -> dict[str, Any]:
    lease = api.post("/api/lease", json={"annotator": who}).json()["lease"]
    return dict(lease["item"])


def find(api: httpx.Client, item_id: str, **body: Any) -> httpx.Response:
    return api.post(f"/api/items/{item_id}/find", json=body)


def test_all_that_a_text_means_is_found_with_how_likely_it_is(api: httpx.Client, desk: Any) -> None:
    item = leased(api)
    assert item["reads_text"] is True
    answer = find(api, item["item_id"], text="a red disk").json()
    [picture] = [one for one in desk.pictures if one.image_id == item["image_id"]]
    assert len(answer["masks"]) == len(picture.masks)
    assert {(one["score"], one["predicted_iou"]) for one in answer["masks"]} == {(0.8, 1.0)}
    assert (answer["presence"], answer["model_version"]) == (0.9, "v1")
    nothing = find(api, item["item_id"], text="a mug").json()
    assert (nothing["masks"], nothing["presence"]) == ([], 0.1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": ""},
        {"text": "  "},
        {"text": "?!"},
        {"text": "disk\n"},
        {"text": "d" * 201},
        {"text": 5},
        {"text": "disk", "clip": "/etc/passwd"},
    ],
)
def test_what_is_no_text_is_refused(api: httpx.Client, body: dict[str, Any]) -> None:
    answer = find(api, leased(api)["item_id"], **body)
    assert answer.status_code == 422
    assert answer.json()["error"] == "invalid"


def test_a_model_that_reads_no_texts_says_what_is_missing(desk: Any) -> None:
    item = desk.new_item(desk.pictures[0], model_version="v2", priority=9.0)
    desk.queue.enqueue([item])
    with desk.open() as api:
        given = leased(api)
        assert given["reads_text"] is False
        answer = find(api, given["item_id"], text="disk")
    assert answer.status_code == 422
    assert answer.json()["message"] == "model.text: none.safetensors: no such file"


def test_an_item_that_is_not_there_is_unknown(api: httpx.Client) -> None:
    assert find(api, "nothing", text="disk").status_code == 404


def test_nobody_asks_about_another_s_item_nor_without_the_session_s_token(desk: Any) -> None:
    people = People(desk.queue.database)
    tokens = {name: people.add(name) for name in ("ada", "bob")}
    with desk.open() as api:
        as_ada = {"Authorization": f"Bearer {tokens['ada']}"}
        item_id = api.post("/api/lease", json={}, headers=as_ada).json()["lease"]["item"]["item_id"]
        path, body = f"/api/items/{item_id}/find", {"text": "disk"}
        assert api.post(path, json=body).status_code == 401
        as_bob = {"Authorization": f"Bearer {tokens['bob']}"}
        assert api.post(path, json=body, headers=as_bob).status_code == 404
        assert api.post(path, json=body, headers=as_ada).status_code == 200
        session = api.post("/api/session", json={"token": tokens["ada"]}).json()
        assert api.post(path, json=body).status_code == 403
        by_page = {"X-CSRF-Token": session["csrf_token"]}
        assert api.post(path, json=body, headers=by_page).status_code == 200
