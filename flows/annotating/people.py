"""People's half of a turn: serve the queue, wait with a deadline, and go on with what is done."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from annotator.app import create_app
from annotator.client import AnnotatorClient, ApiError, Patience, UnavailableError
from annotator.config import AnnotatorConfig
from annotator.signature import SIMULATED
from flows.annotating.clicks import ClickServer
from flows.annotating.doors import (
    LOOPBACK,
    allowed_hosts,
    check_guarded,
    is_loopback,
    local_url,
    public_url,
)
from flows.annotating.lent_tokens import LOOP, VARIABLE, lent_token
from flows.annotating.pictures import Pictures
from flows.errors import StageError
from flows.progress import Progress
from flows.workspace import Workspace
from storage.queue.review import ReviewQueue, RunProgress

_POLL_S = 0.5
_START_TIMEOUT_S = 30.0
# One try: whoever is there answers, or is not what we look for.
_ASK_ONCE = Patience(timeout_s=5.0, give_up_after_s=0.01)
_ASK_ONCE_S = 10.0
# A lent token outlives the deadline by what ending a process may take, and no more.
_SPARE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class PeopleOutcome:
    """How a turn's review ended."""

    num_done: int
    num_open: int
    timed_out: bool


@dataclass(frozen=True)
class Batch:
    """What a turn waits for: the items of its own run, and those that waited before it.

    The annotator hands out the most doubtful image first, whatever run it is of, so a turn that
    counted its own alone would take work on the others for none. What was `closed` of the other
    runs before does not count.
    """

    queue: ReviewQueue
    run_ids: tuple[str, ...]
    closed: RunProgress

    @classmethod
    def of(cls, workspace: Workspace, run_id: str) -> "Batch":
        """The batch of `run_id`, as the queue stands now."""
        others = [name for name in waiting_runs(workspace) if name != run_id]
        closed = _total(workspace.queue, others)
        return cls(workspace.queue, (run_id, *others), closed)

    @property
    def num_older(self) -> int:
        """How many items of other runs wait."""
        return _total(self.queue, self.run_ids[1:]).open

    def progress(self) -> RunProgress:
        """The number of items in each state."""
        total = _total(self.queue, self.run_ids)
        return RunProgress(
            ready=total.ready,
            leased=total.leased,
            done=total.done - self.closed.done,
            dead=total.dead - self.closed.dead,
        )

    def withdraw(self) -> int:
        """Take back what nobody has touched; returns how many items.

        A lease that is held may still be submitted, and the next merge takes it.
        """
        return sum(self.queue.withdraw(run_id) for run_id in self.run_ids)


def waiting_runs(workspace: Workspace) -> list[str]:
    """The assist runs with items that wait for an answer, oldest first."""
    rows = workspace.lake.rows("SELECT run_id FROM runs WHERE stage = 'assist' ORDER BY started_at")
    return [row["run_id"] for row in rows if workspace.queue.open_items(row["run_id"])]


def _total(queue: ReviewQueue, run_ids: Sequence[str]) -> RunProgress:
    found = [queue.progress(run_id) for run_id in run_ids]
    return RunProgress(
        ready=sum(run.ready for run in found),
        leased=sum(run.leased for run in found),
        done=sum(run.done for run in found),
        dead=sum(run.dead for run in found),
    )


