"""A deployed run that a dying `maskloop serve` cut off must not keep others waiting for ever."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# The least that Prefect takes; five minutes are usual.
LEASE_S = 30
START_S, SLOT_S = 180, 300


class Deployment:
    """A deployment at a Prefect server."""

    def __init__(self, prefect_port: int, flow: str, name: str) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{prefect_port}/api", timeout=30)
        self._id = self._answer(self._client.get(f"/deployments/name/{flow}/{name}"))["id"]

    def run(self, recipe: str) -> str:
        """The id of a new run, which starts as soon as it may."""
        body = {"parameters": {"recipe": recipe}, "state": {"type": "SCHEDULED"}}
        path = f"/deployments/{self._id}/create_flow_run"
        return str(self._answer(self._client.post(path, json=body))["id"])

    def state(self, run: str) -> str:
        return str(self._answer(self._client.get(f"/flow_runs/{run}"))["state_type"])

    @staticmethod
    def _answer(answer: httpx.Response) -> dict[str, Any]:
        answer.raise_for_status()
        return dict(answer.json())


def test_the_next_run_starts_once_the_lease_has_expired(
    maskloop: Any,
    filled: Workspace,
    at_free_ports: Callable[[Path], list[int]],
    until: Callable[..., None],
) -> None:
    port, _ = at_free_ports(filled.root)
    lease = {"PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": str(LEASE_S)}
    first = maskloop(filled.root, "serve", **lease)
    first.until_says("Ctrl+C stops")
    train = Deployment(port, "train", filled.root.name)
    cut_off = train.run("nano")
    until(lambda: train.state(cut_off) == "RUNNING", "a run", START_S)
    first.kill_all()

    maskloop(filled.root, "serve", **lease).until_says("Ctrl+C stops")
    train = Deployment(port, "train", filled.root.name)
    following = train.run("demo-quick")
    until(lambda: train.state(following) == "RUNNING", "its slot", SLOT_S)
