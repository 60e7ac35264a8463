"""Annotators as a crowd of asyncio clients: each claims, thinks, keeps its lease alive, answers.

They behave as the page does: what was not answered is sent again, an item that went to somebody
else is given up, and 503 is heeded.
"""

import asyncio
import itertools
import json
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

_BROKEN_WAIT_S = 0.2
_GIVE_UP_AFTER_S = 120.0
_LAG_EVERY_S = 0.05
_JSON = {"Content-Type": "application/json"}
# What a client may get besides a broken connection; 409 says that the item is somebody else's now.
_EXPECTED = frozenset({200, 201, 204, 409, 503})


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    retry_after: str
    body: bytes


@dataclass
class Journal:
    """What happened to all clients together; latencies in seconds, by route."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, str] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)
    without_retry_after: int = 0

    def note(self, route: str, seconds: float, answer: "Answer") -> None:
        """One answer."""
        self.latencies[route].append(seconds)
        self.statuses[str(answer.status)] += 1
        if answer.status == 503 and not answer.retry_after.isdecimal():
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

    def __init__(self, name: str, http: aiohttp.ClientSession, journal: Journal) -> None:
        self._name = name
        self._http = http
        self._journal = journal

    async def work(self, answer: bytes, think_s: float, goes_on: Callable[[], bool]) -> None:
        """Answer items with the JSON `answer` while it `goes_on`, and finish the last one."""
        await asyncio.sleep(random.uniform(0, think_s))
        while goes_on():
            asked = json.dumps({"annotator": self._name}).encode()
            got = await self._send("lease", "/api/lease", asked)
            lease = json.loads(got.body)["lease"] if got.status == 200 else None
            if lease is None:
                await asyncio.sleep(think_s)
                continue
            await self._answer(lease, answer, think_s)

    async def _answer(self, lease: Mapping[str, Any], answer: bytes, think_s: float) -> None:
        shown = {"annotator": self._name, "lease_token": lease["lease_token"]}
        held = json.dumps(shown).encode()
        path = f"/api/items/{lease['item']['item_id']}"
        key = {"Idempotency-Key": uuid.uuid4().hex}
        # Most items are done before their first heartbeat is due.
        beats = int(think_s / lease["heartbeat_s"] + random.random())
        for _ in range(beats):
            await asyncio.sleep(think_s / (beats + 1))
            await self._send("heartbeat", f"{path}/heartbeat", held)
        await asyncio.sleep(think_s / (beats + 1))
        body = held[:-1] + b', "submission": ' + answer + b"}"
        done = await self._send("submit", f"{path}/submit", body, key)
        if done.status == 201:
            told = json.loads(done.body)
            self._journal.acknowledged[told["submission_id"]] = told["item_id"]

    async def _send(
        self, route: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to a request, sent again for as long as nobody answers or 503 does.

        Raises TimeoutError when that takes too long.
        """
        give_up = time.monotonic() + _GIVE_UP_AFTER_S
        while time.monotonic() < give_up:
            began = time.perf_counter()
            try:
                answer = await self._ask(path, body, headers or {})
            except (aiohttp.ClientError, TimeoutError):
                self._journal.statuses["broken"] += 1
                await asyncio.sleep(_BROKEN_WAIT_S)
                continue
            self._journal.note(route, time.perf_counter() - began, answer)
            if answer.status != 503:
                return answer
            await asyncio.sleep(float(answer.retry_after or 1))
        raise TimeoutError(f"{route}: no answer in {_GIVE_UP_AFTER_S:g} s")

    async def _ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        async with self._http.post(path, data=body, headers={**_JSON, **headers}) as response:
            retry_after = response.headers.get("Retry-After", "")
            return Answer(response.status, retry_after, await response.read())


async def crowd(
    url: str,
    answer: Mapping[str, Any],
    journal: Journal,
    *,
    num: int,
    think_s: float,
    goes_on: Callable[[], bool],
) -> None:
    """`num` annotators at the server for as long as it `goes_on`, who write into the journal."""
    content = json.dumps(answer).encode()
    lag = asyncio.create_task(_watch_lag(journal))
    # As many connections as there are people, each of which has one of their own in a browser.
    connections = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60.0)
    async with aiohttp.ClientSession(url, connector=connections, timeout=timeout) as http:
        people = [Annotator(f"person {number}", http, journal) for number in range(num)]
        await asyncio.gather(*(person.work(content, think_s, goes_on) for person in people))
    lag.cancel()


async def _watch_lag(journal: Journal) -> None:
    """Note how late this process is itself: that much of a latency is its own."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_LAG_EVERY_S)
        journal.lags.append(time.perf_counter() - began - _LAG_EVERY_S)
