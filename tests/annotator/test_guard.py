"""The door: who may speak to the server, how much, and what every answer carries."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

LEASE = {"annotator": "ada"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture
def broken_api(desk: Any) -> Iterator[httpx.Client]:
    """An API whose models fail in a way nobody foresaw."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret about the inside")

    desk.models.predict = fail
    with desk.open() as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/", 200, id="page"),
        pytest.param("GET", "/docs", 200, id="reference"),
        pytest.param("GET", "/static/site.css", 200, id="asset"),
        pytest.param("GET", "/openapi.json", 200, id="document"),
        pytest.param("GET", "/api/health", 200, id="health"),
        pytest.param("GET", "/api/items/none/image", 404, id="unknown item"),
        pytest.param("GET", "/nothing", 404, id="unknown address"),
        pytest.param("GET", "/static/../app.py", 404, id="outside"),
        pytest.param("PUT", "/api/lease", 405, id="wrong method"),
        pytest.param("POST", "/api/lease", 422, id="invalid"),
    ],
)
def test_every_answer_carries_the_headers(
    api: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = api.request(method, path)
    assert answer.status_code == status
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    if status >= 400:
        assert answer.json().keys() == {"error", "message", "remedy"}


def test_the_unforeseen_is_logged_and_not_told(
    broken_api: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    lease = broken_api.post("/api/lease", json=LEASE).json()["lease"]
    path = f"/api/items/{lease['item']['item_id']}/predict"
    answer = broken_api.post(path, json={"points": [[1, 1]], "labels": [1]})
    assert answer.status_code == 500
    assert answer.json().keys() == {"error", "message", "remedy"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "secret" not in answer.text
    assert "a secret about the inside" in caplog.text


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        pytest.param("127.0.0.1:8765", True, id="address"),
        pytest.param("localhost", True, id="name without port"),
        pytest.param("LOCALHOST:1", True, id="upper case"),
        pytest.param("[::1]:8765", True, id="IPv6"),
        pytest.param("evil.example", False, id="rebound name"),
        pytest.param("127.0.0.1.evil.example", False, id="prefix"),
        pytest.param("localhost.evil.example:8765", False, id="name as prefix"),
        pytest.param("evil.example:127.0.0.1", False, id="address as port"),
        pytest.param("[::1", False, id="unclosed"),
        pytest.param("", False, id="empty"),
    ],
)
def test_the_host_must_be_ours(api: httpx.Client, host: str, allowed: bool) -> None:
    answer = api.get("/api/health", headers={"Host": host})
    if allowed:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400
        assert answer.json()["error"] == "unknown_host"


def test_another_host_can_be_allowed(desk: Any) -> None:
    with desk.open(allowed_hosts=("labels.example",)) as api:
        assert api.get("/api/health", headers={"Host": "labels.example"}).status_code == 200
        assert api.get("/api/health").status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="a program"),
        pytest.param({"Origin": "own"}, 200, id="our own page"),
        pytest.param({"Origin": "own", "Sec-Fetch-Site": "same-origin"}, 200, id="own, as sent"),
        pytest.param({"Sec-Fetch-Site": "none"}, 200, id="typed by hand"),
        pytest.param({"Origin": "https://partner.example"}, 200, id="allowed"),
        pytest.param({"Origin": "http://evil.example"}, 403, id="foreign"),
        pytest.param({"Origin": "null"}, 403, id="sandboxed frame"),
        pytest.param({"Origin": ""}, 403, id="empty"),
        pytest.param({"Origin": "http://["}, 403, id="malformed"),
        pytest.param({"Origin": "http://127.0.0.1:1"}, 403, id="other port"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="cross-site without origin"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="another port of this host"),
    ],
)
def test_a_foreign_page_cannot_write(desk: Any, headers: dict[str, str], status: int) -> None:
    with desk.open(allowed_origins=("https://partner.example",)) as api:
        own = f"http://{api.base_url.netloc.decode()}"
        sent = {name: own if value == "own" else value for name, value in headers.items()}
        answer = api.post("/api/lease", json=LEASE, headers=sent)
        assert answer.status_code == status, answer.text
        assert desk.queue.counts()["leased"] == (1 if status == 200 else 0)
        assert api.get("/api/health", headers=sent).status_code == 200, "reading is not writing"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read(api: httpx.Client, desk: Any, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = api.post("/api/lease", content=b'{"annotator": "ada"}', headers=headers)
    assert answer.status_code == 422
    assert desk.queue.counts()["leased"] == 0


def test_a_body_that_says_it_is_too_large_is_not_read(desk: Any) -> None:
    with desk.open(max_body_bytes=1000) as api:
        answer = api.post("/api/lease", json={"annotator": "a" * 2000})
    assert answer.status_code == 413
    assert answer.json()["error"] == "too_large"
    assert "1000 bytes" in answer.json()["message"]


def test_a_body_that_turns_out_too_large_is_cut_off(desk: Any) -> None:
    with desk.open(max_body_bytes=1000) as api:
        pieces = (b"x" * 100 for _ in range(100))
        answer = api.post(
            "/api/lease", content=pieces, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 413
    assert answer.json()["error"] == "too_large"


def test_a_client_that_goes_away_is_no_error(
    api: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection((api.base_url.host, api.base_url.port or 0)) as wire:
        wire.sendall(
            b"POST /api/lease HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 500\r\n\r\n{"
        )
    assert api.get("/api/health").status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
