"""Prefect servers of our own, and the question who answers at an address."""

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from flows.errors import StageError
from flows.processes import tether
from flows.workspace import Workspace

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 120.0
_LEASES_ON_DISK = "prefect.server.concurrency.lease_storage.filesystem"


class Answer(Enum):
    """Who answers at an address."""

    PREFECT = "a Prefect server"
    OTHER = "something else"
    NOBODY = "nobody"


def ask(api_url: str, *, timeout_s: float = 2.0) -> Answer:
    """Who answers at the address of a Prefect API."""
    try:
        with urlopen(f"{api_url}/health", timeout=timeout_s) as answer:
            healthy = answer.read(16).strip() == b"true"
    except HTTPError as error:
        # A server with a password, and Prefect Cloud, want to know the client first.
        locked = error.code in (401, 403) or "/accounts/" in api_url
        return Answer.PREFECT if locked else Answer.OTHER
    except OSError:
        return Answer.NOBODY
    except (HTTPException, ValueError):
        return Answer.OTHER
    return Answer.PREFECT if healthy else Answer.OTHER


@dataclass(frozen=True)
class Server:
    """A Prefect server that this process has started."""

    api_url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self) -> None:
        """Until it answers; raises StageError when it ended or takes too long."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while ask(self.api_url) is not Answer.PREFECT:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StageError(f"the Prefect server did not start; {self.log} says why")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it; browsers that keep a connection open get a few seconds."""
        tether.stop(self.process)


def start_temporary(workspace: Workspace) -> Server:
    """A server without pages and schedules, for the flow runs of one command."""
    port = free_port()
    app = "prefect.server.api.server:create_app"
    command = ["uvicorn", "--factory", app, "--host", _HOST, "--port", str(port)]
    # When it ends, the client in this process still holds connections.
    command += ["--log-level", "error", "--lifespan", "on", "--timeout-graceful-shutdown", "1"]
    # What Prefect sets for the one it would start by itself, which Ctrl+C would end before us.
    env = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    return _start(workspace, port, command, env)


def start_with_pages(workspace: Workspace) -> Server:
    """The server of `maskloop serve`; raises StageError when its port is taken."""
    port = workspace.settings.prefect.port
    _check_free(port)
    command = ["prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    env = {
        # The pages ask whoever served them, also through a tunnel on another port.
        "PREFECT_SERVER_UI_API_URL": os.environ.get("PREFECT_SERVER_UI_API_URL", "/api"),
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "PREFECT_HOME": str(workspace.folder(".prefect")),
        # In memory, as is usual, the slot of a run that was cut off would stay taken for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": _LEASES_ON_DISK,
    }
    return _start(workspace, port, command, env)


def _start(workspace: Workspace, port: int, command: Sequence[str], env: dict[str, str]) -> Server:
    env = {**os.environ, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", **env}
    log = workspace.folder(".prefect") / "server.log"
    process = tether.start(command, env=env, log=log)
    return Server(f"http://{_HOST}:{port}/api", process, log)


def free_port() -> int:
    """A port of this machine on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # As servers do: a connection that was closed a moment ago does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise StageError(_taken(port)) from error


def _taken(port: int) -> str:
    api_url = f"http://{_HOST}:{port}/api"
    if ask(api_url) is Answer.PREFECT:
        return (
            f"serve: on port {port} another Prefect server listens; change prefect.port in "
            f'maskloop.toml, or report to that one with prefect.api_url = "{api_url}"'
        )
    return f"serve: port {port} is taken by another program; change prefect.port in maskloop.toml"
