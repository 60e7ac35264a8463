"""Real microscopy in a real queue behind a real server, and hands that use the page."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page

from annotator.item import ItemPayload, Proposal
from annotator.routers.pages import BUILT
from engine import rle
from engine.rle import Rle
from flows import workspace as workspaces
from flows.annotating.people import annotator_server
from flows.intake.coco_import import ImportOptions, import_coco
from flows.models.serving import ensure_base
from flows.progress import Silent
from flows.recipes import recipe_named
from flows.workspace import Workspace
from storage.queue.items import NewItem

# Fluorescence with 10 to 40 well parted nuclei each; the first is worked on first.
PICTURES = 3
OFFERED = 6
_WAIT_MS = 15_000


@dataclass(frozen=True)
class Picture:
    """A real image with its true masks, the largest first."""

    file_name: str
    masks: list[Rle]


@dataclass
class Place:
    """A workspace with items for real images, and the way to its server."""

    workspace: Workspace
    pictures: list[Picture]

    def serve(self) -> AbstractContextManager[str]:
        """Yields the address of a server."""
        return annotator_server(self.workspace)

    def bodies(self) -> list[dict[str, Any]]:
        """What was submitted so far, oldest first."""
        found = self.workspace.queue.submissions_after(0, None)
        return [submission.body for submission in found]

    def picture(self, file_name: str) -> Picture:
        [found] = [picture for picture in self.pictures if picture.file_name == file_name]
        return found


def _chosen(data: Path) -> tuple[dict[str, Any], list[Picture]]:
    """A COCO document of small fluorescence images, and what is on them."""
    document = json.loads((data / "nuclei" / "annotations.json").read_text())
    masks: dict[int, list[dict[str, Any]]] = {}
    for annotation in document["annotations"]:
        masks.setdefault(annotation["image_id"], []).append(annotation)
    images = [
        image
        for image in document["images"]
        if image["height"] == 256 and 12 <= len(masks.get(image["id"], [])) <= 30
    ][:PICTURES]
    pictures = []
    for image in images:
        largest = sorted(masks[image["id"]], key=lambda one: -one["area"])
        shapes = [one["segmentation"] for one in largest]
        found = [Rle((shape["size"][0], shape["size"][1]), shape["counts"]) for shape in shapes]
        pictures.append(Picture(image["file_name"], found))
    wanted = {image["id"] for image in images}
    kept = [one for one in document["annotations"] if one["image_id"] in wanted]
    return {**document, "images": images, "annotations": kept}, pictures


def _payload(masks: Sequence[Rle]) -> dict[str, Any]:
    """These masks as proposals `p0`, `p1` ..., each more certain than the one before."""
    proposals = []
    for index, mask in enumerate(masks):
        x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
        proposals.append(
            Proposal.of(
                mask,
                proposal_id=f"p{index}",
                predicted_iou=0.7 + 0.01 * index,
                stability_score=0.95,
                points=[((x0 + x1) / 2, (y0 + y1) / 2)],
            )
        )
    return ItemPayload(proposals=proposals).to_dict()


@pytest.fixture(scope="session")
def chosen(data_dir: Path) -> tuple[dict[str, Any], list[Picture]]:
    return _chosen(data_dir)


@pytest.fixture(scope="session")
def built_page() -> None:
    if not (BUILT / "index.html").is_file():
        pytest.skip("the annotator's page is not built; run: make setup")


@pytest.fixture(scope="session")
def filled_root(
    built_page: None,  # noqa: ARG001 (asked for to skip)
    data_dir: Path,
    chosen: tuple[dict[str, Any], list[Picture]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A workspace with the shipped model in service and an item for each picture; made once.

    The largest nuclei of each are offered as proposals; the others are missing.
    """
    document, pictures = chosen
    root = tmp_path_factory.mktemp("browser") / "workspace"
    workspace = workspaces.create(root)
    annotations = root.parent / "annotations.json"
    annotations.write_text(json.dumps(document))
    options = ImportOptions(labelled=0.0, gold=0.0)
    import_coco(workspace, annotations, data_dir / "nuclei" / "images", options, lambda *_: None)
    version = ensure_base(workspace, recipe_named("nano"), Silent())
    rows = workspace.lake.rows("SELECT image_id, file_name, height, width FROM images")
    by_name = {row["file_name"]: row for row in rows}
    workspace.queue.enqueue(
        NewItem(
            **by_name[picture.file_name],
            model_version=version,
            run_id="run-1",
            iteration=1,
            priority=-float(number),
            payload=_payload(picture.masks[:OFFERED]),
        )
        for number, picture in enumerate(pictures)
    )
    _warm_up(workspace)
    _close(workspace)
    return root


