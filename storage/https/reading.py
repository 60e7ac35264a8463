"""The bytes at an https address, read with a cap on their number, on time, and on where they lie.

No proxy of the environment is used and no redirect followed: either would take the choice of the
host away from the checks of `storage.https.addresses`.
"""

import functools
import http
import random
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path

from storage.errors import NotFoundError, TerminalStorageError, TransientStorageError
from storage.https.addresses import Address, Resolve, allowed_ips, parse, system_resolve

_CHUNK_BYTES = 1 << 18
_LONGEST_WAIT_S = 60.0
# Answers that another try may change, besides those of 500 and over.
_PASSING = frozenset(
    {
        http.HTTPStatus.REQUEST_TIMEOUT,
        http.HTTPStatus.TOO_EARLY,
        http.HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_GONE = frozenset({http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE})


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to try: `attempts`, `pause_s` after the first and twice as long after each more.

    `timeout_s`: without a byte; `total_s`: of one attempt, however the bytes drip.
    """

    attempts: int = 4
    pause_s: float = 1.0
    timeout_s: float = 30.0
    total_s: float = 300.0


class _Passing(Exception):  # noqa: N818 -- no error yet
    """Something that another try may change; `wait_s` where the host has asked for it."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass(frozen=True, kw_only=True)
class HttpsReader:
    """Reads addresses; picklable, and threads may share one.

    private_hosts: names that may lie in a private network; ca_file: certificates to trust besides
    those of the system; resolve: tells the IP addresses of a name.
    """

    max_bytes: int
    private_hosts: Sequence[str] = ()
    ca_file: Path | None = None
    patience: Patience = field(default_factory=Patience)
    resolve: Resolve = system_resolve

    def read(self, text: str) -> bytes:
        """The bytes at an address.

        Raises RefusedAddressError for one that may not be asked, NotFoundError, and otherwise
        TerminalStorageError or, after all attempts, TransientStorageError.
        """
        address = parse(text)
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return self._ask(address)
            except _Passing as passing:
                if attempt == self.patience.attempts:
                    raise TransientStorageError(
                        f"{text}: {passing} ({attempt} attempts); try again later"
                    ) from passing
                pause = self.patience.pause_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                time.sleep(max(pause, passing.wait_s))
        raise AssertionError("at least one attempt")

    def _ask(self, address: Address) -> bytes:
        private = address.host in self.private_hosts
        context = _context(self.ca_file)
        try:
            ips = allowed_ips(address, self.resolve, private=private)
            with closing(_Connection(address, ips, self.patience, context)) as connection:
                connection.request("GET", address.target, headers=_HEADERS)
                return self._received(address, connection.getresponse())
        except ssl.SSLCertVerificationError as error:
            raise TerminalStorageError(
                f"{address.text}: its certificate does not hold ({error.verify_message}); correct "
                "the name, or name its authority by images.ca_file"
            ) from error
        except (OSError, HTTPException) as error:
            raise _Passing(str(error) or type(error).__name__) from error

    def _received(self, address: Address, response: HTTPResponse) -> bytes:
        _check_answer(address, response)
        stated = response.length
        if stated is not None and stated > self.max_bytes:
            raise self._too_large(address, stated)
        received = bytearray()
        while chunk := response.read(_CHUNK_BYTES):
            received += chunk
            if len(received) > self.max_bytes:
                raise self._too_large(address, None)
        if stated is not None and len(received) < stated:
            raise _Passing(f"cut off after {len(received)} of {stated} bytes")
        return bytes(received)

    def _too_large(self, address: Address, stated: int | None) -> TerminalStorageError:
        size = "more" if stated is None else f"{stated} bytes, more"
        return TerminalStorageError(
            f"{address.text}: has {size} than {self.max_bytes} bytes; make it smaller or raise "
            "images.max_mb"
        )


# Compressed on the way, a small answer could become a large one.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "maskloop", "Connection": "close"}


@functools.cache
def _context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise TerminalStorageError(
                f"images.ca_file: {ca_file}: {error.strerror or error}; name a PEM file"
            ) from error
    return context


class _Connection(HTTPSConnection):
    """To the very IP address that was checked, in the name of the host, and closed in time."""

    def __init__(
        self, address: Address, ips: Sequence[str], patience: Patience, context: ssl.SSLContext
    ) -> None:
        super().__init__(address.host, address.port, timeout=patience.timeout_s, context=context)
        self._ips = ips
        self._patience = patience
        self._tls = context
        self._timer: threading.Timer | None = None

    def connect(self) -> None:
        """Connect, shake hands, and start the clock."""
        plain = self._connected()
        # The handshake is part of the time too.
        self.sock = self._tls.wrap_socket(
            plain, server_hostname=self.host, do_handshake_on_connect=False
        )
        self._timer = threading.Timer(self._patience.total_s, _hang_up, [self.sock])
        self._timer.daemon = True
        self._timer.start()
        self.sock.do_handshake()

    def _connected(self) -> socket.socket:
        problem: OSError | None = None
        for ip in self._ips:
            try:
                return socket.create_connection((ip, self.port), self._patience.timeout_s)
            except OSError as error:
                problem = error
        raise problem or OSError("no IP address is known")

    def close(self) -> None:
        """Hang up."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was over already


def _check_answer(address: Address, response: HTTPResponse) -> None:
    """Raise unless this is the whole of what lies at the address, as it is."""
    status, answer = response.status, f"HTTP {response.status} {ascii(response.reason)[1:-1]}"
    if status in _GONE:
        raise NotFoundError(f"{address.text}: {answer}; put it back, or correct the address")
    if 300 <= status < 400:
        to = ascii(response.headers.get("Location", "elsewhere"))[:200]
        raise TerminalStorageError(
            f"{address.text}: {answer} to {to}, which is not followed; list the address itself"
        )
    if status in _PASSING or status >= 500:
        raise _Passing(answer, _asked_wait(response))
    if status != http.HTTPStatus.OK:
        raise TerminalStorageError(f"{address.text}: {answer}; check the address")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise TerminalStorageError(
            f"{address.text}: sent compressed, which was not asked for; have its host send it plain"
        )


def _asked_wait(response: HTTPResponse) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT_S) if asked.isascii() and asked.isdigit() else 0.0
