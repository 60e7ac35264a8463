"""Addresses that must not be asked: 60 forms and more, with a server on loopback as the canary."""

import re
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from storage.errors import StorageError
from storage.https.addresses import RefusedAddressError, parse, why_refused
from storage.https.reading import HttpsReader, Patience


@dataclass
class Canary:
    """Listens on loopback, IPv4 and where there is one IPv6; whoever comes is written down."""

    port: int
    visitors: list[object] = field(default_factory=list)


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    with socket.create_server(("127.0.0.1", 0)) as four:
        canary = Canary(four.getsockname()[1])
        listeners = [four]
        try:
            six = socket.create_server(("::1", canary.port), family=socket.AF_INET6)
        except OSError:
            pass  # a machine without IPv6
        else:
            listeners.append(six)
        for listener in listeners:
            threading.Thread(target=listen, args=(listener, canary), daemon=True).start()
        yield canary
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def listen(listener: socket.socket, canary: Canary) -> None:
    while True:
        try:
            connection, visitor = listener.accept()
        except OSError:
            return
        canary.visitors.append(visitor)
        connection.close()


# Every one leads to loopback, a private network, a cloud's metadata, or nowhere that may be asked,
# on some system or by some library.
REFUSED = [
    "https://127.0.0.1:PORT/a.png",
    "https://127.0.0.2:PORT/a.png",
    "https://127.1:PORT/a.png",
    "https://127.0.1:PORT/a.png",
    "https://127.255.255.254:PORT/a.png",
    "https://localhost:PORT/a.png",
    "https://LOCALHOST:PORT/a.png",
    "https://localhost.:PORT/a.png",
    "https://0x7f.1:PORT/a.png",
    "https://0x7f.0.0.1:PORT/a.png",
    "https://0x7f000001:PORT/a.png",
    "https://0X7F000001:PORT/a.png",
    "https://2130706433:PORT/a.png",
    "https://017700000001:PORT/a.png",
    "https://0177.0.0.1:PORT/a.png",
    "https://0177.0.0.01:PORT/a.png",
    "https://127.0.0.1.:PORT/a.png",
    "https://127.000.000.001:PORT/a.png",
    "https://0:PORT/a.png",
    "https://0.0.0.0:PORT/a.png",
    "https://0.0.0.1:PORT/a.png",
    "https://[::1]:PORT/a.png",
    "https://[::]:PORT/a.png",
    "https://[0:0:0:0:0:0:0:1]:PORT/a.png",
    "https://[::ffff:127.0.0.1]:PORT/a.png",
    "https://[::ffff:7f00:1]:PORT/a.png",
    "https://[0:0:0:0:0:ffff:127.0.0.1]:PORT/a.png",
    "https://[::127.0.0.1]:PORT/a.png",
    "https://[64:ff9b::127.0.0.1]:PORT/a.png",
    "https://[64:ff9b:1::7f00:1]:PORT/a.png",
    "https://[2002:7f00:1::]:PORT/a.png",
    "https://[2001:0:7f00:1::]:PORT/a.png",
    "https://[::1%25lo]:PORT/a.png",
    "https://[fe80::1]:PORT/a.png",
    "https://[fe80::1%25eth0]:PORT/a.png",
    "https://[fec0::1]:PORT/a.png",
    "https://[fc00::1]:PORT/a.png",
    "https://[fd00:ec2::254]:PORT/latest/meta-data",
    "https://[ff02::1]:PORT/a.png",
    "https://[2001:db8::1]:PORT/a.png",
    "https://10.0.0.1:PORT/a.png",
    "https://172.16.0.1:PORT/a.png",
    "https://172.31.255.255:PORT/a.png",
    "https://192.168.0.1:PORT/a.png",
    "https://100.64.0.1:PORT/a.png",
    "https://169.254.169.254:PORT/latest/meta-data",
    "https://169.254.170.2:PORT/v2/credentials",
    "https://[::ffff:169.254.169.254]:PORT/a.png",
    "https://2852039166:PORT/latest/meta-data",
    "https://0xa9fea9fe:PORT/latest/meta-data",
    "https://100.100.100.200:PORT/latest/meta-data",
    "https://168.63.129.16:PORT/machine",
    "https://192.0.0.192:PORT/opc/v2",
    "https://192.0.2.1:PORT/a.png",
    "https://198.18.0.1:PORT/a.png",
    "https://192.88.99.1:PORT/a.png",
    "https://224.0.0.1:PORT/a.png",
    "https://240.0.0.1:PORT/a.png",
    "https://255.255.255.255:PORT/a.png",
    "https://127.0.0.1:PORT\\@images.example/a.png",
    "https://images.example@127.0.0.1:PORT/a.png",
    "https://images.example:443@127.0.0.1:PORT/a.png",
    "https://user:secret@localhost:PORT/a.png",
    "https://127.0.0.1:PORT#@images.example/a.png",
    "https://images.example\n@127.0.0.1:PORT/a.png",
    "https://\t127.0.0.1:PORT/a.png",
    "https://①②⑦.⓪.⓪.①:PORT/a.png",
    "https://127。0。0。1:PORT/a.png",
    "https://ｌｏｃａｌｈｏｓｔ:PORT/a.png",
    "https://loc%61lhost:PORT/a.png",
    "https://[localhost]:PORT/a.png",
    "https:///127.0.0.1:PORT/a.png",
    "https:127.0.0.1:PORT/a.png",
    "https://:PORT/a.png",
    "https://127.0.0.1:0/a.png",
    "https://127.0.0.1:99999/a.png",
    "http://127.0.0.1:PORT/a.png",
    "http://localhost:PORT/a.png",
    "HTTP://localhost:PORT/a.png",
    "//localhost:PORT/a.png",
    "localhost:PORT/a.png",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "ftp://127.0.0.1:PORT/a.png",
    "gopher://127.0.0.1:PORT/_GET",
    "dict://127.0.0.1:PORT/d",
    "data:image/png;base64,AAAA",
    "jar:https://127.0.0.1:PORT/a.png",
    "",
]


