"""What an item is for never reaches those who work on it: a hidden check must look like work."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.queue.people import People
from storage.queue.review import ReviewQueue
from storage.queue.schema import KINDS

PROMPT = {"points": [[30, 30]], "labels": [1]}
RUN = "run-1"
Call = tuple[str, str, dict[str, Any] | None]


class Stopped:
    """A clock that stands still, so that no answer differs by its time."""

    def now(self, _: Any) -> float:
        return 1_800_000_000.0


def calls() -> Iterator[Call]:
    """Every call of a visit, in an order in which all of them are answered."""
    yield "GET", "/api/session", None
    yield "GET", "/api/health", None
    yield "POST", "/api/peek", {}
    yield "POST", "/api/lease", {}
    for verb in ("skip", "release"):
        yield "POST", "/api/items/{item_id}/" + verb, {"lease_token": 1 + (verb == "release")}
        yield "POST", "/api/lease", {}
    yield "POST", "/api/items/{item_id}/heartbeat", {"lease_token": 3}
    yield "POST", "/api/items/{item_id}/predict", PROMPT
    yield "POST", "/api/items/{item_id}/find", {"text": "a disk"}
    yield "GET", "/api/items/{item_id}/image", None
    yield "GET", "/api/items/{item_id}/tiles/{level}/{column}/{row}", None
    yield "GET", "/api/items/{item_id}/embedding", None
    yield "GET", "/api/models/{version}/decoder/{side}", None
    answer = {"decisions": [{"proposal_id": "p0", "action": "accepted"}], "seconds": 3}
    yield "POST", "/api/items/{item_id}/submit", {"lease_token": 3, "submission": answer}
    yield "GET", "/api/progress", None
    yield "POST", "/api/lease", {}


def visit(client: httpx.Client, item_id: str) -> list[tuple[str, int, dict[str, str], str]]:
    """All that a visit is told, with the item's name, which chance gives, taken out."""
    told = []
    names = {"item_id": item_id, "version": "v1", "side": "128"}
    places = {"level": "0", "column": "0", "row": "0"}
    for method, path, body in calls():
        answer = client.request(
            method,
            path.format_map({**names, **places}),
            json=body,
            params={"run_id": RUN} if path.endswith("/progress") else None,
            headers={"Idempotency-Key": "0123456789"},
        )
        assert answer.is_success, (path, answer.text)
        headers = {name: text for name, text in answer.headers.items() if name != "date"}
        content = answer.content.decode("latin-1").replace(item_id, "ITEM")
        told.append((path, answer.status_code, headers, content))
    return told


def test_all_kinds_are_told_alike(desk: Any, tmp_path: Path) -> None:
    found = {}
    for kind in KINDS:
        queue = ReviewQueue.open(f"sqlite:///{tmp_path / kind}.sqlite", clock=Stopped())
        [picture, *_] = desk.pictures
        item = desk.new_item(picture, picture.masks[:1], run_id=RUN, stage=kind, not_for="bob")
        shown = dict(item.payload)
        item = replace(item, payload={**shown, "withheld": shown["proposals"]})
        queue.enqueue([item])
        token = People(queue.database).add("ada")
        with replace(desk, queue=queue).open() as client:
            client.headers["Authorization"] = f"Bearer {token}"
            found[kind] = visit(client, item.item_id)
        queue.close()
    for kind in KINDS:
        assert found[kind] == found["assist"]
    assert not any("withheld" in content for *_, content in found["gold"])


def test_the_visit_above_has_every_call(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    known = {path for _, path, _ in calls()}
    assert {path for path in paths if not path.startswith("/api/lead/")} == known


@pytest.mark.parametrize("word", ["stage", "not_for", "for_role", "base_priority"])
def test_no_message_of_theirs_has_a_field_for_it(api: httpx.Client, word: str) -> None:
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    assert not [name for name, each in schemas.items() if word in each.get("properties", {})]
