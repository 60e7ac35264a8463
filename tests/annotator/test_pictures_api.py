"""Pictures leave the server encoded anew, whole and in tiles, and only pictures leave it."""

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from engine import tiles
from engine.geometry import Window
from engine.images import decode

IMAGE_ID = "0123456789abcdef" * 2
LARGE_ID = "fedcba9876543210" * 2
LARGE_HW = (700, 1100)
PAYLOAD = b"<script>alert(1)</script>"
FOR_EVER = "private, max-age=31536000, immutable"


@dataclass
class FolderSource:
    """Reads whatever the id makes of a path: the API alone stands before the file system."""

    root: Path

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        path = self.root / f"{image_id}.jpg"
        if not path.is_file():
            raise LookupError(image_id)
        return decode(path.read_bytes()).pixels

    def part(self, image_id: str, level: int, window: Window) -> npt.NDArray[np.uint8]:
        return tiles.part_of(self.pixels(image_id), level, window)


@pytest.fixture
def served(desk: Any, tmp_path: Path) -> Iterator[httpx.Client]:
    """A server of a picture that carries a script, a larger one, one that is gone, and a canary."""
    buffer = io.BytesIO()
    comment = PAYLOAD.decode()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(buffer, "JPEG", comment=comment, quality=95)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / f"{IMAGE_ID}.jpg").write_bytes(buffer.getvalue() + PAYLOAD)
    (tmp_path / "canary.jpg").write_bytes(buffer.getvalue())
    large = np.random.default_rng(0).integers(0, 256, size=(*LARGE_HW, 3), dtype=np.uint8)
    Image.fromarray(large).save(inside / f"{LARGE_ID}.jpg", quality=50)
    item = {"height": 30, "width": 40}
    desk.queue.enqueue(
        [
            desk.new_item(desk.pictures[0], item_id="small", image_id=IMAGE_ID, **item),
            desk.new_item(desk.pictures[0], item_id="gone", image_id="a" * 32, **item),
            desk.new_item(
                desk.pictures[0],
                item_id="large",
                image_id=LARGE_ID,
                height=LARGE_HW[0],
                width=LARGE_HW[1],
            ),
        ]
    )
    desk.images = FolderSource(inside)
    with desk.open() as client:
        yield client


def shown(answer: httpx.Response) -> npt.NDArray[np.uint8]:
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.mode, picture.info) == ("PNG", "RGB", {})
    return np.asarray(picture)


def test_a_picture_is_encoded_anew(served: httpx.Client) -> None:
    answer = served.get("/api/items/small/image")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert PAYLOAD not in answer.content
    pixels = shown(answer)
    assert pixels.shape == (30, 40, 3)
    np.testing.assert_allclose(pixels[15, 20], (200, 30, 30), atol=4)