@pytest.mark.parametrize("form", REFUSED, ids=ascii)
def test_an_address_that_leads_inside_is_refused(form: str, canary: Canary) -> None:
    reader = HttpsReader(max_bytes=1000, patience=Patience(attempts=1, timeout_s=5.0))
    with pytest.raises(RefusedAddressError):
        reader.read(form.replace("PORT", str(canary.port)))
    assert canary.visitors == []


def test_the_canary_would_sing(canary: Canary) -> None:
    try:
        with pytest.raises(StorageError):
            HttpsReader(
                max_bytes=1000, private_hosts=("127.0.0.1",), patience=Patience(attempts=1)
            ).read(f"https://127.0.0.1:{canary.port}/a.png")
        assert len(canary.visitors) == 1
    finally:
        canary.visitors.clear()


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["93.184.215.14", "127.0.0.1"],
        ["2606:4700::1", "::1"],
        ["::ffff:10.0.0.1"],
        ["fe80::1%eth0"],
        ["no address"],
    ],
    ids=ascii,
)
def test_a_name_is_refused_for_any_of_its_addresses(answers: Sequence[str], canary: Canary) -> None:
    reader = HttpsReader(max_bytes=1000, resolve=lambda _host, _port: answers)
    with pytest.raises(RefusedAddressError, match=re.escape(f"images.example is {answers[-1]}, ")):
        reader.read(f"https://images.example:{canary.port}/a.png")
    assert canary.visitors == []


def test_a_name_is_looked_up_once_and_that_address_connected_to(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[str] = []
    connected: list[object] = []

    def rebound(host: str, _port: int) -> Sequence[str]:
        lookups.append(host)
        return ["93.184.215.14"] if len(lookups) == 1 else ["127.0.0.1"]

    def connect(address: object, _timeout: object) -> socket.socket:
        connected.append(address)
        raise OSError("nobody there")

    monkeypatch.setattr(socket, "create_connection", connect)
    reader = HttpsReader(max_bytes=1000, patience=Patience(attempts=1), resolve=rebound)
    with pytest.raises(StorageError, match="nobody there"):
        reader.read(f"https://images.example:{canary.port}/a.png")
    assert lookups == ["images.example"]
    assert connected == [("93.184.215.14", canary.port)]


@pytest.mark.parametrize(
    "ip", ["169.254.169.254", "0.0.0.0", "100.100.100.200", "fd00:ec2::254", "224.0.0.1", "::"]
)
def test_a_private_host_is_no_way_to_these(ip: str) -> None:
    assert why_refused(ip, private=True) is not None


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.1.2.3", "fc00::1", "::1", "192.168.1.1"])
def test_a_private_host_may_lie_here(ip: str) -> None:
    assert why_refused(ip, private=True) is None
    assert why_refused(ip, private=False) is not None


@pytest.mark.parametrize("ip", ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111"])
def test_a_public_address_may_be_asked(ip: str) -> None:
    assert why_refused(ip, private=False) is None


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("https://images.example/a/b.png", "images.example", 443, "/a/b.png"),
        ("https://Images.Example:8443/a.png?size=l", "images.example", 8443, "/a.png?size=l"),
        ("https://93.184.215.14/%C3%A9.png", "93.184.215.14", 443, "/%C3%A9.png"),
        ("https://[2606:4700::1]:444", "2606:4700::1", 444, "/"),
    ],
)
def test_plain_addresses_are_taken_apart(text: str, host: str, port: int, target: str) -> None:
    found = parse(text)
    assert (found.text, found.host, found.port, found.target) == (text, host, port, target)


@pytest.mark.parametrize("name", ["X-Amz-Signature", "X-Goog-Signature", "sig", "token"])
def test_a_signed_address_would_put_a_secret_into_the_store(name: str) -> None:
    with pytest.raises(RefusedAddressError, match="a secret that ends with time") as raised:
        parse(f"https://images.example/a.png?size=l&{name}=hunter2")
    assert "hunter2" not in str(raised.value)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(RefusedAddressError, match="no user name or password") as raised:
        parse("https://user:hunter2@images.example/a.png")
    assert "hunter2" not in str(raised.value)
