"""Downloads from a real server: cut in the middle, resumed, checked, kept."""

import hashlib
import random
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.model.download import Patience, default_cache, fetch
from engine.model.integrity import WeightsError

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTE = Patience(attempts=3, pause_s=0.0, timeout_s=10.0)


@dataclass
class Site:
    """What the server does next, and what it was asked."""

    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, site)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}/models/sam.pth"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = handler.headers.get("Range")
    site.asked.append(wanted)
    if site.statuses:
        handler.send_error(site.statuses.pop(0))
        return
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
    if start and start >= len(site.content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(site.content)}")
        handler.end_headers()
        return
    body = site.content[start:]
    handler.send_response(206 if start else 200)
    if start:
        end = len(site.content) - 1
        handler.send_header("Content-Range", f"bytes {start}-{end}/{len(site.content)}")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)


def get(site: Site, cache: Path, sha256: str = SHA256) -> Path:
    return fetch(site.url, sha256=sha256, cache=cache, patience=HASTE)


def left_in(cache: Path) -> set[str]:
    return {path.suffix for path in cache.iterdir()} - {".lock"}


def test_a_file_arrives_once_and_is_kept(site: Site, tmp_path: Path) -> None:
    first = get(site, tmp_path / "deep" / "cache")
    assert first.read_bytes() == CONTENT
    assert first.name == f"{SHA256[:16]}-sam.pth"
    assert get(site, tmp_path / "deep" / "cache", SHA256.upper()) == first
    assert site.asked == [None]
    assert left_in(first.parent) == {".pth"}


def test_a_cut_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.cuts = [1_000_000, 500_000]
    heard: list[tuple[int, int | None]] = []
    path = fetch(
        site.url,
        sha256=SHA256,
        cache=tmp_path,
        patience=HASTE,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert path.read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1000000-", "bytes=1500000-"]
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert heard == sorted(heard)


def test_patience_ends_only_where_nothing_comes(site: Site, tmp_path: Path) -> None:
    site.cuts = [300_000] * 8
    assert len(site.cuts) > HASTE.attempts
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_a_later_call_goes_on_from_what_is_left(site: Site, tmp_path: Path) -> None:
    site.cuts = [1_000_000, 0, 0, 0]
    with pytest.raises(WeightsError, match="the connection was cut, 1000000 bytes in; call again"):
        get(site, tmp_path)
    assert left_in(tmp_path) == {".part"}
    site.cuts, site.asked = [], []
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert site.asked == ["bytes=1000000-"]


def test_a_server_without_ranges_sends_all_of_it_again(site: Site, tmp_path: Path) -> None:
    site.cuts, site.ranges = [1_000_000], False
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1000000-"]


def part_of(cache: Path) -> Path:
    return cache / f"{SHA256[:16]}-sam.pth.part"


def test_a_whole_part_is_taken_as_it_is(site: Site, tmp_path: Path) -> None:
    """Killed between the last byte and the new name."""
    part_of(tmp_path).write_bytes(CONTENT)
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT + b"more")
    assert get(site, tmp_path).read_bytes() == CONTENT
    assert site.asked == [f"bytes={len(CONTENT) + 4}-", None]


def test_other_bytes_are_never_kept(site: Site, tmp_path: Path) -> None:
    site.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(WeightsError, match=f"SHA-256 must be {SHA256}, but is .*; nothing was"):
        get(site, tmp_path)
    assert left_in(tmp_path) == set()
    site.content = CONTENT
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_fetched_again(site: Site, tmp_path: Path) -> None:
    get(site, tmp_path).write_bytes(b"damaged")
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    assert get(site, tmp_path).read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_named(site: Site, tmp_path: Path) -> None:
    site.statuses = [503] * 9
    with pytest.raises(WeightsError, match="HTTP 503 Service Unavailable, 0 bytes in; call again"):
        get(site, tmp_path)
    assert len(site.asked) == HASTE.attempts


def test_a_wrong_address_is_not_asked_twice(site: Site, tmp_path: Path) -> None:
    site.statuses = [404]
    with pytest.raises(WeightsError, match=r"sam\.pth: HTTP 404 Not Found; check the address"):
        get(site, tmp_path)
    assert len(site.asked) == 1


def test_a_server_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1:9/sam\.pth: .*refused"):
        fetch("http://127.0.0.1:9/sam.pth", sha256=SHA256, cache=tmp_path, patience=HASTE)


def test_two_at_once_download_once(site: Site, tmp_path: Path) -> None:
    threads = [threading.Thread(target=get, args=(site, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.asked == [None]


@pytest.mark.parametrize(
    ("url", "sha256", "message"),
    [
        ("http://example.org/sam.pth", SHA256, "must begin with https://; or download it"),
        ("file:///etc/sam.pth", SHA256, "must begin with https://"),
        ("ftp://localhost/sam.pth", SHA256, "must begin with https://"),
        ("https://example.org/", SHA256, "must end in the name of a file"),
        ("https://example.org/sam.pth", "abc", "a SHA-256 must be 64 hex digits, but got 'abc'"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(
    tmp_path: Path, url: str, sha256: str, message: str
) -> None:
    with pytest.raises(WeightsError, match=re.escape(message)):
        fetch(url, sha256=sha256, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_default_cache_is_in_the_users_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "maskloop"
