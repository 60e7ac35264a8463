"""Lost connections, closed pages, ended leases: nothing is lost, and the page says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.data]


def banner(someone: Any, text: str) -> Any:
    return someone.page.locator(".banner", has_text=text)


def test_offline_and_back(place: Any, url: str, visitor: Any) -> None:
    with visitor() as ada:
        first = ada.open(url)
        ada.page.context.set_offline(True)
        expect(banner(ada, "Go on working")).to_be_visible()
        # Work goes on, and the finished answer waits.
        ada.press("Tab", "a", "Shift+A", "Control+Enter")
        expect(banner(ada, "Your answer is safe in this browser")).to_be_visible()
        assert place.bodies() == []
        assert ada.view()["item_id"] == first["item_id"]
        # It can be taken back while it waits, and sent again.
        ada.press("d")
        expect(banner(ada, "Your answer is safe in this browser")).to_have_count(0)
        ada.press("Tab", "r", "Control+Enter")
        expect(banner(ada, "Your answer is safe in this browser")).to_be_visible()
        ada.page.context.set_offline(False)
        ada.ready(after=first["item_id"])
        expect(ada.page.locator(".banner")).to_have_count(0)
    [body] = place.bodies()
    assert sorted(one["action"] for one in body["decisions"]).count("rejected") == 1


def test_a_closed_page_loses_nothing(place: Any, url: str, visitor: Any) -> None:
    with visitor() as ada:
        first = ada.open(url)
        x, y = (5.5, 5.5)
        ada.press("Tab", "a", "Escape", "b")
        ada.drag((x, y), (x + 20, y + 8))
        ada.press("Enter")
        ada.drag((x, y + 30), (x + 20, y + 40))
        before = ada.made()
        expect(ada.page.locator("#kept")).to_have_text("Kept in this browser")
        context = ada.page.context
        ada.page.close()
        ada.page = context.new_page()
        again = ada.open(url)
        assert again["item_id"] == first["item_id"]
        assert again["lease_token"] == first["lease_token"]
        assert again["masks"] == before["masks"]
        assert again["making"] == before["making"]
        # Undo and redo go back and forth over what was done before the page was closed.
        ada.press("Control+z", "Control+z", "Control+z")
        ada.wait("all is undone", lambda view: view["answer"]["added"] == [])
        ada.press("Control+y", "Control+y", "Control+y")
        assert ada.made()["masks"] == before["masks"]
        ada.press("Enter", "Shift+A", "Control+Enter")
        ada.ready(after=first["item_id"])
        # The draft is gone once the server has the answer.
        ada.page.reload()
        assert ada.ready()["answer"]["added"] == []
    [body] = place.bodies()
    assert len(body["added"]) == 2


def test_a_lost_lease_is_explained_and_the_work_kept(
    place: Any, url: str, visitor: Any, tmp_path: Path
) -> None:
    queue = place.workspace.queue
    with visitor() as ada:
        first = ada.open(url)
        ada.press("Shift+A")
        queue.release(first["item_id"], first["lease_token"], "ada")
        other = queue.claim("grace")
        assert other is not None
        assert other.item.item_id == first["item_id"]
        ada.press("Control+Enter")
        lost = banner(ada, f"{first['file_name']} is no longer yours")
        expect(lost).to_be_visible()
        with ada.page.expect_download() as download:
            lost.locator("button", has_text="Keep as a file").click()
        file = tmp_path / "draft.json"
        download.value.save_as(file)
        kept = json.loads(file.read_text())
        assert kept["item_id"] == first["item_id"]
        assert len(kept["submission"]["decisions"]) == 6
        # Somebody else has it: the next one opens, and the draft is still offered.
        lost.locator("button", has_text="Try to take it again").click()
        ada.ready(after=first["item_id"])
        expect(lost).to_be_visible()
        # Once it is free it comes back with all that was done.
        queue.release(first["item_id"], other.lease_token, "grace")
        ada.press("s")
        again = ada.wait("the first item", lambda view: view["item_id"] == first["item_id"])
        assert len(again["answer"]["decisions"]) == 6
        expect(lost).to_have_count(0)
        ada.press("Control+Enter")
        ada.ready(after=first["item_id"])
    assert len(place.bodies()) == 1


def test_a_busy_server_is_asked_again_when_it_says(place: Any, url: str, visitor: Any) -> None:
    with visitor() as ada:
        first = ada.open(url)
        refusals = [0]

        def busy(route: Any) -> None:
            refusals[0] += 1
            if refusals[0] > 2:
                route.continue_()
                return
            problem = {"error": "unavailable", "message": "the queue is busy", "remedy": "wait"}
            route.fulfill(status=503, headers={"Retry-After": "1"}, json=problem)

        ada.page.route("**/submit", busy)
        ada.press("Shift+A", "Control+Enter")
        expect(banner(ada, "The queue is busy")).to_be_visible()
        ada.ready(after=first["item_id"])
        assert refusals == [3]
    assert len(place.bodies()) == 1
