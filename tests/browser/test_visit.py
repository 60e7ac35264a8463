"""A whole visit to real images, with the mouse and without; the store gets what was seen."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from annotator.submission import Submission
from engine import rle
from engine.rle import Rle

pytestmark = [pytest.mark.browser, pytest.mark.data]

Standing = Callable[[dict[str, Any], dict[str, Any]], dict[str, Rle]]


def middle(mask: Rle) -> tuple[float, float]:
    """A pixel well inside of a mask: the middle of its longest run in its middle column."""
    pixels = rle.decode(mask)
    columns = np.flatnonzero(pixels.any(axis=0))
    x = int(columns[len(columns) // 2])
    rows = np.flatnonzero(pixels[:, x])
    return x + 0.5, int(rows[len(rows) // 2]) + 0.5


def shapes(view: dict[str, Any]) -> dict[str, Any]:
    return {mask["id"]: mask["segmentation"] for mask in view["masks"]}


def spots() -> Iterator[tuple[float, float]]:
    for y in range(4, 256, 9):
        for x in range(4, 256, 9):
            yield x + 0.5, y + 0.5


def assert_shown(someone: Any, masks: dict[str, Rle]) -> None:
    """Each spot of the canvas shows the smallest of the masks that are there, or none."""
    pixels = {name: rle.decode(mask) for name, mask in masks.items()}
    by_size = sorted(pixels, key=lambda name: int(pixels[name].sum()))
    height, width = next(iter(pixels.values())).shape
    seen = {
        (x, y): next((name for name in by_size if pixels[name][int(y), int(x)]), None)
        for x, y in spots()
        if x < width and y < height
    }
    assert len(set(seen.values())) > 3, "the spots show little"
    found = someone.page.evaluate(
        "spots => spots.map(([x, y]) => window.maskloop.view().at(x, y))",
        [list(spot) for spot in seen],
    )
    assert found == list(seen.values())


def work_by_mouse(ada: Any, picture: Any) -> None:
    """Two masks are added, one proposal is corrected, the others are decided."""
    add_by_clicks(ada, picture.masks[6])
    add_by_box_and_brush(ada, picture.masks[7])
    # A proposal is corrected: selected by a click, then clicked into.
    ada.click(*middle(picture.masks[0]))
    assert ada.view()["selected"] == "p0"
    ada.click(*middle(picture.masks[0]))
    assert ada.made()["answer"]["making"]["target"] == "p0"
    ada.press("Enter")
    # Others are decided by keys, from the least certain on, by the panel, and by the filter.
    ada.press("Tab", "a", "Tab", "r")
    ada.page.locator("#list .row", has_text="74 %").click()
    ada.page.locator("#selected [data-command=accept]").click()
    before = ada.view()["answer"]
    ada.press("Control+z", "Control+z", "Control+y", "Control+Shift+Z")
    assert ada.view()["answer"] == before
    ada.page.locator("#filter summary").click()
    ada.page.locator("#min-iou").fill("75")
    ada.page.locator("#accept-listed").click()
    ada.page.locator("#min-iou").fill("0")
    ada.page.locator("#complete").check()


def add_by_clicks(ada: Any, missing: Rle) -> None:
    # The mask shows while the pointer hovers, before any click.
    ada.point(*middle(missing))
    ada.wait("a hover's mask", lambda view: view["hovered"])
    ada.click(*middle(missing))
    ada.made()
    expect(ada.page.locator("[data-command=whole]")).to_be_enabled()
    ada.press("2", "1", "3", "Enter")


def add_by_box_and_brush(ada: Any, missing: Rle) -> None:
    """A box, a click that takes away, and the last pixels with brush and eraser."""
    x0, y0, x1, y1 = (float(value) for value in rle.box(missing))
    ada.drag((x0 - 1, y0 - 1), (x1 + 1, y1 + 1))
    ada.made()
    ada.click(x0 - 6 if x0 > 8 else x1 + 6, y0, button="right")
    x, y = middle(missing)
    ada.press("b", "[")
    ada.drag((x, y), (x + 4, y + 3))
    ada.press("e")
    ada.drag((x + 4, y + 3), (x + 5, y + 4))
    ada.press("n", "v")


def test_by_mouse_the_store_gets_what_the_screen_showed(
    place: Any, url: str, visitor: Any, standing: Standing
) -> None:
    with visitor() as ada:
        first = ada.open(url)
        work_by_mouse(ada, place.picture(first["file_name"]))
        ada.press("Escape", "0")
        ada.page.mouse.move(5, 5)
        shown = ada.wait("all is painted", lambda view: view["is_painted"])
        ada.press("f")
        # What is still undecided is asked about.
        ada.page.locator("dialog button", has_text="Accept them").click()
        second = ada.ready(after=first["item_id"])
        assert second["file_name"] != first["file_name"]
        assert ada.troubles == []
    [body] = place.bodies()
    on_screen = shapes(shown)
    for name, mask in standing(body, shapes(first)).items():
        assert on_screen[name] == {"size": list(mask.size), "counts": mask.counts}, name
    actions = {one["proposal_id"]: one["action"] for one in body["decisions"]}
    assert actions["p0"] == "edited"
    assert sorted(actions.values()).count("rejected") == 1
    assert body["complete"] is True
    assert 0 < body["seconds"] < 300
    check_clicks(body["added"])


def check_clicks(added: list[dict[str, Any]]) -> None:
    """Each click is kept with its time and the mask that was shown after it."""
    assert [mask["drawn"] for mask in added] == [False, True]
    [[first], [second]] = [mask["clicks"] for mask in added]
    assert (first["label"], second["label"]) == (1, 0)
    assert added[0]["segmentation"] == first["segmentation"]
    assert added[1]["segmentation"] != second["segmentation"], "the brush finished it"
    assert 0 < first["at_s"] < second["at_s"]
    assert 0 < first["predicted_iou"] <= 1


def test_what_the_canvas_shows_is_what_is_submitted(
    place: Any, url: str, visitor: Any, standing: Standing
) -> None:
    with visitor() as ada:
        first = ada.open(url)
        ada.press("Tab", "r", "Escape", "Shift+A", "0")
        shown = ada.wait("all is painted", lambda view: view["is_painted"])
        masks = {
            mask["id"]: Rle(tuple(mask["segmentation"]["size"]), mask["segmentation"]["counts"])
            for mask in shown["masks"]
            if mask["state"] != "rejected"
        }
        assert_shown(ada, masks)
        # And so it is when magnified, after moving.
        ada.press("+", "+", "ArrowRight", "ArrowDown")
        ada.page.wait_for_timeout(300)
        ada.press("0")
        ada.wait("all is painted", lambda view: view["is_painted"])
        assert_shown(ada, masks)
        ada.press("Control+Enter")
        ada.ready(after=first["item_id"])
    [body] = place.bodies()
    assert standing(body, shapes(first)) == masks


def test_by_keyboard_alone(place: Any, url: str, visitor: Any) -> None:
    with visitor() as ada:
        first = ada.open(url)
        picture = place.picture(first["file_name"])
        ada.press("Tab", "a", "Shift+Tab", "r", "Escape")
        # The crosshair goes to an object that is missing, and X clicks there.
        ada.press("c")
        walk(ada, middle(picture.masks[6]))
        ada.press("x")
        ada.made()
        ada.answered()
        ada.press("1", "Enter")
        # A box from corner to corner.
        x0, y0, x1, y1 = (float(value) for value in rle.box(picture.masks[7]))
        walk(ada, (x0 - 1, y0 - 1))
        ada.press("z")
        walk(ada, (x1 + 1, y1 + 1))
        ada.press("z")
        ada.made()
        ada.press("Enter")
        # The brush dabs.
        walk(ada, middle(picture.masks[8]))
        ada.press("b", "x", "Enter", "v")
        # From the picture to the tools, to the list, and back; buttons keep their own keys.
        ada.press("F6")
        expect(ada.page.locator("[data-command=tool-click]")).to_be_focused()
        ada.press("Tab", "Enter")
        expect(ada.page.locator("[data-command=tool-brush]")).to_have_attribute(
            "aria-pressed", "true"
        )
        ada.press("F6")
        expect(ada.page.locator("#list")).to_be_focused()
        ada.press("ArrowDown", "a", "F6")
        expect(ada.page.locator("#stage")).to_be_focused()
        ada.press("?")
        expect(ada.page.locator("#keys")).to_be_visible()
        ada.press("Escape", "o", "Control+Enter")
        # Undecided proposals are asked about; the dialog has the focus.
        expect(ada.page.locator("dialog h2", has_text="undecided")).to_be_visible()
        ada.press("Shift+Tab", "Shift+Tab", "Enter")
        ada.ready(after=first["item_id"])
        assert ada.troubles == []
    [body] = place.bodies()
    assert [len(mask["clicks"]) for mask in body["added"]] == [1, 0, 0]
    assert [mask["drawn"] for mask in body["added"]] == [False, False, True]
    assert body["complete"] is True
    assert Submission.parse(body).added[0].segmentation.size == picture.masks[0].size


def walk(someone: Any, to: tuple[float, float]) -> None:
    """Move the crosshair to a pixel of the picture by arrow keys, to within a step of 4 pixels."""
    for _ in range(400):
        view = someone.view()
        x, y = view["crosshair"]["x"], view["crosshair"]["y"]
        steps = (
            ((to[0] - x) * view["scale"], "Right", "Left"),
            ((to[1] - y) * view["scale"], "Down", "Up"),
        )
        size, forth, back = max(steps, key=lambda step: abs(step[0]))
        if abs(size) <= 2.5:
            return
        far = "Shift+" if abs(size) >= 40 else ""
        someone.press(f"{far}Arrow{forth if size > 0 else back}")
    raise AssertionError(f"the crosshair did not come to {to}")


def test_two_people_at_once_get_different_images(place: Any, url: str, visitor: Any) -> None:
    with visitor("ada") as ada, visitor("grace") as grace:
        items = [ada.open(url)["item_id"], grace.open(url)["item_id"]]
        assert len(set(items)) == 2
        for someone, item in zip((ada, grace), items, strict=True):
            someone.press("Shift+A", "Control+Enter")
            someone.wait("the answer is sent", lambda view, item=item: view["item_id"] != item)
        assert len(place.bodies()) == 2
        # One is left, and ada asked first.
        expect(grace.page.locator("#curtain-title")).to_have_text("Nothing waits")
        expect(grace.page.locator("#curtain-note")).to_contain_text(
            "2 done, 1 is in other people's hands"
        )


def test_one_tab_works_at_a_time(url: str, visitor: Any) -> None:
    with visitor() as ada:
        first = ada.open(url)
        ada.press("Tab", "a")
        second = ada.page.context.new_page()
        second.goto(url)
        expect(second.locator("#curtain-title")).to_have_text(
            "Another tab of this browser works on this"
        )
        second.locator("#curtain-choices button").click()
        expect(second.locator("#subject")).to_have_text(first["file_name"])
        expect(ada.page.locator("#curtain-title")).to_have_text("The work went on in another tab")
        # What was done in the first tab is in the second.
        answer = second.evaluate("window.maskloop.view().answer")
        assert answer["decisions"] == {"p0": {"action": "accepted"}}
