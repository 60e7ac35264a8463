"""Everything that runs all the time, started and stopped together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.error import URLError
from urllib.request import urlopen

from flows import launch
from flows.errors import StageError
from flows.people import annotator_server
from flows.workspace import Workspace

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0


def serve(workspace: Workspace, *, tell: Callable[[str], None]) -> None:
    """Run the Prefect server, the deployments and the annotator until Ctrl+C."""
    signal.signal(signal.SIGTERM, _interrupt)
    settings = workspace.settings
    api_url = settings.prefect.api_url or os.environ.get("PREFECT_API_URL", "")
    server = None if api_url else _start_prefect(workspace)
    api_url = api_url or f"http://127.0.0.1:{settings.prefect.port}/api"
    running = workspace.folder(".locks") / launch.RUNNING_FILE
    try:
        _wait_healthy(api_url, server)
        running.write_text(json.dumps({"prefect_api": api_url}), encoding="utf-8")
        os.environ["PREFECT_API_URL"] = api_url
        with annotator_server(workspace, port=settings.annotator.port) as annotator_url:
            tell(f"Prefect UI   {api_url.removesuffix('/api')}")
            tell(f"annotator    {annotator_url}")
            tell("Ctrl+C stops both.")
            launch.prepare(workspace)
            launch.deployments(workspace)
    finally:
        running.unlink(missing_ok=True)
        if server is not None:
            _stop(server)


def _interrupt(*_: object) -> None:
    # A service manager asks with SIGTERM; without this, Python would leave the server behind.
    raise KeyboardInterrupt


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # It waits for browsers that keep a connection open; its database is safe to cut off.
        server.kill()
        server.wait()


def _start_prefect(workspace: Workspace) -> "subprocess.Popen[bytes]":
    # The pages ask whoever served them, also through a tunnel on another port, unless told better.
    env = {"PREFECT_SERVER_UI_API_URL": "/api"} | os.environ
    env |= {
        "PREFECT_HOME": str(workspace.folder(".prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }
    port = str(workspace.settings.prefect.port)
    log = (workspace.folder(".prefect") / "server.log").open("ab")
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    return subprocess.Popen(command, env=env, stdout=log, stderr=log)


def _wait_healthy(api_url: str, server: "subprocess.Popen[bytes] | None") -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server is not None and server.poll() is not None:
            raise StageError(
                "serve: the Prefect server ended at once; see .prefect/server.log. Is its port in "
                "use? Change prefect.port in maskloop.toml"
            )
        try:
            with urlopen(f"{api_url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.3)
    raise StageError(f"serve: no Prefect server answers at {api_url}")
