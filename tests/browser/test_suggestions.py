"""Suggested names on the page: asked, never taken along, a key and a button to confirm them."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from annotator.item import ItemPayload, Proposal, Suggestion
from storage.queue.items import NewItem

pytestmark = [pytest.mark.browser, pytest.mark.data]

SAID = (("nucleus", 0.83), ("debris", 0.61), None, ("nucleus", 0.97))


def proposals_of(picture: Any) -> list[Proposal]:
    """The largest nuclei, each more certain than the one before, with what they may show."""
    return [
        Proposal.of(
            mask,
            proposal_id=f"p{number}",
            predicted_iou=0.7 + 0.05 * number,
            stability_score=0.95,
            suggestion=said and Suggestion(category=said[0], score=said[1], classes_hash="few"),
        )
        for number, (mask, said) in enumerate(zip(picture.masks, SAID, strict=False))
    ]


@pytest.fixture
def ada(place: Any, url: str, visitor: Any) -> Iterator[Any]:
    """A visitor who is given a picture on which names are suggested."""
    picture = place.pictures[0]
    [row] = place.workspace.lake.rows(
        "SELECT image_id, file_name, height, width FROM images WHERE file_name = ?",
        (picture.file_name,),
    )
    [version] = place.workspace.lake.rows("SELECT version FROM model_versions LIMIT 1")
    item = NewItem(
        **row,
        model_version=version["version"],
        run_id="run-1",
        iteration=1,
        priority=9.0,
        payload=ItemPayload(proposals=proposals_of(picture)).to_dict(),
        stage="audit",
    )
    place.workspace.queue.enqueue([item])
    with visitor() as ada:
        ada.open(url)
        yield ada
        assert ada.troubles == []


def test_a_name_is_asked_and_only_what_was_confirmed_is_sent(place: Any, ada: Any) -> None:
    rows = ada.page.locator("#list .row .state")
    expect(rows).to_have_text(
        [
            "to decide nucleus 83 %?",
            "to decide debris 61 %?",
            "to decide",
            "to decide nucleus 97 %?",
        ]
    )
    first = ada.view()["item_id"]
    ada.press("Tab")
    expect(ada.page.locator("#confirm")).to_have_text("Accept as nucleus 83 %?Y")
    ada.press("a")
    expect(rows.nth(0)).to_have_text("accepted nucleus 83 %?")
    ada.press("Tab")
    ada.page.locator("#confirm").click()
    expect(rows.nth(1)).to_have_text("accepted: debris")
    ada.press("Tab")
    expect(ada.page.locator("#confirm")).to_be_disabled()
    ada.press("y")
    expect(ada.page.locator("#said")).to_have_text("No name is suggested for it.")
    ada.press("Shift+A", "f")
    ada.ready(after=first)
    [body] = place.bodies()
    decided = {one["proposal_id"]: one for one in body["decisions"]}
    assert {one["action"] for one in decided.values()} == {"accepted"}
    names = {name: one.get("category") for name, one in decided.items()}
    assert names == {"p0": None, "p1": "debris", "p2": None, "p3": None}


def test_all_shown_are_accepted_with_their_names_in_one_step(place: Any, ada: Any) -> None:
    first = ada.view()["item_id"]
    button = ada.page.locator("#confirm-listed")
    expect(button).to_have_text("Accept with names (3)")
    ada.press("Shift+Y")
    expect(button).to_be_disabled()
    ada.press("Control+z")
    expect(button).to_have_text("Accept with names (3)")
    button.click()
    # Of those that are named, one is something else.
    ada.press("Tab", "r")
    ada.page.locator("#list .row").nth(1).click()
    ada.page.locator("#category").select_option("nucleus")
    ada.page.locator("#stage").focus()
    ada.press("f")
    ada.ready(after=first)
    [body] = place.bodies()
    sent = {one["proposal_id"]: (one["action"], one.get("category")) for one in body["decisions"]}
    assert sent == {
        "p0": ("accepted", "nucleus"),
        "p1": ("accepted", "nucleus"),
        "p2": ("rejected", None),
        "p3": ("accepted", "nucleus"),
    }
