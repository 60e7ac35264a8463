"""Which windows are looked at again."""

import numpy as np
import pytest

from engine.model.closer_look import CloserLook

CLOSER = CloserLook(max_area=1500, side=256, context=3.0, min_side=64, min_zoom=1.3)


@pytest.mark.parametrize(
    ("box", "image_hw", "window"),
    [
        pytest.param((200, 100, 230, 120), (400, 500), (170, 65, 260, 155), id="three times"),
        pytest.param((200, 100, 204, 104), (400, 500), (170, 70, 234, 134), id="at least 64"),
        pytest.param((0, 380, 30, 400), (400, 500), (0, 310, 90, 400), id="moved into the image"),
        pytest.param((10, 10, 20, 20), (40, 500), (0, 0, 64, 40), id="cut in a low image"),
        pytest.param((100, 100, 230, 120), (400, 500), None, id="no closer than the image"),
    ],
)
def test_window(
    box: tuple[int, ...], image_hw: tuple[int, int], window: tuple[int, ...] | None
) -> None:
    assert CLOSER.window(np.array(box, dtype=np.float32), image_hw) == window
