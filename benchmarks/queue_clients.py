"""Annotators as a crowd of asyncio clients: each claims, thinks, keeps its lease alive, answers.

They behave as the page does: what was not answered is sent again, an item that went to somebody
else is given up, and 503 is heeded.
"""

import asyncio
import contextlib
import itertools
import json
import random
import ssl
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

_BROKEN_WAIT_S = 0.2
_GIVE_UP_AFTER_S = 120.0
_LAG_EVERY_S = 0.05
_JSON = {"Content-Type": "application/json"}
# Made once: each client would make one of its own, out of all certificates there are.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# What a client may get besides a broken connection; 409 says that the item is somebody else's now.
_EXPECTED = frozenset({200, 201, 204, 409, 503})


@dataclass
class Journal:
    """What happened to all clients together; latencies in seconds, by route."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, str] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)
    without_retry_after: int = 0

    def note(self, route: str, seconds: float, response: httpx.Response) -> None:
        """One answer."""
        self.latencies[route].append(seconds)
        self.statuses[str(response.status_code)] += 1
        if response.status_code == 503 and not response.headers.get("Retry-After", "").isdecimal():
            self.without_retry_after += 1

    @property
    def unexpected(self) -> int:
        """Answers that no client should get."""
        known = {str(status) for status in _EXPECTED} | {"broken"}
        return self.without_retry_after + sum(
            count for status, count in self.statuses.items() if status not in known
        )

    def routes(self) -> dict[str, dict[str, float]]:
        """Percentiles in milliseconds, by route and of all requests."""
        every = list(itertools.chain.from_iterable(self.latencies.values()))
        named = {**dict(sorted(self.latencies.items())), "all": every}
        return {route: percentiles(found) for route, found in named.items()}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """count, p50_ms, p95_ms, p99_ms, max_ms; empty for no values."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    last = len(ordered) - 1
    found = {f"p{p}_ms": 1000 * ordered[round(p / 100 * last)] for p in (50, 95, 99)}
    return {"count": len(ordered), **found, "max_ms": 1000 * ordered[-1]}


class Annotator:
    """One person at the page."""

    def __init__(self, name: str, http: httpx.AsyncClient, journal: Journal) -> None:
        self._name = name
        self._http = http
        self._journal = journal

    async def work(self, answer: bytes, think_s: float, goes_on: Callable[[], bool]) -> None:
        """Answer items with the JSON `answer` while it `goes_on`, and finish the last one."""
        await asyncio.sleep(random.uniform(0, think_s))
        while goes_on():
            asked = json.dumps({"annotator": self._name}).encode()
            got = await self._send("lease", "/api/lease", asked)
            lease = got.json()["lease"] if got.status_code == 200 else None
            if lease is None:
                await asyncio.sleep(think_s)
                continue
            await self._answer(lease, answer, think_s)

    async def _answer(self, lease: Mapping[str, Any], answer: bytes, think_s: float) -> None:
        shown = {"annotator": self._name, "lease_token": lease["lease_token"]}
        held = json.dumps(shown).encode()
        path = f"/api/items/{lease['item']['item_id']}"
        key = {"Idempotency-Key": uuid.uuid4().hex}
        beats = max(1, int(think_s // lease["heartbeat_s"]))
        for _ in range(beats):
            await asyncio.sleep(think_s / (beats + 1))
            await self._send("heartbeat", f"{path}/heartbeat", held)
        await asyncio.sleep(think_s / (beats + 1))
        body = held[:-1] + b', "submission": ' + answer + b"}"
        done = await self._send("submit", f"{path}/submit", body, key)
        if done.status_code == 201:
            told = done.json()
            self._journal.acknowledged[told["submission_id"]] = told["item_id"]

    async def _send(
        self, route: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer to a request, sent again for as long as nobody answers or 503 does.

        Raises TimeoutError when that takes too long.
        """
        give_up = time.monotonic() + _GIVE_UP_AFTER_S
        while time.monotonic() < give_up:
            began = time.perf_counter()
            try:
                response = await self._http.post(
                    path, content=body, headers={**_JSON, **(headers or {})}
                )
            except httpx.TransportError:
                self._journal.statuses["broken"] += 1
                await asyncio.sleep(_BROKEN_WAIT_S)
                continue
            self._journal.note(route, time.perf_counter() - began, response)
            if response.status_code != 503:
                return response
            await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
        raise TimeoutError(f"{route}: no answer in {_GIVE_UP_AFTER_S:g} s")


async def crowd(
    url: str,
    answer: Mapping[str, Any],
    *,
    num: int,
    think_s: float,
    goes_on: Callable[[], bool],
) -> Journal:
    """`num` annotators at the server for as long as it `goes_on`; returns what happened to them."""
    journal = Journal()
    content = json.dumps(answer).encode()
    lag = asyncio.create_task(_watch_lag(journal))
    async with contextlib.AsyncExitStack() as stack:
        people = []
        for number in range(num):
            # A connection each, as browsers have: a pool looks through all of its own each time.
            own = httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False, verify=_NO_TLS)
            http = await stack.enter_async_context(own)
            people.append(Annotator(f"person {number}", http, journal))
        await asyncio.gather(*(person.work(content, think_s, goes_on) for person in people))
    lag.cancel()
    return journal


async def _watch_lag(journal: Journal) -> None:
    """Note how late this process is itself: that much of a latency is its own."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_LAG_EVERY_S)
        journal.lags.append(time.perf_counter() - began - _LAG_EVERY_S)
