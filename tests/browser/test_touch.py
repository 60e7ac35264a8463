"""The page on a tablet: a finger clicks and draws boxes, two zoom and move."""

from typing import Any

import numpy as np
import pytest

from engine import rle

pytestmark = [pytest.mark.browser, pytest.mark.data]


def middle_of(box: Any) -> tuple[float, float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return (x0 + x1) / 2, (y0 + y1) / 2


class Fingers:
    """Touches as the browser gets them from a screen, in pixels of the page."""

    def __init__(self, page: Any) -> None:
        self._screen = page.context.new_cdp_session(page)

    def _send(self, kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self._screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def move(self, *paths: tuple[tuple[float, float], tuple[float, float]]) -> None:
        """All fingers go down, each along its path from one place to another, and up."""
        for count in range(1, len(paths) + 1):
            self._send("touchStart", *(start for start, _ in paths[:count]))
        for share in np.linspace(0, 1, 9):
            places = (np.array(start) + share * np.subtract(end, start) for start, end in paths)
            self._send("touchMove", *((float(x), float(y)) for x, y in places))
        self._send("touchEnd")


@pytest.fixture
def tablet(visitor: Any, url: str) -> Any:
    with visitor(has_touch=True) as someone:
        someone.open(url)
        yield someone
        assert someone.troubles == []


def test_a_finger_clicks_and_draws_a_box(tablet: Any, place: Any) -> None:
    picture = place.picture(tablet.view()["file_name"])
    missing = picture.masks[6]
    x, y = tablet.on_page(*middle_of(rle.box(missing)))
    tablet.page.touchscreen.tap(x, y)
    assert tablet.made()["clicks"] == 1
    tablet.press("Escape")
    x0, y0, x1, y1 = (float(value) for value in rle.box(picture.masks[7]))
    Fingers(tablet.page).move((tablet.on_page(x0 - 1, y0 - 1), tablet.on_page(x1 + 1, y1 + 1)))
    tablet.answered()
    made = tablet.made()["making"]
    found = rle.Rle((made["size"][0], made["size"][1]), made["counts"])
    assert rle.iou_matrix([found], [picture.masks[7]])[0, 0] > 0.5


def test_two_fingers_zoom_around_what_is_between_them_and_move_it(tablet: Any) -> None:
    # So near that the picture may move any way.
    tablet.press("+", "+", "+")
    before = tablet.view()
    x, y = tablet.on_page(100, 100)
    Fingers(tablet.page).move(((x - 40, y), (x - 80, y + 30)), ((x + 40, y), (x + 80, y + 30)))
    view = tablet.view()
    assert view["scale"] == pytest.approx(2 * before["scale"], rel=0.02)
    assert tablet.on_page(100, 100) == pytest.approx((x, y + 30), abs=2)
    assert view["making"] is None
    assert view["clicks"] == view["waiting"] == 0
