"""A workspace with items for the annotator's page, its server, and a browser before it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright
from real_data import data_folder

from annotator.item import ItemPayload, Proposal
from engine import images, rle
from engine.rle import Rle, segments_of
from flows import workspace as workspaces
from flows.annotating.people import annotator_server
from flows.intake.adding import add_images
from flows.models.serving import ensure_base
from flows.progress import Silent
from flows.recipes import NANO
from storage.queue.items import NewItem

_CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
_VIEWPORT: ViewportSize = {"width": 1366, "height": 768}
_PATIENCE_MS = 120_000


@contextmanager
def served(folder: Path, pictures: Sequence[tuple[Path, Sequence[Rle]]]) -> Iterator[str]:
    """The address of a server whose queue holds pictures with these proposals, in this order."""
    opened = workspaces.create(folder)
    add_images(opened, [str(path) for path, _ in pictures], strict=True, progress=lambda *_: None)
    version = ensure_base(opened, NANO, Silent())
    rows = opened.lake.rows("SELECT image_id, file_name, height, width FROM images")
    by_name = {row["file_name"]: row for row in rows}
    items = [
        NewItem(
            **by_name[path.name],
            model_version=version,
            run_id="benchmark",
            iteration=1,
            priority=-float(place),
            payload=_payload(masks),
        )
        for place, (path, masks) in enumerate(pictures)
    ]
    opened.queue.enqueue(items)
    try:
        with annotator_server(opened) as url:
            yield url
    finally:
        opened.lake.close()


def _payload(masks: Sequence[Rle]) -> dict[str, Any]:
    proposals = [
        Proposal.of(
            mask,
            proposal_id=f"p{place}",
            predicted_iou=0.6 + 0.3 * place / len(masks),
            stability_score=0.95,
            points=[middle_of_box(mask)],
        )
        for place, mask in enumerate(masks)
    ]
    return ItemPayload(proposals=proposals).to_dict()


def middle_of_box(mask: Rle) -> tuple[float, float]:
    x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
    return (x0 + x1) / 2, (y0 + y1) / 2


@contextmanager
def visitor(url: str, *, script: str = "") -> Iterator[Page]:
    """The page before a person without a name to give; `script` runs before any of the page's."""
    binary = next(path for path in _CHROMIUM if Path(path).exists())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        context = browser.new_context(viewport=_VIEWPORT)
        context.add_init_script(f"localStorage.setItem('maskloop.name', 'benchmark'); {script}")
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        page.goto(url)
        wait_until(page, "window.maskloop?.view().item_id && maskloop.view().is_painted")
        page.locator("#curtain").wait_for(state="hidden")
        yield page
        browser.close()


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression holds; the page's policy lets nobody evaluate strings inside it."""
    for _ in range(_PATIENCE_MS // 20):
        if page.evaluate(f"() => Boolean({expression})"):
            return
        page.wait_for_timeout(20)
    raise TimeoutError(f"{expression}: not in {_PATIENCE_MS} ms")


def on_page(page: Page, x: float, y: float) -> tuple[float, float]:
    """Pixels of the picture -> of the page."""
    view = page.evaluate("(({scale, x, y}) => ({scale, x, y}))(maskloop.view())")
    box = page.locator("#stage").bounding_box()
    assert box is not None
    return box["x"] + view["x"] + x * view["scale"], box["y"] + view["y"] + y * view["scale"]


def nuclei() -> list[tuple[Path, list[Rle]]]:
    """Each image of nuclei with its true masks."""
    folder = data_folder() / "nuclei"
    document = json.loads((folder / "annotations.json").read_text())
    masks: dict[int, list[Rle]] = {}
    for one in document["annotations"]:
        size, counts = one["segmentation"]["size"], one["segmentation"]["counts"]
        masks.setdefault(one["image_id"], []).append(Rle((size[0], size[1]), counts))
    return [
        (folder / "images" / each["file_name"], masks.get(each["id"], []))
        for each in document["images"]
    ]


def mosaic(path: Path, *, num_masks: int, columns: int = 8) -> list[Rle]:
    """Write images of nuclei side by side to `path` until they have so many; returns those."""
    tiles = [each for each in nuclei() if each[1] and each[1][0].size == (256, 256)]
    chosen: list[tuple[Path, list[Rle]]] = []
    while sum(len(masks) for _, masks in chosen) < num_masks and tiles:
        chosen.append(tiles.pop(0))
    rows = -(-len(chosen) // columns)
    picture = np.zeros((256 * rows, 256 * columns, 3), dtype=np.uint8)
    placed = []
    for place, (source, masks) in enumerate(chosen):
        x, y = 256 * (place % columns), 256 * (place // columns)
        picture[y : y + 256, x : x + 256] = images.decode(source.read_bytes()).pixels
        for mask in masks:
            shape, x0, y0 = rle.decode_box(mask)
            height, width = picture.shape[:2]
            placed.append(segments_of(shape.T, x + x0, y + y0, height).encoded(width))
    Image.fromarray(picture).save(path)
    return placed[:num_masks]
