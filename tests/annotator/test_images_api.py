"""Pictures leave the server encoded anew, and only pictures leave it."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from engine.images import decode

IMAGE_ID = "0123456789abcdef" * 2
PAYLOAD = b"<script>alert(1)</script>"


@dataclass
class FolderSource:
    """Reads whatever the id makes of a path: the API alone stands before the file system."""

    root: Path

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        path = self.root / f"{image_id}.jpg"
        if not path.is_file():
            raise LookupError(image_id)
        return decode(path.read_bytes()).pixels


@pytest.fixture
def served(desk: Any, tmp_path: Path) -> Iterator[httpx.Client]:
    """A server of one picture that carries a script, with another picture outside its folder."""
    buffer = io.BytesIO()
    comment = PAYLOAD.decode()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(buffer, "JPEG", comment=comment, quality=95)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / f"{IMAGE_ID}.jpg").write_bytes(buffer.getvalue() + PAYLOAD)
    (tmp_path / "canary.jpg").write_bytes(buffer.getvalue())
    desk.images = FolderSource(inside)
    with desk.open() as client:
        yield client


def test_a_picture_is_encoded_anew(served: httpx.Client) -> None:
    answer = served.get(f"/api/images/{IMAGE_ID}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert PAYLOAD not in answer.content
    shown = Image.open(io.BytesIO(answer.content))
    assert (shown.format, shown.mode, shown.size) == ("PNG", "RGB", (40, 30))
    assert shown.info == {}
    red = np.asarray(shown)[15, 20]
    np.testing.assert_allclose(red, (200, 30, 30), atol=4)


def test_a_picture_never_changes_so_it_is_kept(served: httpx.Client) -> None:
    first = served.get(f"/api/images/{IMAGE_ID}")
    assert first.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    tag = first.headers["ETag"]
    again = served.get(f"/api/images/{IMAGE_ID}", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    other = served.get(f"/api/images/{IMAGE_ID}", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_a_problem_is_not_kept(served: httpx.Client) -> None:
    answer = served.get("/api/images/" + "f" * 32)
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


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


@pytest.mark.parametrize("prefix", ["/api/images/", "/static/", "/"])
def test_no_path_leads_out(served: httpx.Client, prefix: str) -> None:
    for path in TRAVERSALS:
        check_refused(served, prefix + path.format(id=IMAGE_ID, upper=IMAGE_ID.upper()))


def check_refused(served: httpx.Client, asked: str) -> None:
    # Not through the client's url, which would tidy it up before it is sent.
    request = served.build_request("GET", "/")
    request.url = served.base_url.copy_with(raw_path=asked.encode())
    answer = served.send(request)
    assert answer.status_code in (400, 404, 422), asked
    assert answer.json().keys() == {"error", "message", "remedy"}


@pytest.mark.parametrize(
    ("image_id", "status"),
    [
        pytest.param("f" * 32, 404, id="unknown"),
        pytest.param("f" * 31, 422, id="short"),
        pytest.param("0" * 31 + "g", 422, id="not hex"),
        pytest.param("%00", 422, id="NUL"),
    ],
)
def test_an_image_id_is_32_hex_digits(served: httpx.Client, image_id: str, status: int) -> None:
    assert served.get(f"/api/images/{image_id}").status_code == status


def test_an_absolute_path_is_no_id(served: httpx.Client, tmp_path: Path) -> None:
    asked = str(tmp_path / "canary").replace("/", "%2f")
    assert served.get(f"/api/images/{asked}").status_code in (404, 422)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pictures_are_only_read(served: httpx.Client, method: str) -> None:
    assert served.request(method, f"/api/images/{IMAGE_ID}").status_code == 405
