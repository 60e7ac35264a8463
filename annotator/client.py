"""The API as Python calls, for programs that annotate; waits out a server that is away."""

import itertools
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

import httpx
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from annotator.messages import (
    HeartbeatAnswer,
    HeldRequest,
    LeaseAnswer,
    LeaseRequest,
    PredictAnswer,
    PredictRequest,
    Problem,
    ProgressAnswer,
    Session,
    SubmitAnswer,
    SubmitRequest,
    WorkItem,
)
from annotator.submission import Submission
from annotator.text_messages import FindAnswer, FindRequest
from engine.images import decode

_TRY_AGAIN = frozenset({429, 502, 503, 504})
_LONGEST_WAIT_S = 10.0
_JSON = {"Content-Type": "application/json"}

_Answer = TypeVar("_Answer", bound=BaseModel)


class ApiError(Exception):
    """The server refused; `status` and `problem` say why."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(f"{problem.message} ({status} {problem.error}). {problem.remedy}")
        self.status = status
        self.problem = problem


class LeaseLostError(ApiError):
    """409: the item went to somebody else; what was done on it can only be kept as a draft."""


class UnavailableError(Exception):
    """Nobody answered, or only 503, for as long as the client was told to wait."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A lease, with the idempotency key under which its answer will be sent, however often."""

    item: WorkItem
    lease_token: int
    heartbeat_s: float
    idempotency_key: str


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for one answer, and how long to go on asking a server that is away."""

    timeout_s: float = 60.0
    give_up_after_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("timeout_s", "give_up_after_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be positive, got {getattr(self, name)}")


class AnnotatorClient:
    """One annotator's connection to the server at `url`; safe to share between threads.

    Where people sign in, `token` says who works, and `annotator` may be None; if not, it must be
    the same. Elsewhere it is `annotator` that counts.

    Every call may raise ApiError, LeaseLostError and UnavailableError. Repeating any of them is
    harmless, so all are repeated: claims resume, and submissions carry their key.
    """

    def __init__(
        self,
        url: str,
        annotator: str | None,
        *,
        token: str | None = None,
        patience: Patience | None = None,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.annotator = annotator
        self.url = url
        self._patience = patience or Patience()
        self._http = http or _connect(url, self._patience.timeout_s)
        if token is not None:
            self._http.headers["Authorization"] = f"Bearer {token}"
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def session(self) -> Session:
        """Whom the server takes us for."""
        return _read(self._send("GET", "/api/session"), Session)

    def claim(self) -> Work | None:
        """The next item to work on, or the one already held; None when nothing waits."""
        request = LeaseRequest(annotator=self.annotator)
        lease = self._post("/api/lease", request, LeaseAnswer).lease
        if lease is None:
            return None
        return Work(
            item=lease.item,
            lease_token=lease.lease_token,
            heartbeat_s=lease.heartbeat_s,
            idempotency_key=uuid.uuid4().hex,
        )

    def heartbeat(self, work: Work) -> float:
        """Keep the lease alive; returns the seconds it now has."""
        path = _path(work, "heartbeat")
        return self._post(path, self._held(work), HeartbeatAnswer).expires_in_s

    def predict(self, work: Work, request: PredictRequest) -> PredictAnswer:
        """Masks for a prompt on the item's image."""
        return self._post(_path(work, "predict"), request, PredictAnswer)

    def find(self, work: Work, text: str) -> FindAnswer:
        """The masks that a text means on the item's image."""
        return self._post(_path(work, "find"), FindRequest(text=text), FindAnswer)

    def submit(self, work: Work, submission: Submission) -> SubmitAnswer:
        """Answer the item; a second time changes nothing."""
        request = SubmitRequest(
            annotator=self.annotator, lease_token=work.lease_token, submission=submission
        )
        headers = {"Idempotency-Key": work.idempotency_key}
        return self._post(_path(work, "submit"), request, SubmitAnswer, headers)

    def skip(self, work: Work) -> None:
        """Leave the item for later."""
        self._send("POST", _path(work, "skip"), self._held(work))

    def release(self, work: Work) -> None:
        """Give the item back as if it had not been claimed."""
        self._send("POST", _path(work, "release"), self._held(work))

    def progress(self, run_id: str | None = None) -> ProgressAnswer:
        """Items by state, over all runs and for one."""
        query = "" if run_id is None else f"?run_id={run_id}"
        return _read(self._send("GET", f"/api/progress{query}"), ProgressAnswer)

    def pixels(self, work: Work) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of the item's image."""
        return decode(self._send("GET", _path(work, "image")).content).pixels

    def _held(self, work: Work) -> HeldRequest:
        return HeldRequest(annotator=self.annotator, lease_token=work.lease_token)

    def _post(
        self,
        path: str,
        request: BaseModel,
        answer: type[_Answer],
        headers: dict[str, str] | None = None,
    ) -> _Answer:
        return _read(self._send("POST", path, request, headers), answer)

    def _send(
        self,
        method: str,
        path: str,
        request: BaseModel | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        content = None if request is None else request.model_dump_json(exclude_none=True)
        call = self._http.build_request(
            method, path, content=content, headers={**_JSON, **(headers or {})}
        )
        deadline = time.monotonic() + self._patience.give_up_after_s
        for attempt in itertools.count():
            response, trouble = self._try(call)
            if response is not None and response.status_code not in _TRY_AGAIN:
                return _accepted(response)
            wait_s = _wait_s(response, attempt)
            if time.monotonic() + wait_s > deadline:
                break
            self._sleep(wait_s)
        raise UnavailableError(
            f"{self.url}: no answer in {self._patience.give_up_after_s:g} s ({trouble}); "
            "is the annotator's server running there?"
        )

    def _try(self, call: httpx.Request) -> tuple[httpx.Response | None, str]:
        try:
            response = self._http.send(call)
        except httpx.TransportError as error:
            return None, str(error) or type(error).__name__
        return response, f"{response.status_code} {response.reason_phrase}"


def _connect(url: str, timeout_s: float) -> httpx.Client:
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url: must be http://HOST:PORT or https://..., got {url!r}")
    # A proxy that the environment names cannot reach this machine's own loopback.
    local = parsed.host in ("localhost", "127.0.0.1", "::1")
    # Reading the certificates takes longer than most answers, and only https needs them.
    return httpx.Client(
        base_url=url, timeout=timeout_s, trust_env=not local, verify=parsed.scheme == "https"
    )


def _path(work: Work, verb: str) -> str:
    return f"/api/items/{work.item.item_id}/{verb}"


def _wait_s(response: httpx.Response | None, attempt: int) -> float:
    asked = "" if response is None else response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return min(float(asked), _LONGEST_WAIT_S)
    # Apart by chance, so that many clients do not come back in the same moment.
    return float(min(0.1 * 2.0 ** min(attempt, 10), _LONGEST_WAIT_S) * random.uniform(0.5, 1.0))


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    problem = _problem(response)
    kind = LeaseLostError if response.status_code == 409 else ApiError
    raise kind(response.status_code, problem)


def _problem(response: httpx.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            error="not_ours",
            message=f"{response.url}: {response.status_code}, not an answer of the annotator",
            remedy="Check the address.",
        )


def _read(response: httpx.Response, answer: type[_Answer]) -> _Answer:
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        raise ApiError(response.status_code, _problem(response)) from error