@pytest.mark.parametrize("path", ["small/image", "large/tiles/0/1/1"])
def test_a_picture_never_changes_so_it_is_kept(served: httpx.Client, path: str) -> None:
    first = served.get(f"/api/items/{path}")
    assert first.headers["Cache-Control"] == FOR_EVER
    tag = first.headers["ETag"]
    again = served.get(f"/api/items/{path}", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == tag
    other = served.get(f"/api/items/{path}", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", ["none/image", "gone/image", "gone/tiles/0/0/0"])
def test_a_problem_is_not_kept(served: httpx.Client, path: str) -> None:
    answer = served.get(f"/api/items/{path}")
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_tiles_of_a_level_are_the_level(served: httpx.Client, desk: Any) -> None:
    [work] = [
        work
        for work in (lease(served, f"person {number}") for number in range(9))
        if work is not None and work["item_id"] == "large"
    ]
    assert work["picture"] == {"levels": 3, "tile": 512}
    expected = list(tiles.levels(desk.images.pixels(LARGE_ID)))
    assert len(expected) == 3
    for level, pixels in enumerate(expected):
        rows = range((pixels.shape[0] + 511) // 512)
        columns = range((pixels.shape[1] + 511) // 512)
        pieces = [
            [shown(served.get(f"/api/items/large/tiles/{level}/{c}/{r}")) for c in columns]
            for r in rows
        ]
        np.testing.assert_array_equal(np.block([[[p] for p in row] for row in pieces]), pixels)


def lease(api: httpx.Client, annotator: str) -> Any:
    found = api.post("/api/lease", json={"annotator": annotator}).json()["lease"]
    return None if found is None else found["item"]


@pytest.mark.parametrize(
    ("tile", "status"),
    [
        pytest.param("3/0/0", 404, id="level"),
        pytest.param("0/3/0", 404, id="column"),
        pytest.param("0/0/2", 404, id="row"),
        pytest.param("1/2/0", 404, id="column of a smaller level"),
        pytest.param("-1/0/0", 422, id="negative"),
        pytest.param("0/0/1.5", 422, id="fraction"),
        pytest.param("0/0/" + "9" * 30, 422, id="huge"),
    ],
)
def test_a_tile_that_there_is_not(served: httpx.Client, tile: str, status: int) -> None:
    answer = served.get(f"/api/items/large/tiles/{tile}")
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "message", "remedy"}


@pytest.mark.usefixtures("served")
def test_only_a_few_are_made_at_a_time(desk: Any) -> None:
    blocked, go_on = threading.Semaphore(0), threading.Event()
    original = desk.images.part

    def slow(*asked: Any) -> Any:
        blocked.release()
        assert go_on.wait(10)
        return original(*asked)

    desk.images.part = slow
    with desk.open(images_at_once=2) as api:
        threads = [
            threading.Thread(target=api.get, args=(f"/api/items/large/tiles/0/{c}/{r}",))
            for c in range(3)
            for r in range(2)
        ]
        for thread in threads:
            thread.start()
        assert blocked.acquire(timeout=5)
        assert blocked.acquire(timeout=5)
        assert api.get("/api/health").status_code == 200
        assert not blocked.acquire(timeout=0.1), "two at a time was the limit"
        go_on.set()
        for thread in threads:
            thread.join(10)


TRAVERSALS = [
    "../canary",
    "..%2fcanary",
    "%2e%2e%2fcanary",
    "%2e%2e/canary",
    "..%252fcanary",
    "..\\canary",
    "..%5ccanary",
    "....//canary",
    "%c0%ae%c0%ae%c0%afcanary",
    "{id}/../../canary",
    "{id}%2f..%2f..%2fcanary",
    "{id}%00",
    "{id}%0a",
    "{id}.jpg",
    " {id}",
    "canary%00" + "0" * 23,
    "{upper}",
    "file:%2f%2f%2fcanary",
    "http:%2f%2flocalhost%2fcanary",
]


@pytest.mark.parametrize(
    "place", ["/api/items/{}/image", "/api/items/{}/tiles/0/0/0", "/static/{}", "/{}"]
)
def test_no_path_leads_out(served: httpx.Client, place: str) -> None:
    for path in TRAVERSALS:
        check_refused(served, place.format(path.format(id=IMAGE_ID, upper=IMAGE_ID.upper())))


def check_refused(served: httpx.Client, asked: str) -> None:
    # Not through the client's url, which would tidy it up before it is sent.
    request = served.build_request("GET", "/")
    request.url = served.base_url.copy_with(raw_path=asked.encode())
    answer = served.send(request)
    assert answer.status_code in (400, 404, 422), asked
    assert answer.json().keys() == {"error", "message", "remedy"}


def test_an_absolute_path_is_no_id(served: httpx.Client, tmp_path: Path) -> None:
    asked = str(tmp_path / "canary").replace("/", "%2f")
    assert served.get(f"/api/items/{asked}/image").status_code in (404, 422)


def test_an_image_is_no_longer_read_by_its_own_id(served: httpx.Client) -> None:
    assert served.get(f"/api/images/{IMAGE_ID}").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pictures_are_only_read(served: httpx.Client, method: str) -> None:
    assert served.request(method, "/api/items/small/image").status_code == 405
