"""What a page needs to answer clicks by itself: who decodes, embeddings, graphs, the next item."""

from typing import Any

import httpx
import pytest

from annotator.routers import access
from engine.model.embedding import ImageEmbedding

ADA = {"annotator": "ada"}
ASK_AGAIN = "private, no-cache"
DECODER = "/api/models/v1/decoder/128"


def lease(api: httpx.Client, annotator: str = "ada") -> dict[str, Any]:
    return dict(api.post("/api/lease", json={"annotator": annotator}).json()["lease"]["item"])


def test_an_item_says_how_to_decode_it(api: httpx.Client) -> None:
    item = lease(api)
    assert item["picture"] == {"levels": 1, "tile": 512}
    assert item["decoder"] == {
        "version": "v1",
        "side": 128,
        "logits_side": 128,
        "closer_look": {
            "max_area": 50.0,
            "side": 64,
            "context": 3.0,
            "min_side": 64,
            "min_zoom": 1.3,
        },
        "urls": {side: f"/api/models/v1/decoder/{side}?revision=abc-1" for side in ("128", "64")},
    }


@pytest.mark.parametrize("version", ["v2", "v9"], ids=["too slow for a page", "model gone"])
def test_an_item_that_only_the_server_decodes(desk: Any, api: httpx.Client, version: str) -> None:
    desk.queue.enqueue([desk.new_item(desk.pictures[0], model_version=version, priority=9.0)])
    item = lease(api)
    assert item["model_version"] == version
    assert item["decoder"] is None


def test_an_embedding_of_all_and_of_a_window(api: httpx.Client) -> None:
    path = f"/api/items/{lease(api)['item_id']}/embedding"
    whole = api.get(path)
    assert whole.status_code == 200
    assert ImageEmbedding.from_bytes(whole.content).frame.original_hw == (96, 128)
    part = api.get(path, params={"window": "10,20,42,52"})
    assert ImageEmbedding.from_bytes(part.content).frame.original_hw == (32, 32)
    assert part.headers["ETag"] != whole.headers["ETag"]


def test_a_kept_embedding_is_asked_for_again_and_not_sent_again(api: httpx.Client) -> None:
    path = f"/api/items/{lease(api)['item_id']}/embedding"
    first = api.get(path)
    # Another workspace at the same address may have another v1 for the same image.
    assert first.headers["Cache-Control"] == ASK_AGAIN
    again = api.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == ASK_AGAIN


@pytest.mark.parametrize(
    "window",
    [
        pytest.param("0,0,500,10", id="beyond the image"),
        pytest.param("0,0,5", id="three numbers"),
        pytest.param("-1,0,5,5", id="negative"),
        pytest.param("0,0,1e3,5", id="not whole"),
        pytest.param("", id="empty"),
        pytest.param("0,0,5,5,5", id="five numbers"),
        pytest.param("0,0,99999999,5", id="too long"),
    ],
)
def test_a_window_that_makes_no_sense_names_the_field(api: httpx.Client, window: str) -> None:
    answer = api.get(f"/api/items/{lease(api)['item_id']}/embedding", params={"window": window})
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("window:")


def test_no_embedding_of_what_there_is_not(desk: Any, api: httpx.Client) -> None:
    desk.queue.enqueue([desk.new_item(desk.pictures[0], item_id="gone", image_id="f" * 32)])
    for item_id in ("none", "gone"):
        answer = api.get(f"/api/items/{item_id}/embedding")
        assert (answer.status_code, answer.json()["error"]) == (404, "unknown")
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_decoder_by_its_url_is_kept_for_ever(api: httpx.Client) -> None:
    for side, url in lease(api)["decoder"]["urls"].items():
        answer = api.get(url)
        assert answer.content == f"the graph of v1 for {side}".encode()
        assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize("query", ["", "?revision=older-1"], ids=["none named", "another"])
def test_a_decoder_of_whichever_revision_is_asked_for_again(api: httpx.Client, query: str) -> None:
    first = api.get(DECODER + query)
    assert first.status_code == 200
    assert first.headers["Cache-Control"] == ASK_AGAIN
    again = api.get(DECODER + query, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("v1/decoder/100", 404, id="another side"),
        pytest.param("v2/decoder/128", 404, id="decoded on the server"),
        pytest.param("v9/decoder/128", 404, id="no such version"),
        pytest.param("v1/decoder/huge", 422, id="no number"),
        pytest.param("v1/decoder/0", 422, id="no side"),
        pytest.param("..%2fv1/decoder/128", 404, id="a path"),
        pytest.param("v%201/decoder/128", 422, id="no version"),
    ],
)
def test_no_decoder_of_what_there_is_not(api: httpx.Client, path: str, status: int) -> None:
    answer = api.get(f"/api/models/{path}")
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "message", "remedy"}


def test_a_peek_shows_the_next_item_and_claims_nothing(desk: Any, api: httpx.Client) -> None:
    lease(api)
    counts = desk.queue.counts()
    for _ in range(2):
        answer = api.post("/api/peek", json=ADA)
        assert answer.status_code == 200
        assert answer.json()["item"]["file_name"] == "picture-2.png"
        assert answer.json()["item"]["decoder"]["version"] == "v1"
    assert desk.queue.counts() == counts
    assert lease(api, "bob") == answer.json()["item"]


def test_a_peek_where_nothing_waits(api: httpx.Client) -> None:
    for name in ("ada", "bob", "cy"):
        lease(api, name)
    assert api.post("/api/peek", json=ADA).json() == {"item": None}
    assert api.post("/api/peek", json={"annotator": ""}).status_code == 422


def test_one_function_decides_who_sees_an_item(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id = lease(api)["item_id"]
    click = {"points": [[30, 30]], "labels": [1]}
    asked: list[str] = []

    def refuse(item_id: str, caller: Any) -> bool:
        asked.append(f"{caller.url.path} {item_id}")
        return False

    monkeypatch.setattr(access, "readable", refuse)
    for path in ("image", "tiles/0/0/0", "embedding"):
        answer = api.get(f"/api/items/{item_id}/{path}")
        assert (answer.status_code, answer.json()["error"]) == (404, "unknown")
    assert api.post(f"/api/items/{item_id}/predict", json=click).status_code == 404
    assert asked == [
        f"/api/items/{item_id}/{path} {item_id}"
        for path in ("image", "tiles/0/0/0", "embedding", "predict")
    ]
