"""Ctrl+C and kill -9 with a Prefect server of our own: seconds, one line, nothing left behind."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# It takes seconds; on a machine that is busy with other things as well, many.
SOON_S = 180
STOPPED = "error: stopped; what was committed stays, the same command goes on from there"
Alive = Callable[[int], bool]
Api = Callable[[str], httpx.Client]


def until_flow_runs(api: httpx.Client) -> None:
    body = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    deadline = time.monotonic() + SOON_S
    while api.post("flow_runs/count", json=body).json() == 0:
        assert time.monotonic() < deadline, "no flow run started"
        time.sleep(0.1)


def test_ctrl_c_in_a_stage(
    maskloop: Any, filled: Workspace, still_alive: Alive, prefect_api: Api
) -> None:
    train = maskloop(filled.root, "train")
    server, api_url = train.until_served()
    until_flow_runs(prefect_api(api_url))
    train.press_ctrl_c()
    code, lines = train.end(SOON_S)
    assert (code, lines[1:]) == (130, [STOPPED])
    assert not still_alive(server)


def test_ctrl_c_in_serve(
    maskloop: Any, workspace: Workspace, still_alive: Alive, at_free_ports: Any
) -> None:
    at_free_ports(workspace.root)
    serve = maskloop(workspace.root, "serve")
    server, _ = serve.until_served()
    serve.until_says("Ctrl+C stops")
    serve.press_ctrl_c()
    code, lines = serve.end(SOON_S)
    assert (code, lines[4:]) == (130, [STOPPED])
    assert not still_alive(server)
    assert not (workspace.root / ".locks" / "serve.json").exists()


def test_a_service_manager_stops_serve_without_a_word(
    maskloop: Any, workspace: Workspace, still_alive: Alive, at_free_ports: Any
) -> None:
    at_free_ports(workspace.root)
    serve = maskloop(workspace.root, "serve")
    server, _ = serve.until_served()
    serve.until_says("Ctrl+C stops")
    serve.process.send_signal(signal.SIGTERM)
    code, lines = serve.end(SOON_S)
    assert (code, lines[4:]) == (0, [])
    assert not still_alive(server)


def test_kill_9_leaves_no_server(
    maskloop: Any, filled: Workspace, still_alive: Alive, prefect_api: Api
) -> None:
    train = maskloop(filled.root, "train")
    server, api_url = train.until_served()
    until_flow_runs(prefect_api(api_url))
    os.kill(train.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + SOON_S
    while still_alive(server):
        assert time.monotonic() < deadline, "the server outlived its command"
        time.sleep(0.2)
