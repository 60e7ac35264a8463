"""`maskloop serve` for real: server, deployments, a scheduled run, one by hand, and the UI."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from flows.processes.prefect_server import free_port
from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
START_S, RUN_S = 180, 300


@dataclass(frozen=True)
class Served:
    """A running `maskloop serve`."""

    root: Path
    prefect: str
    annotator: str
    api: httpx.Client

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.api.post(path, json=body).json()

    def finished_run(self, flow: str, *, scheduled: bool) -> dict[str, Any]:
        """The first run of `flow` that completed, on schedule or by hand."""
        deadline = time.monotonic() + RUN_S
        body = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        }
        while time.monotonic() < deadline:
            for run in self.post("flow_runs/filter", body):
                if run["auto_scheduled"] == scheduled:
                    return dict(run)
            time.sleep(2)
        raise AssertionError(f"no run of {flow} ended within {RUN_S} s")


def configure(root: Path, prefect_port: int, annotator_port: int) -> None:
    path = root / "maskloop.toml"
    text = path.read_text()
    text = re.sub(r"(?m)^port = 4200", f"port = {prefect_port}", text)
    text = re.sub(r"(?m)^port = 8765", f"port = {annotator_port}", text)
    text = re.sub(r"(?m)^batch_done_share = .*$", "batch_done_share = 0", text)
    text = re.sub(r"(?m)^merge = .*$", 'merge = "* * * * *"', text)
    path.write_text(re.sub(r"(?m)^generate = .*$", 'generate = ""', text))


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, **more}


@pytest.fixture
def served(filled: Workspace, prefect_api: Callable[[str], httpx.Client]) -> Iterator[Served]:
    ports = free_port(), free_port()
    configure(filled.root, *ports)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.app", "serve"],
        cwd=filled.root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    prefect, annotator = (f"http://127.0.0.1:{port}" for port in ports)
    found = Served(filled.root, prefect, annotator, prefect_api(f"{prefect}/api"))
    try:
        wait_for(f"{found.prefect}/api/deployments/name/loop/{filled.root.name}", process)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{found.prefect}/api/health", timeout=2)


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "maskloop serve ended"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError(f"{url} did not answer within {START_S} s")


def shows(page: Page, text: str) -> None:
    page.wait_for_function(
        "text => document.body.innerText.includes(text)", arg=text, timeout=90_000
    )


@pytest.mark.browser
def test_schedules_runs_by_hand_and_the_ui(served: Served, chromium: Browser) -> None:
    assert httpx.get(f"{served.annotator}/").status_code == 200
    names = {item["name"] for item in served.post("flows/filter", {})}
    assert names >= {"train", "assist", "merge", "generate", "turn", "refresh", "loop"}

    by_schedule = served.finished_run("merge", scheduled=True)
    assert by_schedule["state_type"] == "COMPLETED", by_schedule["state"]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "deployment",
            "run",
            f"train/{served.root.name}",
            "-p",
            "recipe=demo-quick",
        ],
        env=environment(PREFECT_API_URL=f"{served.prefect}/api"),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    by_hand = served.finished_run("train", scheduled=False)
    assert by_hand["state_type"] == "COMPLETED", by_hand["state"]

    status = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "models", "list", "--json"],
        cwd=served.root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert '"role": "candidate"' in status
    keys = {item["key"] for item in served.post("artifacts/latest/filter", {})}
    assert keys >= {"gold-scores", "training-curves", "sample-masks", "report"}

    page = chromium.new_page()
    page.goto(f"{served.prefect}/deployments")
    for flow in ("train", "assist", "merge", "generate", "turn", "refresh", "loop"):
        shows(page, flow)
    page.goto(f"{served.prefect}/artifacts")
    shows(page, "gold-scores")
    page.close()
