"""`maskloop generate --ray-address`: a cluster of two nodes, started on this machine."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

from flows.upkeep.checking import fsck
from flows.workspace import Workspace

PROJECT = Path(__file__).parents[3]


def wait_for_metric(name: str) -> None:
    """Until a node tells it Prometheus, and that the dashboard; they do so every few seconds."""
    for _ in range(180):
        told = "".join(
            httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}").text
            for node in ray.nodes()
        )
        if name in told:
            return
        time.sleep(0.5)
    raise AssertionError(f"no node tells {name}")


@pytest.mark.slow
def test_two_nodes_work_on_one_generation(
    cli: Callable[..., Any], at_home: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        said = cli("generate", "--recipe", "quick", "--ray-address", nodes.address)
        assert said.code == 0, said.err
        ray.init(address=nodes.address, log_to_driver=False)
        actors = list_actors(filters=[("class_name", "=", "ShardLabeller")])
        assert len({actor.node_id for actor in actors}) == 2, "an actor on each node"
        wait_for_metric("maskloop_images_total{")
    finally:
        ray.shutdown()
        nodes.shutdown()
    sets = at_home.lake.rows(
        "SELECT count(*) AS sets, count(DISTINCT image_id) AS images FROM image_sets"
    )
    assert sets == [{"sets": 12, "images": 12}]
    assert fsck(at_home) == []
