"""A room full of annotators at the review queue: latencies, errors, and what got lost or doubled.

`python benchmarks/queue_load.py [--json] [--quick] [--annotators 200] [--seconds 300] [--think 2]
[--backend sqlite|postgres|both] [--kills N] [--restarts N]`. The server is the one of `maskloop
serve`, in a process of its own, over a workspace whose queue is a file of SQLite or a Postgres of
our own; server, database and clients share this machine. Each item has 40 proposals, and each
answer 40 decisions, of which one edits, and one added mask, with their clicks: what two seconds are
enough for. `client_lag` is how late the clients'
process was by itself. `--kills` kills the server so often (kill -9) during the load, `--restarts`
Postgres (immediate shutdown). Afterwards every acknowledged answer is looked for, and the queue's
invariants are checked.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from local_postgres import LocalPostgres, die_with_parent
from queue_clients import Journal, crowd, percentiles

from annotator.item import ItemPayload, Proposal
from annotator.submission import AddedMask, Click, Decision, Submission
from engine import rle
from engine.rle import Rle
from flows import workspace as workspaces
from flows.annotating.people import annotator_server
from flows.models.serving import ensure_base
from flows.progress import Silent
from flows.recipes import NANO
from flows.settings import FILE_NAME
from flows.workspace import open_workspace
from storage.queue.check import check
from storage.queue.items import NewItem
from storage.queue.review import ReviewQueue

HW = (520, 696)
NUM_PROPOSALS, NUM_EDITED, NUM_ADDED = 40, 1, 1
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much to ask of the server."""

    annotators: int
    seconds: float
    think_s: float
    kills: int
    restarts: int

    @property
    def num_items(self) -> int:
        """More than the annotators can answer, also when the faults take their time."""
        seconds = self.seconds * (3 if self.kills + self.restarts else 1)
        return int(self.annotators * (seconds / self.think_s + 2)) + 1


def disk(number: int) -> Rle:
    """One of many round masks."""
    random = np.random.default_rng(number)
    radius = random.uniform(8, 20)
    y, x = random.uniform(20, HW[0] - 20), random.uniform(20, HW[1] - 20)
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    return rle.encode_one((rows - y) ** 2 + (columns - x) ** 2 < radius**2)


def proposals() -> ItemPayload:
    """What each item offers."""
    found = [
        Proposal.of(
            disk(number),
            proposal_id=f"{number:032x}",
            predicted_iou=0.9,
            stability_score=0.95,
            points=[(100.5, 50.5)],
        )
        for number in range(NUM_PROPOSALS)
    ]
    return ItemPayload(proposals=found)


def answer() -> Submission:
    """A decision on each proposal, and masks of one's own."""
    clicks = tuple(
        Click(x=100.0 + number, y=50.5, label=1, at_s=number, segmentation=disk(number))
        for number in range(2)
    )
    decisions = [
        Decision(
            proposal_id=f"{number:032x}", action="edited", segmentation=disk(900), clicks=clicks
        )
        if number < NUM_EDITED
        else Decision(proposal_id=f"{number:032x}", action="accepted")
        for number in range(NUM_PROPOSALS)
    ]
    added = [
        AddedMask(segmentation=disk(800 + number), clicks=clicks) for number in range(NUM_ADDED)
    ]
    return Submission(decisions=tuple(decisions), added=tuple(added), seconds=12.0)


def fill(root: Path, num_items: int) -> None:
    """Items of the model in service, for more time than there is."""
    workspace = open_workspace(root)
    version = ensure_base(workspace, NANO, Silent())
    payload = proposals().to_dict()
    workspace.queue.enqueue(
        NewItem(
            image_id=f"{number:032x}",
            file_name=f"image-{number}.png",
            height=HW[0],
            width=HW[1],
            model_version=version,
            run_id="load",
            iteration=1,
            payload=payload,
        )
        for number in range(num_items)
    )
    workspace.queue.close()
    workspace.lake.close()


