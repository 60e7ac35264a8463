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

    api_url: str
    flow: str
    name: str

    def run(self, recipe: str) -> str:
        """The id of a new run, which starts as soon as it may."""
        own = httpx.get(f"{self.api_url}/deployments/name/{self.flow}/{self.name}", timeout=30)
        body = {"parameters": {"recipe": recipe}, "state": {"type": "SCHEDULED"}}
        path = f"deployments/{own.raise_for_status().json()['id']}/create_flow_run"
        answer = httpx.post(f"{self.api_url}/{path}", json=body, timeout=30)
        return str(answer.raise_for_status().json()["id"])

    def state(self, run: str) -> str:
        answer = httpx.get(f"{self.api_url}/flow_runs/{run}", timeout=30)
        return str(answer.raise_for_status().json()["state_type"])


def expire(leases: Path) -> None:
    """Make every lease one of long ago, or the test would wait five minutes."""
    for path in leases.glob("*.json"):
        path.write_text(re.sub(r"\d{4}-\d\d-\d\dT", "2026-01-01T", path.read_text()))


def test_the_next_run_starts_once_the_lease_has_expired(
    maskloop: Any,
    filled: Workspace,
    at_free_ports: Callable[[Path], list[int]],
    until: Callable[..., None],
) -> None:
    port, _ = at_free_ports(filled.root)
    train = Deployment(f"http://127.0.0.1:{port}/api", "train", filled.root.name)
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
