"""A picture that comes in tiles: what the canvas shows while it is dragged about and zoomed."""

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotator.item import ItemPayload
from flows import workspace as workspaces
from flows.annotating.people import annotator_server
from flows.intake.adding import add_images
from flows.models.serving import ensure_base
from flows.progress import Silent
from flows.recipes import recipe_named
from storage.queue.items import NewItem

pytestmark = [pytest.mark.browser, pytest.mark.data]

TILED = (3072, 4096)
# On the mean of each colour: the screen shows pixels a little larger, smoothed.
CLOSE = 3


@pytest.fixture
def pixels(data_dir: Path) -> Any:
    """Images of nuclei side by side, each in a colour of its own."""
    document = json.loads((data_dir / "nuclei" / "annotations.json").read_text())
    names = [image["file_name"] for image in document["images"] if image["height"] == 256]
    height, width = TILED
    found = np.empty((height, width, 3), np.uint8)
    for place in range((height // 256) * (width // 256)):
        row, column = 256 * (place // (width // 256)), 256 * (place % (width // 256))
        path = data_dir / "nuclei" / "images" / names[place % len(names)]
        image = np.asarray(Image.open(path).convert("RGB").resize((256, 256)))
        tint = np.array([place * 37 % 160, place * 59 % 160, place * 83 % 160])
        found[row : row + 256, column : column + 256] = np.minimum(255, image // 3 + tint)
    return found


@pytest.fixture
def tiled_url(
    built_page: None,  # noqa: ARG001 (asked for to skip)
    pixels: Any,
    tmp_path: Path,
) -> Iterator[str]:
    """The address of a server whose only item is that picture."""
    path = tmp_path / "plate.png"
    Image.fromarray(pixels).save(path, compress_level=1)
    workspace = workspaces.create(tmp_path / "workspace")
    add_images(workspace, [str(path)], strict=True, progress=lambda *_: None)
    version = ensure_base(workspace, recipe_named("nano"), Silent())
    [row] = workspace.lake.rows("SELECT image_id, file_name, height, width FROM images")
    item = NewItem(
        **row,
        model_version=version,
        run_id="run-1",
        iteration=1,
        payload=ItemPayload(proposals=[]).to_dict(),
    )
    workspace.queue.enqueue([item])
    with annotator_server(workspace) as address:
        yield address
    workspace.close()


def screenshot(ada: Any) -> tuple[Any, dict[str, float]]:
    """(H, W, 3) of the page, and where the corner of the stage is."""
    box = ada.page.locator("#stage").bounding_box()
    shot = np.asarray(Image.open(BytesIO(ada.page.screenshot())).convert("RGB"))
    return shot, box


def differs(ada: Any, pixels: Any) -> float:
    """The mean difference between what the stage shows and the same part of the picture."""
    view = ada.view()
    shot, box = screenshot(ada)
    height, width = pixels.shape[:2]
    # Spots away from the edges of the stage, where buttons and banners may lie.
    xs = np.arange(box["x"] + 80, box["x"] + box["width"] - 80, 23).astype(int)
    ys = np.arange(box["y"] + 90, box["y"] + box["height"] - 90, 23).astype(int)
    across = (xs + 0.5 - box["x"] - view["x"]) / view["scale"]
    down = (ys + 0.5 - box["y"] - view["y"]) / view["scale"]
    xs, across = xs[(across >= 0) & (across < width)], across[(across >= 0) & (across < width)]
    ys, down = ys[(down >= 0) & (down < height)], down[(down >= 0) & (down < height)]
    assert len(xs) > 8, "little of the picture is in sight"
    assert len(ys) > 8, "little of the picture is in sight"
    shown = shot[np.ix_(ys, xs)].astype(float)
    true = pixels[np.ix_(down.astype(int), across.astype(int))].astype(float)
    return float(np.abs(shown - true).mean())


def shows(ada: Any, pixels: Any) -> None:
    """Wait until the stage shows the picture as it is."""
    for _ in range(100):
        if (found := differs(ada, pixels)) < CLOSE:
            return
        ada.page.wait_for_timeout(100)
    raise AssertionError(f"the stage differs from the picture by {found:.1f} on the mean")


def test_tiles_show_the_picture_wherever_one_looks(
    tiled_url: str, pixels: Any, visitor: Callable[..., Any]
) -> None:
    with visitor() as ada:
        ada.open(tiled_url)
        x, y = ada.on_page(TILED[1] / 2, TILED[0] / 2)
        while ada.view()["scale"] < 1:
            ada.press("+")
        ada.page.mouse.move(1, 1)
        shows(ada, pixels)
        # In small steps within what was drawn beyond the stage, then far out of it.
        for dx, dy in ((60, 0), (0, 45), (-300, 120), (500, -260), (-650, -300)):
            ada.page.mouse.move(x, y)
            ada.page.mouse.down(button="middle")
            ada.page.mouse.move(x + dx, y + dy, steps=8)
            ada.page.mouse.up(button="middle")
            # Off the stage, where it would show the mask under it.
            ada.page.mouse.move(1, 1)
            shows(ada, pixels)
        assert ada.troubles == []


def test_a_click_in_a_tiled_picture_makes_a_mask(
    tiled_url: str, visitor: Callable[..., Any]
) -> None:
    with visitor() as ada:
        ada.open(tiled_url)
        for _ in range(6):
            ada.press("+")
        ada.click(TILED[1] / 2 + 40, TILED[0] / 2 + 40)
        made = ada.made()
        assert made["making"]["size"] == list(TILED)
        assert ada.troubles == []
