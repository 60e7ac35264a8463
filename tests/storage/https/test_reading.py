"""Reading from a real https server: verified, capped in bytes and time, never led elsewhere."""

import pickle
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from storage.errors import NotFoundError, TerminalStorageError, TransientStorageError
from storage.https.addresses import RefusedAddressError
from storage.https.reading import HttpsReader, Patience

CONTENT = bytes(range(256)) * 1000
HASTE = Patience(attempts=3, pause_s=0.0, timeout_s=10.0, total_s=30.0)


@pytest.fixture
def site(https_site: Any) -> Any:
    https_site.files["/a.png"] = CONTENT
    return https_site


def reader(site: Any, **changes: Any) -> HttpsReader:
    wanted: dict[str, Any] = {
        "max_bytes": 1 << 20,
        "private_hosts": ("localhost", "127.0.0.1"),
        "ca_file": site.ca_file,
        "patience": HASTE,
    }
    return HttpsReader(**{**wanted, **changes})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_bytes_come_in_the_name_of_the_host(site: Any, host: str) -> None:
    copy = pickle.loads(pickle.dumps(reader(site)))
    assert copy.read(site.url("/a.png", host)) == CONTENT
    assert site.asked == [("/a.png", f"{host}:{site.port}")]


def test_only_named_hosts_may_be_private(site: Any) -> None:
    with pytest.raises(RefusedAddressError, match=r"localhost is .*private network"):
        reader(site, private_hosts=("127.0.0.1",)).read(site.url("/a.png"))
    assert site.asked == []


def test_an_unknown_authority_is_not_trusted(site: Any) -> None:
    with pytest.raises(TerminalStorageError, match=r"certificate does not hold.*images\.ca_file"):
        reader(site, ca_file=None).read(site.url("/a.png"))
    assert site.asked == []


def test_a_certificate_of_another_name_is_not_trusted(site: Any) -> None:
    def loopback(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    one = reader(site, private_hosts=("images.example",), resolve=loopback)
    with pytest.raises(TerminalStorageError, match="certificate does not hold"):
        one.read(site.url("/a.png", "images.example"))
    assert site.asked == []


def test_a_file_of_no_certificates_is_named(site: Any, tmp_path: Path) -> None:
    with pytest.raises(TerminalStorageError, match=r"images\.ca_file: .*gone\.pem: No such file"):
        reader(site, ca_file=tmp_path / "gone.pem").read(site.url("/a.png"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(site: Any, status: int) -> None:
    site.answers.append((status, {"Location": site.url("/b.png")}))
    site.files["/b.png"] = CONTENT
    with pytest.raises(TerminalStorageError, match=rf"HTTP {status} .*b\.png.*is not followed"):
        reader(site).read(site.url("/a.png"))
    assert len(site.asked) == 1


@pytest.mark.parametrize("chunked", [False, True], ids=["stated", "chunked"])
def test_no_more_bytes_than_allowed(site: Any, chunked: bool) -> None:
    site.answers.append((200, {"Transfer-Encoding": "chunked"} if chunked else {}))
    with pytest.raises(
        TerminalStorageError, match=rf"a\.png: has .*more than {len(CONTENT) - 1} bytes.*max_mb"
    ):
        reader(site, max_bytes=len(CONTENT) - 1).read(site.url("/a.png"))
    site.answers.append((200, {"Transfer-Encoding": "chunked"} if chunked else {}))
    assert reader(site, max_bytes=len(CONTENT)).read(site.url("/a.png")) == CONTENT


def test_a_compressed_answer_is_refused(site: Any) -> None:
    site.answers.append((200, {"Content-Encoding": "gzip"}))
    with pytest.raises(TerminalStorageError, match="sent compressed"):
        reader(site).read(site.url("/a.png"))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_passing_answer_is_asked_again(site: Any, status: int) -> None:
    site.answers += [(status, {"Retry-After": "0"})] * 2
    assert reader(site).read(site.url("/a.png")) == CONTENT
    assert len(site.asked) == 3


def test_a_cut_off_body_is_asked_again(site: Any) -> None:
    site.cuts += [10, 0]
    assert reader(site).read(site.url("/a.png")) == CONTENT


def test_what_does_not_pass_is_one_clear_error(site: Any) -> None:
    site.answers += [(503, {})] * 3
    address = site.url("/a.png")
    with pytest.raises(
        TransientStorageError,
        match=rf"^{re.escape(address)}: HTTP 503 .*\(3 attempts\); try again later$",
    ):
        reader(site).read(address)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFoundError), (410, NotFoundError), (401, TerminalStorageError)],
)
def test_a_refusal_is_final(site: Any, status: int, error: type[Exception]) -> None:
    site.answers.append((status, {}))
    with pytest.raises(error, match=f"HTTP {status}"):
        reader(site).read(site.url("/a.png"))
    assert len(site.asked) == 1


def test_a_host_that_drips_is_left(site: Any) -> None:
    site.pause_s = 0.05
    hurry = Patience(attempts=1, timeout_s=10.0, total_s=0.5)
    with pytest.raises(TransientStorageError, match="1 attempts"):
        reader(site, patience=hurry).read(site.url("/a.png"))


def test_a_host_that_says_nothing_is_left(site: Any) -> None:
    site.pause_s = 20.0
    hurry = Patience(attempts=1, timeout_s=0.3, total_s=30.0)
    with pytest.raises(TransientStorageError, match="timed out"):
        reader(site, patience=hurry).read(site.url("/a.png"))


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (socket.EAI_NONAME, NotFoundError, r"no IP address of images\.example is known; correct"),
        (socket.EAI_AGAIN, TransientStorageError, r"3 attempts\); try again later"),
    ],
)
def test_a_name_that_is_not_known(
    site: Any, number: int, error: type[Exception], words: str
) -> None:
    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(number, "not known")

    with pytest.raises(error, match=words):
        reader(site, resolve=unknown).read("https://images.example/a.png")
