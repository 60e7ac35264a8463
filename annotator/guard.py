"""The door of the server: who may knock, how much may come in, and the headers that go out.

Written on ASGI itself, so that it also covers what goes wrong further in.
"""

import logging
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotator.config import AnnotatorConfig
from annotator.problems import ProblemError, problem

_log = logging.getLogger(__name__)
# A name, an IPv4 address or an IPv6 address in brackets, with or without a port.
_HOST = re.compile(r"([^:\[\]]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        # Browsers take WebAssembly, which decodes clicks in the page, for a kind of eval.
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # With the line above, pages may share memory between threads of WebAssembly.
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Middleware: Host allow-list, Origin check, size limit, security headers, last resort."""

    def __init__(self, app: ASGIApp, config: AnnotatorConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything but HTTP passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        door = _Door(send)
        try:
            headers = Headers(scope=scope)
            check_host(headers, self._config)
            check_origin(scope["method"], headers, self._config)
            check_length(headers, self._config)
            limited = _limit(receive, self._config.max_body_bytes)
            await self._app(scope, limited, door.send)
        except ProblemError as error:
            await error.response()(scope, receive, door.send)
        except ClientDisconnect:
            _log.info("%s %s: the client went away", scope["method"], scope["path"])
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if not door.started:
                await _failed()(scope, receive, door.send)


class _Door:
    """Puts the security headers on whatever leaves."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def check_host(headers: Headers, config: AnnotatorConfig) -> None:
    """Raise ProblemError unless the server is addressed by a name it knows."""
    host = headers.get("host", "")
    if _host_name(host) not in config.allowed_hosts:
        raise ProblemError(
            400,
            "unknown_host",
            f"Host: must be one of {', '.join(config.allowed_hosts)}, got {host!a:.100}",
            "Use the address that the server printed, or add the name to the allowed hosts.",
        )


def check_origin(method: str, headers: Headers, config: AnnotatorConfig) -> None:
    """Raise ProblemError when a page of another origin tries to change something."""
    origin = headers.get("origin")
    if method in _SAFE_METHODS or (origin is None and _same_site(headers)):
        return
    same = origin is not None and origin.partition("://")[2] == headers.get("host")
    if not same and origin not in config.allowed_origins:
        raise ProblemError(
            403,
            "foreign_origin",
            f"Origin: must be this server's own, got {origin!a:.100}",
            "Open the annotator at its own address.",
        )


def check_length(headers: Headers, config: AnnotatorConfig) -> None:
    """Raise ProblemError when the body says that it is too long."""
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > config.max_body_bytes:
        raise _too_large(config.max_body_bytes)


def _host_name(host: str) -> str:
    name = _HOST.fullmatch(host)
    return name[1].lower() if name else ""


def _same_site(headers: Headers) -> bool:
    # Browsers send it even where they leave out Origin; programs send neither.
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _limit(receive: Receive, max_bytes: int) -> Receive:
    # Content-Length may lie, and a chunked body has none.
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > max_bytes:
            raise _too_large(max_bytes)
        return message

    return limited


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        413,
        "too_large",
        f"body: must be at most {max_bytes} bytes",
        "Leave out the masks of single clicks, or raise max_body_bytes.",
    )


def _failed() -> Response:
    return problem(
        500,
        "failed",
        "the server could not do this",
        "Send the request again; if it fails again, the server's log says why.",
    )