class Server:
    """The server of `maskloop serve` for a workspace, in a process that may be killed.

    The process that this one starts only imports, and forks a server whenever it is told to: the
    start of another one then takes no longer than a killed one is missed.
    """

    def __init__(self, root: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        command = [sys.executable, __file__, "--serve", str(root), str(self._port)]
        self._forker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.start()

    def start(self) -> None:
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write("start\n")
        self._forker.stdin.flush()
        self.pid = int(self._forker.stdout.readline())
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError("the annotator's server did not start")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/health", trust_env=False, verify=False).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, and what it came from."""
        self.kill()
        self._forker.kill()
        self._forker.communicate()


def serve(root: Path, port: int) -> None:
    """Fork a server for each line of standard input, and say its process number."""
    # Nobody waits for those that were killed.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        if (pid := os.fork()) == 0:
            die_with_parent(signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with annotator_server(open_workspace(root), port=port):
                signal.pause()
        print(pid, flush=True)


class Faults:
    """Kills and restarts, spread over the time of the load, which lasts until they are done.

    However slow the machine, between two of them an answer at least is acknowledged.
    """

    def __init__(self, load: Load, server: Server, postgres: LocalPostgres | None) -> None:
        self._load = load
        self._server = server
        self._postgres = postgres
        self.done: Counter[str] = Counter()

    def happen(self, journal: Journal, work: "Future[None]") -> None:
        """All of them, one after the other, at annotators who `work` and keep this journal."""
        plan = ["kill"] * self._load.kills + ["restart"] * self._load.restarts
        random.shuffle(plan)
        for fault in plan:
            told = len(journal.acknowledged)
            time.sleep(self._load.seconds / len(plan) * random.uniform(0.2, 0.8))
            while len(journal.acknowledged) == told and not work.done():
                time.sleep(0.05)
            if fault == "kill":
                self._server.kill()
                self._server.start()
            elif self._postgres is not None:
                self._postgres.restart()
            self.done[fault] += 1


def under_load(load: Load, server: Server, faults: Faults) -> Journal:
    """What the annotators went through."""
    until = time.monotonic() + load.seconds
    over = threading.Event()
    journal = Journal()
    annotators = crowd(
        server.url,
        answer().to_dict(),
        journal,
        num=load.annotators,
        think_s=load.think_s,
        goes_on=lambda: time.monotonic() < until or not over.is_set(),
    )
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(asyncio.run, annotators)
        # On this thread, with which the Postgres that it starts will end.
        try:
            faults.happen(journal, working)
        finally:
            over.set()
        working.result()
    return journal


def measured(backend: str, load: Load) -> dict[str, Any]:
    """One backend under load."""
    before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalPostgres() if backend == "postgres" else nullcontext() as postgres,
    ):
        root = Path(folder) / "workspace"
        workspaces.create(root).lake.close()
        if postgres is not None:
            settings = root / FILE_NAME
            url = postgres.create("queue")
            settings.write_text(
                settings.read_text().replace('[queue]\nurl = ""', f'[queue]\nurl = "{url}"')
            )
        fill(root, load.num_items)
        server = Server(root)
        faults = Faults(load, server, postgres)
        try:
            journal = under_load(load, server, faults)
        finally:
            server.close()
        found = verified(open_workspace(root).queue, journal)
    return {
        **found,
        "kills": faults.done["kill"],
        "restarts": faults.done["restart"],
        "statuses": dict(sorted(journal.statuses.items())),
        "unexpected": journal.unexpected,
        "routes": journal.routes(),
        "client_lag": percentiles(journal.lags),
        "load_average_before": before,
    }


def verified(queue: ReviewQueue, journal: Journal) -> dict[str, Any]:
    """What became of the answers."""
    stored = queue.submissions_after(0, limit=None)
    times = Counter(submission.item.item_id for submission in stored)
    kept = {submission.submission_id for submission in stored}
    breaches = check(queue.database, acknowledged=journal.acknowledged)
    queue.close()
    return {
        "acknowledged": len(journal.acknowledged),
        "stored": len(stored),
        "lost": len(set(journal.acknowledged) - kept),
        "doubled": sum(count > 1 for count in times.values()),
        "breaches": [str(breach) for breach in breaches],
    }


def shown(backend: str, found: dict[str, Any]) -> None:
    print(
        f"{backend}: {found['acknowledged']} answers acknowledged, {found['lost']} lost, "
        f"{found['doubled']} doubled, {len(found['breaches'])} invariants breached; "
        f"{found['kills']} kills, {found['restarts']} restarts; answers {found['statuses']}, "
        f"{found['unexpected']} unexpected; load average before {found['load_average_before']:.1f}"
    )
    for route, values in {**found["routes"], "client_lag": found["client_lag"]}.items():
        columns = "".join(
            f"{values[name]:10.1f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")
        )
        print(f"  {route:12}{values['count']:8}{columns}")


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="20 annotators for 10 seconds")
    parser.add_argument("--annotators", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--think", type=float, default=2.0)
    parser.add_argument("--backend", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--restarts", type=int, default=0)
    options = parser.parse_args()
    load = Load(
        annotators=20 if options.quick else options.annotators,
        seconds=10.0 if options.quick else options.seconds,
        think_s=options.think,
        kills=options.kills,
        restarts=options.restarts,
    )
    backends = ["sqlite", "postgres"] if options.backend == "both" else [options.backend]
    result: dict[str, Any] = {
        "annotators": load.annotators,
        "seconds": load.seconds,
        "think_s": load.think_s,
        "cores": len(os.sched_getaffinity(0)),
        "backends": {backend: measured(backend, load) for backend in backends},
    }
    if options.json:
        print(json.dumps(result))
        return
    print("milliseconds      count       p50       p95       p99       max")
    for backend, found in result["backends"].items():
        shown(backend, found)


if __name__ == "__main__":
    main()