def _warm_up(workspace: Workspace) -> None:
    """Have the decoders of the page made, which takes seconds, and kept in the workspace."""
    with annotator_server(workspace) as url, httpx.Client(base_url=url, timeout=120) as client:
        lease = client.post("/api/lease", json={"annotator": "warm-up"}).json()["lease"]
        for address in lease["item"]["decoder"]["urls"].values():
            client.get(address).raise_for_status()
        held = {"annotator": "warm-up", "lease_token": lease["lease_token"]}
        client.post(f"/api/items/{lease['item']['item_id']}/release", json=held).raise_for_status()


def _close(workspace: Workspace) -> None:
    workspace.close()


@pytest.fixture
def place(
    filled_root: Path, chosen: tuple[dict[str, Any], list[Picture]], tmp_path: Path
) -> Iterator[Place]:
    root = tmp_path / "workspace"
    shutil.copytree(filled_root, root)
    workspace = workspaces.open_workspace(root)
    yield Place(workspace, chosen[1])
    _close(workspace)


@pytest.fixture
def url(place: Place) -> Iterator[str]:
    with place.serve() as address:
        yield address


@dataclass
class Visitor:
    """A person before the annotator's page."""

    page: Page
    troubles: list[str] = field(default_factory=list)

    def view(self) -> dict[str, Any]:
        """What the page shows, by its hook `window.maskloop.view()`."""
        try:
            return dict(self.page.evaluate("window.maskloop ? window.maskloop.view() : {}"))
        except Error as error:
            if "navigation" not in error.message:
                raise
            return {}  # on its way to another page

    def wait(self, what: str, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until `holds(view())`."""
        for _ in range(_WAIT_MS // 50):
            view = self.view()
            if view and holds(view):
                return view
            self.page.wait_for_timeout(50)
        said = self.page.locator("#said").inner_text()
        raise AssertionError(f"{what}: not in {_WAIT_MS} ms; the page said {said!r}; {view}")

    def open(self, url: str) -> dict[str, Any]:
        """Open the page and wait for an item."""
        self.page.goto(url)
        return self.ready()

    def ready(self, after: str | None = None) -> dict[str, Any]:
        """Wait for an item, another than `after`, with its picture and its masks."""
        view = self.wait(
            "the next item",
            lambda view: view["item_id"] not in (None, after) and view["is_painted"],
        )
        self.page.locator("#curtain").wait_for(state="hidden")
        return view

    def on_page(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of the picture -> of the page."""
        view = self.view()
        box = self.page.locator("#stage").bounding_box()
        assert box is not None
        scale = view["scale"]
        return box["x"] + view["x"] + x * scale, box["y"] + view["y"] + y * scale

    def point(self, x: float, y: float) -> None:
        self.page.mouse.move(*self.on_page(x, y))

    def click(self, x: float, y: float, **how: Any) -> None:
        """Click at a pixel of the picture, and wait for its answer."""
        self.page.mouse.click(*self.on_page(x, y), **how)
        self.answered()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.on_page(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.on_page(*end), steps=6)
        self.page.mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def answered(self) -> dict[str, Any]:
        return self.wait("the answer to a click", lambda view: view["waiting"] == 0)

    def made(self) -> dict[str, Any]:
        return self.wait("a mask in the making", lambda view: view["making"] is not None)

    def at(self, x: float, y: float) -> str | None:
        """The mask that the canvas shows at a pixel of the picture."""
        found: str | None = self.page.evaluate(
            "([x, y]) => window.maskloop.view().at(x, y)", [x, y]
        )
        return found


@pytest.fixture
def visitor(chromium: Browser) -> Callable[..., AbstractContextManager[Visitor]]:
    """Opens a browser of its own for somebody: their drafts and their cookies are nobody else's."""

    @contextmanager
    def somebody(name: str | None = "ada", **options: Any) -> Iterator[Visitor]:
        context = chromium.new_context(viewport={"width": 1366, "height": 768}, **options)
        try:
            yield watched(context, name)
        finally:
            context.close()

    return somebody


def watched(context: BrowserContext, name: str | None) -> Visitor:
    """A page whose errors are noted; `name` says who works, where nobody signs in."""
    if name is not None:
        context.add_init_script(f"localStorage.setItem('maskloop.name', {json.dumps(name)})")
    context.set_default_timeout(_WAIT_MS)
    visitor = Visitor(context.new_page())
    visitor.page.on("pageerror", lambda error: visitor.troubles.append(str(error)))
    return visitor


def masks_of(body: dict[str, Any], pictured: dict[str, Any]) -> dict[str, Rle]:
    """The masks that a submission leaves standing; `pictured` are those of the proposals by id."""
    standing = {}
    for decision in body["decisions"]:
        if decision["action"] == "accepted":
            standing[decision["proposal_id"]] = pictured[decision["proposal_id"]]
        elif decision["action"] == "edited":
            standing[decision["proposal_id"]] = decision["segmentation"]
    for index, added in enumerate(body["added"]):
        standing[f"added-{index + 1}"] = added["segmentation"]
    return {
        name: Rle((shape["size"][0], shape["size"][1]), shape["counts"])
        for name, shape in standing.items()
    }


@pytest.fixture
def standing() -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Rle]]:
    return masks_of
