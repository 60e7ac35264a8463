"""A proxy on loopback before an S3 server, which does to chosen requests what networks do.

Requests pass byte for byte, `Host` too, which the client has signed with the proxy's own address.
Each answered exchange leaves the connection as it was; each fault ends it.
"""

import random
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Self
from urllib.parse import parse_qs, unquote, urlsplit

_PATIENCE_S = 60.0
_SLOW_S = 0.05
_CODES = {
    "busy": (503, "SlowDown"),
    "failing": (500, "InternalError"),
    "forbidden": (403, "AccessDenied"),
    "missing": (404, "NoSuchKey"),
}
KINDS = (
    *_CODES,
    "reset",  # before the server hears of it
    "reset midway",  # in the middle of the answer
    "black hole",  # no answer, until the client goes away
    "cut",  # half of the answer, and an orderly end
    "cut head",  # half of the answer's head, and an orderly end
    "cut upload",  # half of the request reaches the server, and an end on both sides
    "flip",  # a byte of the body is another one, of the request's where it has one
    "lost",  # done, and never acknowledged
    "slow",
)


@dataclass
class Fault:
    """What happens to the next `times` requests of `verb` whose path and query match `key`."""

    kind: str
    verb: str
    key: str
    times: int


@dataclass
class _Message:
    start: str
    head: bytes
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class FaultyS3:
    """The proxy; `asked` is what came, and `struck` what was done to it, as (kind, verb)."""

    upstream: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    struck: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._faults: list[Fault] = []
        self._chance = 0.0
        self._kinds: Sequence[str] = ()
        self._random = random.Random(0)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def fail(self, kind: str, verb: str = "", key: str = "", times: int = 1) -> None:
        """Do this to requests of PUT, GET, HEAD, DELETE, POST or LIST; empty: of any.

        key: a pattern that is searched for in the path with its query.
        """
        assert kind in KINDS, kind
        with self._lock:
            self._faults.append(Fault(kind, verb, key, times))

    def fail_by_chance(self, share: float, kinds: Sequence[str], seed: int = 0) -> None:
        """Do one of these to this share of all requests, until `heal`."""
        with self._lock:
            self._chance, self._kinds, self._random = share, kinds, random.Random(seed)

    def heal(self) -> None:
        """Let everything pass from now on, and let those go who wait in a black hole."""
        with self._lock:
            self._faults.clear()
            self._chance = 0.0
            self._over.set()
            self._over = threading.Event()

    def forget(self) -> None:
        """Begin the lists of what was asked and struck anew."""
        with self._lock:
            self.asked.clear()
            self.struck.clear()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            still_open = list(self._open)
        for each in still_open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE_S)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            # Only now and then is one answered after the other has gone: nobody needs to know.
            with (
                client,
                suppress(OSError, ValueError),
                client.makefile("rb") as incoming,
                self._connected() as server,
                server.makefile("rb") as answers,
            ):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (request := _read_head(incoming)) is not None:
                    request.body = self._body(incoming, request, client)
                    if not self._exchange(client, server, answers, request):
                        return
        finally:
            with self._lock:
                self._open.discard(client)

    def _body(self, incoming: BinaryIO, request: _Message, client: socket.socket) -> bytes:
        if request.headers.get("expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return _read_body(incoming, request.headers)

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        address = urlsplit(self.upstream)
        with socket.create_connection((address.hostname or "", address.port or 80)) as server:
            server.settimeout(_PATIENCE_S)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield server

    def _exchange(
        self,
        client: socket.socket,
        server: socket.socket,
        answers: BinaryIO,
        request: _Message,
    ) -> bool:
        """One request and its answer; whether the connection is good for another."""
        method, target, _ = request.start.split(" ", 2)
        verb = _verb(method, target)
        kind = self._strike(verb, unquote(target))
        if kind in _CODES:
            client.sendall(_refusal(*_CODES[kind], bodyless=method == "HEAD"))
            return True
        if kind == "reset":
            _reset(client)
            return False
        if kind == "black hole":
            self._swallow(client)
            return False
        if kind == "cut upload":
            whole = request.head + request.body
            server.sendall(whole[: len(request.head) + len(request.body) // 2])
            return False
        if kind == "flip" and request.body:
            request.body = _flipped(request.body)
        server.sendall(request.head + request.body)
        answer = _read_answer(answers, method)
        return self._answer(client, answer, kind, flip=kind == "flip" and not request.body)

    def _answer(
        self, client: socket.socket, answer: _Message, kind: str | None, *, flip: bool
    ) -> bool:
        whole = answer.head + (_flipped(answer.body) if flip else answer.body)
        half = len(answer.head) // 2
        if answer.body and kind != "cut head":
            half = len(answer.head) + len(answer.body) // 2
        if kind == "lost":
            return False
        if kind in ("cut", "cut head"):
            client.sendall(whole[:half])
            return False
        if kind == "reset midway":
            client.sendall(whole[:half])
            # A reset throws away what the other side has not read yet.
            self._over.wait(0.02)
            _reset(client)
            return False
        if kind == "slow":
            for piece in (whole[:half], whole[half:]):
                self._over.wait(_SLOW_S)
                client.sendall(piece)
        else:
            client.sendall(whole)
        return answer.headers.get("connection", "").lower() != "close"

    def _strike(self, verb: str, target: str) -> str | None:
        with self._lock:
            self.asked.append((verb, target))
            kind = None
            for fault in self._faults:
                if fault.times and fault.verb in ("", verb) and re.search(fault.key, target):
                    fault.times -= 1
                    kind = fault.kind
                    break
            else:
                if self._random.random() < self._chance:
                    kind = self._random.choice(self._kinds)
            if kind is not None:
                self.struck.append((kind, verb))
            return kind

    def _swallow(self, client: socket.socket) -> None:
        over = self._over
        client.settimeout(0.05)
        while not over.is_set():
            try:
                if not client.recv(1):
                    return
            except TimeoutError:
                continue


def _verb(method: str, target: str) -> str:
    """LIST for what lists objects, else HTTP's word."""
    return "LIST" if method == "GET" and "list-type" in parse_qs(urlsplit(target).query) else method


def _read_head(stream: BinaryIO) -> _Message | None:
    """The start of a request or an answer; None where there is no other one."""
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line)
    if line == b"":
        return None
    pairs = (each.decode("latin-1").partition(":") for each in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return _Message(lines[0].decode("latin-1").strip(), b"".join(lines) + b"\r\n", headers)


def _read_body(stream: BinaryIO, headers: Mapping[str, str]) -> bytes:
    """The body as it stands on the wire."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return stream.read(int(headers.get("content-length", 0)))
    pieces = []
    while True:
        line = stream.readline()
        size = int(line.partition(b";")[0], 16)
        pieces += [line, stream.read(size + 2)]
        if size == 0:
            return b"".join(pieces)


def _read_answer(stream: BinaryIO, method: str) -> _Message:
    while (answer := _read_head(stream)) is not None:
        status = int(answer.start.split(" ")[1])
        if status >= 200:
            if method != "HEAD" and status not in (204, 304):
                answer.body = _read_body(stream, answer.headers)
            return answer
    raise OSError("the server has gone")


def _refusal(status: int, code: str, *, bodyless: bool) -> bytes:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
        "<Message>by the proxy</Message></Error>"
    ).encode()
    head = (
        f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n"
        f"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    return head if bodyless else head + body


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


def _reset(client: socket.socket) -> None:
    """Let the close that follows be one."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
