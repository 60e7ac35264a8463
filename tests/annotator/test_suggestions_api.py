"""Names that proposals come with, as the page gets them."""

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("categories", "shown"),
    [((), ["disk", "ring", None]), (("ring", "cube"), [None, "ring", None])],
    ids=["any name will do", "the project has names"],
)
def test_names_are_suggested_that_an_answer_may_have(
    desk: Any, categories: tuple[str, ...], shown: list[str | None]
) -> None:
    [picture, *_] = desk.pictures
    item = desk.new_item(picture, picture.masks, model_version="v2", priority=9.0)
    proposals = item.payload["proposals"]
    for proposal, name in zip(proposals, ("disk", "ring"), strict=False):
        proposal["suggestion"] = {"category": name, "score": 0.83, "classes_hash": "few"}
    # As an earlier maskloop wrote it.
    del proposals[2]["suggestion"]
    desk.queue.enqueue([item])
    with desk.open(categories=categories) as api:
        lease = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]
    found = lease["item"]["proposals"]
    said = [proposal.get("suggestion") for proposal in found]
    assert [suggestion and suggestion["category"] for suggestion in said] == shown
    assert all(suggestion["score"] == 0.83 for suggestion in said if suggestion)
