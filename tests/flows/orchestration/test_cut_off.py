"""A deployed run that a dying `maskloop serve` cut off must not keep others waiting for ever."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Deployment:
    """A deployment at a Prefect server."""

    api: httpx.Client
    flow: str
    name: str

    def run(self, recipe: str) -> str:
        """The id of a new run, which starts as soon as it may."""
        own = self.api.get(f"deployments/name/{self.flow}/{self.name}").json()
        body = {"parameters": {"recipe": recipe}, "state": {"type": "SCHEDULED"}}
        answer = self.api.post(f"deployments/{own['id']}/create_flow_run", json=body)
        return str(answer.json()["id"])

    def state(self, run: str) -> str:
        return str(self.api.get(f"flow_runs/{run}").json()["state_type"])


def expire(leases: Path) -> None:
    """Make every lease one of long ago, or the test would wait five minutes."""
    for path in leases.glob("*.json"):
        path.write_text(re.sub(r"\d{4}-\d\d-\d\dT", "2026-01-01T", path.read_text()))


def test_the_next_run_starts_once_the_lease_has_expired(
    maskloop: Any,
    filled: Workspace,
    at_free_ports: Callable[[Path], list[int]],
    set_setting: Callable[[Path, str, str], None],
    until: Callable[..., None],
    prefect_api: Callable[[str], httpx.Client],
) -> None:
    port, _ = at_free_ports(filled.root)
    set_setting(filled.root, "batch_done_share = 0.75", "batch_done_share = 0")
    train = Deployment(prefect_api(f"http://127.0.0.1:{port}/api"), "train", filled.root.name)
    first = maskloop(filled.root, "serve")
    first.until_says("Ctrl+C stops")
    cut_off = train.run("nano")
    until(lambda: train.state(cut_off) == "RUNNING", "a run")
    first.kill_all()
    expire(filled.root / ".prefect" / "concurrency_leases")

    second = maskloop(filled.root, "serve")
    second.until_says("Ctrl+C stops")
    following = train.run("demo-quick")
    until(lambda: train.state(following) == "RUNNING", "its slot")
    second.kill_all()