@contextmanager
def annotator_server(
    workspace: Workspace,
    *,
    port: int = 0,
    host: str | None = None,
    on_batch_done: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """The review-queue API on a thread of this process; yields its address on this machine.

    Port 0 is any that is free, `host` by default the configured one; `on_batch_done` is told a
    run's id when enough of its items are finished. Raises StageError where the address cannot be
    had, UsageError where others reach it and nobody could sign in.
    """
    if host is None:
        check_guarded(workspace)
        host = workspace.settings.annotator.host
    with listen(host, port) as listening:
        app = annotator_app(
            workspace, always_sign_in=not is_loopback(host), on_batch_done=on_batch_done
        )
        config = uvicorn.Config(app, log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, args=([listening],), name="annotator", daemon=True
        )
        thread.start()
        try:
            _wait_started(server, thread)
            yield local_url(host, listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def listen(host: str, port: int) -> socket.socket:
    """A socket that connections come in by; raises StageError when its port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise StageError(
            f"annotator: cannot listen on {host}:{port} ({reason}); end what listens there, "
            "or change annotator.port in maskloop.toml"
        ) from error
    # Connections inherit it. asyncio sets it itself, but not where the protocol number is 0, as it
    # is here, and then each answer to a click lies 40 ms until its headers are acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def annotator_app(
    workspace: Workspace,
    *,
    always_sign_in: bool,
    on_batch_done: Callable[[str], None] | None = None,
) -> Any:
    """The API over this workspace's queue, models and images."""
    pictures = Pictures(workspace)
    settings = workspace.settings
    return create_app(
        queue=workspace.queue,
        models=ClickServer(workspace, pictures),
        images=pictures,
        config=AnnotatorConfig(
            allowed_hosts=allowed_hosts(settings.annotator),
            always_sign_in=always_sign_in,
            categories=settings.project.categories,
            # Nobody is told where it is 0.
            batch_done_share=settings.annotator.batch_done_share or 1.0,
        ),
        on_batch_done=on_batch_done,
    )


def _wait_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise StageError("annotator: the server did not start; run the same command again")
        time.sleep(0.05)


def wait_for_people(batch: Batch, *, deadline_s: float, progress: Progress) -> PeopleOutcome:
    """Poll until every item of the batch is finished or the deadline has passed."""
    deadline = time.monotonic() + deadline_s
    while True:
        # Before the look: what was done until the deadline is seen, however long a look takes.
        over = time.monotonic() > deadline
        state = batch.progress()
        progress.step("images reviewed", state.done, state.total)
        if state.open == 0 or over:
            break
        time.sleep(_POLL_S)
    return PeopleOutcome(num_done=state.done, num_open=state.open, timed_out=state.open > 0)


def people_review(
    workspace: Workspace, batch: Batch, *, deadline_s: float, progress: Progress
) -> PeopleOutcome:
    """Wait for people at the annotator's configured address.

    Where a running `maskloop serve` answers for this queue, people find it there; else this process
    serves it.
    """
    settings = workspace.settings.annotator
    url = public_url(settings)
    served = _knows(workspace, batch)
    with nullcontext() if served else annotator_server(workspace, port=settings.port):
        where = f"{url}, served already" if served else url
        progress.note(f"Waiting for people: open {where} (at most {deadline_s / 3600:.1f} h)")
        return wait_for_people(batch, deadline_s=deadline_s, progress=progress)


def _knows(workspace: Workspace, batch: Batch) -> bool:
    """Whether the annotator at our address has this batch; a run's id is in no other's queue."""
    settings = workspace.settings.annotator
    url = local_url(settings.host, settings.port)
    with (
        lent_token(workspace, LOOP, seconds=_ASK_ONCE_S) as token,
        AnnotatorClient(url, LOOP, token=token, patience=_ASK_ONCE) as client,
    ):
        try:
            return client.progress(batch.run_ids[0]).run is not None
        except (ApiError, UnavailableError):
            return False


def simulated_review(
    workspace: Workspace,
    batch: Batch,
    truth: Path,
    *,
    budget: int,
    deadline_s: float,
    progress: Progress,
) -> PeopleOutcome:
    """Let a simulated annotator, in a process of its own, work the queue over HTTP."""
    with (
        # Nobody but our own process has to reach it, wherever the configured one listens.
        annotator_server(workspace, host=LOOPBACK) as url,
        lent_token(workspace, SIMULATED, seconds=deadline_s + _SPARE_S) as token,
    ):
        command = [
            sys.executable,
            "-m",
            "flows.cli.app",
            "annotate",
            "--simulate",
            "--truth",
            str(truth),
            "--url",
            url,
            "--budget",
            str(budget),
            "--json",
        ]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=said, env=_with_token(token)
            )
            try:
                code = _watch(process, batch, deadline_s, progress)
            finally:
                process.kill()
                process.wait()
            if code:
                said.seek(0)
                raise StageError(f"simulated annotator: {_last_words(code, said.read())}")
        return wait_for_people(batch, deadline_s=0.0, progress=progress)


def _with_token(token: str | None) -> dict[str, str]:
    """The environment of a process that shows `token`, and not one that we were given."""
    others = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return others if token is None else {**others, VARIABLE: token}


def _watch(
    process: "subprocess.Popen[bytes]", batch: Batch, deadline_s: float, progress: Progress
) -> int | None:
    """The process's exit code, None when the deadline passes before it ends."""
    deadline = time.monotonic() + deadline_s
    while process.poll() is None and time.monotonic() < deadline:
        state = batch.progress()
        progress.step("images reviewed", state.done, state.total)
        time.sleep(_POLL_S)
    return process.poll()


def _last_words(code: int, said: str) -> str:
    if code < 0:
        name = signal.strsignal(-code)
        return f"ended by signal {-code} ({name}); run the same command again"
    lines = said.strip().splitlines() or ["it said nothing"]
    return lines[-1].removeprefix("error: ")
