"""Masks by a text on the page, with weights made here: found, decided on, sent with the text."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from playwright.sync_api import expect

from engine.clip.config import ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.clip.weights import to_bytes
from engine.model.text.prompted import TextPrompted
from engine.model.text.weights import text_card, text_to_bytes, write_text
from engine.model.weights import load, shipped
from flows.settings import ClipSettings, ModelSettings

pytestmark = [pytest.mark.browser, pytest.mark.data]

TEXT = "a bright nucleus"


@pytest.fixture
def reading(place: Any) -> Any:
    """The place with text prompts that find something everywhere."""
    root = place.workspace.root
    clip = Clip.new(ClipConfig(tokens=tokens_of([TEXT])), seed=0)
    (root / "clip.safetensors").write_bytes(to_bytes(clip))
    model, _ = load(shipped())
    torch.manual_seed(0)
    text = TextPrompted(model, clip.dim)
    text.locator.bias.data.fill_(3.0)
    data = text_to_bytes(text)
    write_text(root / "text.safetensors", data, text_card(data, model, clip, trained_on=()))
    settings = replace(
        place.workspace.settings,
        clip=ClipSettings(weights=str(root / "clip.safetensors")),
        model=ModelSettings(text="text.safetensors"),
    )
    return replace(place, workspace=replace(place.workspace, settings=settings))


def test_masks_are_found_decided_on_and_sent_with_their_text(reading: Any, visitor: Any) -> None:
    with reading.serve() as url, visitor() as ada:
        first = ada.open(url)
        offered = len(first["masks"])
        ada.press("/")
        field = ada.page.locator("#find-text")
        expect(field).to_be_focused()
        # Keys of the page are letters here.
        ada.page.keyboard.type(TEXT)
        ada.press("Enter")
        found = ada.wait("masks are found", lambda view: len(view["masks"]) > offered)
        fresh = found["masks"][offered:]
        assert {one["state"] for one in fresh} == {"undecided"}
        assert len(fresh) > 1
        expect(ada.page.locator("#said")).to_contain_text(f"found for “{TEXT}”")
        expect(ada.page.locator("#stage")).to_be_focused()
        ada.press("Control+z")
        ada.wait("it is undone", lambda view: len(view["masks"]) == offered)
        ada.press("Control+Shift+Z")
        ada.page.locator("#list .row").nth(offered).click()
        expect(ada.page.locator("#selected-text")).to_contain_text(f"found by “{TEXT}”")
        ada.page.locator("#stage").focus()
        ada.press("a", "f")
        ada.page.locator("dialog button", has_text="Reject them").click()
        ada.ready(after=first["item_id"])
        assert ada.troubles == []
    [body] = reading.bodies()
    assert [one["action"] for one in body["decisions"]] == ["rejected"] * offered
    [added] = body["added"]
    assert (added["text"], added["segmentation"]) == (TEXT, fresh[0]["segmentation"])
    assert 0 <= added["predicted_iou"] <= 1


def test_without_such_a_model_there_is_no_field(place: Any, visitor: Any) -> None:
    settings = replace(place.workspace.settings, model=ModelSettings(text="none.safetensors"))
    without = replace(place, workspace=replace(place.workspace, settings=settings))
    with without.serve() as url, visitor() as ada:
        ada.open(url)
        expect(ada.page.locator("#find")).to_be_hidden()
        ada.press("/")
        expect(ada.page.locator("#said")).to_contain_text("No model finds masks by a text here")
        assert ada.troubles == []


def test_what_ships_says_which_words_it_never_learnt(url: str, visitor: Any) -> None:
    with visitor() as ada:
        first = ada.open(url)
        ada.press("/")
        ada.page.keyboard.type("a red nucleus")
        ada.press("Enter")
        expect(ada.page.locator("#said")).to_contain_text("it never learnt 'nucleus'")
        ada.wait("nothing is found", lambda view: len(view["masks"]) == len(first["masks"]))
        assert ada.troubles == []
