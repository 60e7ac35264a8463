"""Who calls, and what they may: the one place that every call of the API passes through.

`app` puts `Access.admit` before all routers but the session's own and health; routers take the
caller as a parameter of type `CallerNow` and the lead's as well ask for the role.
"""

import math
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from annotator.config import AnnotatorConfig
from annotator.problems import ProblemError, invalid, unknown
from annotator.throttle import Throttle
from storage.queue.oversight import Oversight
from storage.queue.people import Identity, People, Role
from storage.queue.review import ReviewQueue
from storage.queue.sessions import LONGEST_S, Opened, Sessions
from storage.queue.tokens import PERSONAL, equal

COOKIE = "maskloop_session"
COOKIE_AGE_S = int(LONGEST_S)
CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# How long a server that lets everybody in, on this machine alone, takes it that nobody was added.
_OPEN_FOR_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls. Without sign-in `name` is None: all may do all, and say who they are."""

    name: str | None
    role: Role
    csrf_token: str | None = None

    @property
    def signed_in(self) -> bool:
        """Whether the caller has shown who they are."""
        return self.name is not None

    @property
    def is_lead(self) -> bool:
        """Whether the caller may do what a lead may; without sign-in everybody may."""
        return self.role == "lead"

    def signs(self, claimed: str | None) -> str:
        """The name under which the caller works; raises ProblemError for another's."""
        if self.name is None:
            if claimed is None:
                raise invalid("annotator: must say who works, as nobody signs in here")
            return claimed
        if claimed not in (None, self.name):
            raise ProblemError(
                403,
                "not_you",
                f"annotator: must be {self.name!a}, who is signed in, got {claimed!a}",
                "Leave the field out, or sign in as the other.",
            )
        return self.name


OPEN = Caller(name=None, role="lead")


async def current_caller(request: Request) -> Caller:
    """The caller that `Access.admit` has let in."""
    caller = request.state.caller
    assert isinstance(caller, Caller), "Access.admit stands before every router"
    return caller


CallerNow = Annotated[Caller, Depends(current_caller)]


async def lead_only(caller: CallerNow) -> None:
    """Raise ProblemError unless the caller is a lead."""
    if not caller.is_lead:
        raise ProblemError(
            403, "forbidden", "only a lead may do this", "Ask a lead of this project."
        )


class Access:
    """Knows the people, their sessions, and what each of them may read.

    Its methods raise ProblemError for what a caller may not, QueueUnavailable.
    """

    def __init__(self, queue: ReviewQueue, config: AnnotatorConfig) -> None:
        self._people = People(queue.database)
        self._sessions = Sessions(queue.database)
        self._oversight = Oversight(queue.database)
        self._throttle = Throttle()
        self._required = config.always_sign_in
        self._open_until = -math.inf

    async def admit(self, request: Request) -> None:
        """Let the caller in; 401 when they must sign in and have not, 403 for a forged request."""
        # Without a thread where nothing is looked up, as each of them would take its turn.
        if self._is_open():
            request.state.caller = OPEN
        else:
            request.state.caller = await run_in_threadpool(self._caller, request)

    def sign_in(self, request: Request, token: str) -> Opened:
        """A new session for a token's owner; the one that the browser had before ends."""
        self._check_patience(request)
        opened = self._sessions.sign_in(token)
        if opened is None:
            raise self._stranger(request, "token: nobody has this one, or not any more")
        if before := request.cookies.get(COOKIE):
            self._sessions.end(before)
        return opened

    def sign_out(self, request: Request) -> None:
        """End the session of the browser that asks, if it has one."""
        secret = request.cookies.get(COOKIE)
        session = self._sessions.find(secret) if secret else None
        if secret and session:
            check_csrf(request, session.csrf_token)
            self._sessions.end(secret)

    def check_item(self, caller: Caller, item_id: str) -> None:
        """404 unless the caller may read an item: one that may be theirs, or is; a lead all."""
        if not caller.is_lead and not self._oversight.may_read(item_id, caller.signs(None)):
            raise unknown(f"item {item_id}: no such item")

    def _caller(self, request: Request) -> Caller:
        if not self._is_required():
            self._open_until = time.monotonic() + _OPEN_FOR_S
            return OPEN
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        # Another scheme is somebody else's, such as a proxy's own password.
        if scheme.lower() == "bearer":
            return self._bearer(request, secret.strip())
        return self._cookie(request)

    def _is_open(self) -> bool:
        return not self._required and time.monotonic() < self._open_until

    def _is_required(self) -> bool:
        # Nobody is ever deleted, so once somebody was added it stays.
        self._required = self._required or self._people.any_added()
        return self._required

    def _bearer(self, request: Request, secret: str) -> Caller:
        self._check_patience(request)
        who: Identity | None
        if secret.startswith(PERSONAL):
            who = self._people.of_token(secret)
        else:
            who = self._sessions.find(secret)
        if who is None:
            raise self._stranger(request, "token: nobody has this one, or not any more")
        # No page of another site can send this header, so nothing has to prove that none did.
        return Caller(name=who.name, role=who.role)

    def _cookie(self, request: Request) -> Caller:
        secret = request.cookies.get(COOKIE)
        session = self._sessions.use(secret) if secret else None
        if session is None:
            raise not_signed_in("nobody is signed in" + (" any more" if secret else ""))
        if request.method not in _SAFE_METHODS:
            check_csrf(request, session.csrf_token)
        return Caller(name=session.name, role=session.role, csrf_token=session.csrf_token)

    def _check_patience(self, request: Request) -> None:
        wait_s = self._throttle.wait_s(_address(request))
        if wait_s:
            raise ProblemError(
                429,
                "too_many_tries",
                f"too many tokens that nobody has from {_address(request)}",
                f"Wait {wait_s} s, then use the token as it was printed.",
                {"Retry-After": str(wait_s)},
            )

    def _stranger(self, request: Request, message: str) -> ProblemError:
        self._throttle.failed(_address(request))
        return not_signed_in(message)


def not_signed_in(message: str) -> ProblemError:
    """401, with the ways in."""
    return ProblemError(
        401,
        "not_signed_in",
        message,
        "Open the link that `maskloop annotators add` or `renew` printed; programs send their token"
        " as `Authorization: Bearer TOKEN`, maskloop's own take it from MASKLOOP_TOKEN.",
        {"WWW-Authenticate": "Bearer"},
    )


def check_csrf(request: Request, expected: str) -> None:
    """Raise ProblemError unless a request by cookie shows its session's other secret.

    A foreign page can make a browser send the cookie, but cannot read what `/api/session` says.
    """
    if not equal(request.headers.get(CSRF_HEADER, ""), expected):
        raise ProblemError(
            403,
            "bad_csrf",
            f"{CSRF_HEADER}: must be the csrf_token of this session",
            "Ask GET /api/session for it; a page that was open before signing in is loaded again.",
        )


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
