"""People's half of a turn: serve the queue, wait with a deadline, and go on with what is done."""

import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from annotator.app import create_app
from annotator.config import AnnotatorConfig
from flows.embeddings import ClickServer
from flows.errors import StageError
from flows.progress import Progress
from flows.workspace import Workspace

_POLL_S = 0.5
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class PeopleOutcome:
    """How a turn's review ended."""

    num_done: int
    num_open: int
    timed_out: bool


@contextmanager
def annotator_server(workspace: Workspace, *, port: int | None = None) -> Iterator[str]:
    """The review-queue API on a thread of this process; yields its address."""
    host = workspace.settings.annotator.host
    server = uvicorn.Server(
        uvicorn.Config(
            annotator_app(workspace), host=host, port=port or free_port(host), log_level="error"
        )
    )
    thread = threading.Thread(target=server.run, name="annotator", daemon=True)
    thread.start()
    try:
        _wait_started(server, thread, host)
        yield f"http://{host}:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def annotator_app(workspace: Workspace) -> Any:
    """The API over this workspace's queue, models and images."""
    clicks = ClickServer(workspace)
    return create_app(
        queue=workspace.queue,
        models=clicks,
        images=clicks,
        config=AnnotatorConfig(),
    )


def _wait_started(server: uvicorn.Server, thread: threading.Thread, host: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise StageError(
                f"annotator: cannot listen on {host}:{server.config.port}; is another server "
                "there? Change annotator.port in maskloop.toml"
            )
        time.sleep(0.05)


def free_port(host: str) -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def wait_for_people(
    workspace: Workspace, run_id: str, *, deadline_s: float, progress: Progress
) -> PeopleOutcome:
    """Poll until every item of `run_id` is finished or the deadline has passed.

    What is still untouched at the deadline is withdrawn; a lease that is held may still be
    submitted, and the next merge takes it.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        state = workspace.queue.progress(run_id)
        progress.step("images reviewed", state.done, state.total)
        if state.open == 0 or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    timed_out = state.open > 0
    if timed_out:
        withdrawn = workspace.queue.withdraw(run_id)
        progress.note(f"deadline passed: {withdrawn} images go back unseen")
    return PeopleOutcome(num_done=state.done, num_open=state.open, timed_out=timed_out)


def people_review(
    workspace: Workspace, run_id: str, *, deadline_s: float, progress: Progress
) -> PeopleOutcome:
    """Serve the annotator at its configured address and wait for people."""
    settings = workspace.settings.annotator
    with annotator_server(workspace, port=settings.port) as url:
        progress.note(f"Waiting for people: open {url} (at most {deadline_s / 3600:.1f} h)")
        return wait_for_people(workspace, run_id, deadline_s=deadline_s, progress=progress)


def simulated_review(
    workspace: Workspace,
    run_id: str,
    truth: Path,
    *,
    budget: int,
    deadline_s: float,
    progress: Progress,
) -> PeopleOutcome:
    """Let a simulated annotator, in a process of its own, work the queue over HTTP."""
    with annotator_server(workspace) as url:
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
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
            try:
                _watch(workspace, process, run_id, deadline_s, progress)
            finally:
                process.kill()
                process.wait()
            if process.returncode > 0:
                said.seek(0)
                lines = said.read().strip().splitlines() or ["it said nothing"]
                raise StageError(f"simulated annotator: {lines[-1].removeprefix('error: ')}")
        return wait_for_people(workspace, run_id, deadline_s=0.0, progress=progress)


def _watch(
    workspace: Workspace,
    process: "subprocess.Popen[bytes]",
    run_id: str,
    deadline_s: float,
    progress: Progress,
) -> None:
    deadline = time.monotonic() + deadline_s
    while process.poll() is None and time.monotonic() < deadline:
        state = workspace.queue.progress(run_id)
        progress.step("images reviewed", state.done, state.total)
        time.sleep(_POLL_S)
