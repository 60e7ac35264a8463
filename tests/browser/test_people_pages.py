"""Signing in, and the lead's page, as people meet them."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from storage.queue.items import NewItem
from storage.queue.people import People

pytestmark = [pytest.mark.browser, pytest.mark.data]


@pytest.fixture
def token(place: Any) -> Callable[..., str]:
    """Adds somebody and gives their personal token."""
    people = People(place.workspace.queue.database)

    def add(name: str, role: Any = "annotator") -> str:
        return people.add(name, role)

    return add


def test_a_personal_link_signs_in_and_leaves_no_trace(
    url: str, visitor: Any, token: Callable[..., str]
) -> None:
    secret = token("ada")
    with visitor(None) as ada:
        ada.page.goto(url)
        expect(ada.page).to_have_url(f"{url}/sign-in")
        ada.page.goto("about:blank")
        ada.page.goto(f"{url}/sign-in#{secret}")
        expect(ada.page.locator("#person")).to_have_text("ada")
        ada.ready()
        assert secret not in ada.page.evaluate("location.href + JSON.stringify(history.state)")
        expect(ada.page.locator("#lead-link")).to_be_hidden()
        ada.page.locator("#sign-out").click()
        expect(ada.page).to_have_url(f"{url}/sign-in")
        assert ada.troubles == []


def test_a_wrong_token_is_told_plainly(url: str, visitor: Any, token: Callable[..., str]) -> None:
    secret = token("ada")
    with visitor(None) as ada:
        ada.page.goto(f"{url}/sign-in#nobody-has-this")
        expect(ada.page.locator("#trouble")).to_contain_text("not known here")
        expect(ada.page).to_have_url(f"{url}/sign-in")
        ada.page.locator("#token").fill(secret)
        ada.press("Enter")
        ada.ready()


def test_a_session_that_ends_keeps_the_draft(
    place: Any, url: str, visitor: Any, token: Callable[..., str]
) -> None:
    secret = token("ada")
    with visitor(None) as ada:
        first = ada.open(f"{url}/sign-in#{secret}")
        ada.press("Shift+A")
        ada.page.context.clear_cookies()
        ada.press("Control+Enter")
        banner = ada.page.locator(".banner", has_text="Your session has ended")
        expect(banner).to_be_visible()
        assert place.bodies() == []
        banner.locator("button").click()
        ada.page.locator("#token").fill(secret)
        ada.press("Enter")
        # What waited is sent by itself, and the next item is there.
        ada.ready(after=first["item_id"])
    assert len(place.bodies()) == 1


def test_a_lead_releases_and_reopens(
    place: Any, url: str, visitor: Any, token: Callable[..., str]
) -> None:
    secrets = token("ada"), token("grace", "lead")
    with visitor(None) as ada, visitor(None) as grace:
        first = ada.open(f"{url}/sign-in#{secrets[0]}")
        ada.press("Shift+A", "Control+Enter")
        second = ada.ready(after=first["item_id"])
        grace.page.goto(f"{url}/sign-in#{secrets[1]}")
        expect(grace.page).to_have_url(f"{url}/lead")
        expect(grace.page.locator("#done")).to_have_text("1")
        expect(grace.page.locator("#leased")).to_have_text("1")
        expect(grace.page.locator("#people")).to_contain_text("ada")
        expect(grace.page.locator("#models")).to_contain_text("6 (100 %)")
        grace.page.locator("#holders button", has_text="Release").click()
        grace.page.locator("dialog button", has_text="Release").click()
        expect(grace.page.locator("#holders")).to_have_text("Nobody holds anything.")
        grace.page.locator("#finished button", has_text="Reopen").click()
        expect(grace.page.locator("#done")).to_have_text("0")
        # Whoever held it hears of it, and loses nothing.
        ada.press("Tab", "r", "Shift+A", "Control+Enter")
        lost = ada.page.locator(".banner", has_text=f"{second['file_name']} is no longer yours")
        expect(lost).to_be_visible()
        assert grace.troubles == ada.troubles == []
    assert len(place.bodies()) == 1


def test_a_lead_says_what_comes_first(
    place: Any, url: str, visitor: Any, token: Callable[..., str]
) -> None:
    queue = place.workspace.queue
    before = queue.ready_items(["assist"])
    last = queue.item(before[-1].item_id)
    shared = ("image_id", "file_name", "height", "width", "model_version", "run_id", "iteration")
    values = {name: getattr(last, name) for name in shared}
    queue.enqueue([NewItem(**values, stage="dispute", for_role="lead", priority=-9.0)])
    with visitor(None) as grace:
        grace.page.goto(f"{url}/sign-in#{token('grace', 'lead')}")
        expect(grace.page).to_have_url(f"{url}/lead")
        pins, disputes = grace.page.locator("#pins"), grace.page.locator("#disputes")
        expect(disputes).to_contain_text("waits for a lead")
        grace.page.get_by_label("Picture").fill(last.file_name)
        grace.press("Enter")
        expect(pins).to_contain_text(last.file_name)
        expect(grace.page.get_by_label("Picture")).to_have_value("")
        assert queue.ready_items(["assist"])[0].item_id == last.item_id
        disputes.locator("button", has_text="Unpin").click()
        expect(pins).to_have_text("No picture is pinned.")
        disputes.locator("button", has_text="Pin").click()
        expect(pins).to_contain_text("grace")
        pins.locator("button", has_text="Unpin").click()
        expect(pins).to_have_text("No picture is pinned.")
        grace.page.get_by_label("Picture").fill("no such picture")
        grace.press("Enter")
        expect(grace.page.locator("#said")).to_contain_text("no item in the queue is of")
        expect(grace.page.get_by_label("Picture")).to_have_value("no such picture")
    assert queue.ready_items(["assist"]) == before
