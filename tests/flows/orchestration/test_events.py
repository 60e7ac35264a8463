"""`maskloop serve` and a simulated annotator, and no other command: the loop turns by itself."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.intake.coco_import import ImportOptions, import_coco
from flows.orchestration.automations import CRASHED
from flows.orchestration.events import BATCH_DONE, MODEL_PROMOTED
from flows.turns.history import TurnFacts, last_turns
from flows.turns.status import status
from flows.upkeep.checking import fsck
from flows.waiting import outdated
from flows.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NUM_SCENES, NUM_GOLD = 18, 3
TURN_S = 300
Copied = Callable[[Path, Path], AbstractContextManager[Workspace]]


@dataclass(frozen=True)
class World:
    """A workspace of images without labels, where a batch is four images, and their truth."""

    workspace: Workspace
    truth: Path
    prefect_port: int
    annotator_port: int

    @property
    def turns(self) -> list[TurnFacts]:
        """Oldest first."""
        return last_turns(self.workspace, 99)[::-1]

    def count(self, state: str) -> int:
        return self.workspace.queue.counts()[state]


@pytest.fixture
def world(
    empty_root: Path,
    tmp_path: Path,
    copied: Copied,
    draw: Callable[[Path, int], Any],
    at_free_ports: Callable[[Path], list[int]],
    set_setting: Callable[[Path, str, str], None],
) -> Iterator[World]:
    drawn = draw(tmp_path, NUM_SCENES)
    gold = tmp_path / "gold.txt"
    gold.write_text("\n".join(drawn.names[:NUM_GOLD]))
    root = tmp_path / "turning"
    with copied(empty_root, root):
        ports = at_free_ports(root)
        set_setting(root, 'recipe = "nano"', 'recipe = "demo-quick"')
        set_setting(root, "batch_done_share = 0.75", "batch_done_share = 0.5")
    with copied(root, tmp_path / "world") as opened:
        options = ImportOptions(labelled=0.0, gold_list=gold)
        import_coco(opened, drawn.truth, drawn.folder, options, lambda _done, _total: None)
        yield World(opened, drawn.truth, *ports)


def test_three_batches_and_a_killed_turn(
    world: World,
    maskloop: Any,
    until: Callable[..., None],
    prefect_api: Callable[[str], httpx.Client],
) -> None:
    def annotate() -> Any:
        url = f"http://127.0.0.1:{world.annotator_port}"
        words = ("annotate", "--simulate", "--truth", str(world.truth), "--url", url)
        return maskloop(world.workspace.root, *words)

    def ended(num_turns: int) -> bool:
        turns = world.turns
        return len(turns) == num_turns and all(facts.status == "done" for facts in turns)

    def training(turn: int) -> bool:
        return bool(
            world.workspace.lake.rows(
                "SELECT 1 FROM runs WHERE stage = 'train' AND status = 'running' AND iteration = ?",
                (turn,),
            )
        )

    serve = maskloop(world.workspace.root, "serve")
    serve.until_says("Ctrl+C stops")
    until(lambda: ended(1), "a first batch, though nobody asked for it", TURN_S)
    assert world.count("ready") == 4

    # Somebody leaves in the middle of the batch, and comes back when there are better proposals.
    person = annotate()
    until(lambda: world.count("done") >= 2, "two answers", TURN_S)
    os.kill(person.process.pid, signal.SIGSTOP)
    assert world.count("ready") > 0
    until(lambda: ended(2), "a turn on the first batch", TURN_S)
    os.kill(person.process.pid, signal.SIGCONT)

    # All at once: the server, its flow runs and the annotator.
    until(lambda: training(3), "a training on the second batch", TURN_S)
    serve.kill_all()
    person.kill_all()
    again = maskloop(world.workspace.root, "serve")
    again.until_says("Ctrl+C stops")
    until(lambda: ended(3), "the turn that was killed, to its end", TURN_S)
    annotate().end(TURN_S)
    until(lambda: ended(4), "a turn on the third batch", TURN_S)
    check_turns(world)
    check_prefect(prefect_api(f"http://127.0.0.1:{world.prefect_port}/api"), until)
    again.kill_all()
    assert fsck(world.workspace) == []


def check_turns(world: World) -> None:
    first, *learning = world.turns
    assert (first.version, first.num_items) == (None, 4), "nothing to learn from yet"
    assert all(turn.version for turn in learning)
    assert all(turn.num_submissions >= 2 for turn in learning)
    assert any(turn.is_promoted for turn in learning)
    # Somebody had left in the middle of the first batch: what they had not opened waited then.
    assert not learning[0].is_promoted or learning[0].num_refreshed > 0
    assert outdated(world.workspace) == []
    shown = status(world.workspace)["turns"]
    assert [row["turn"] for row in shown] == [4, 3, 2, 1]


def check_prefect(api: httpx.Client, until: Callable[..., None]) -> None:
    """Turns as flow runs, one automation of each kind, and the killed run is no zombie."""

    def runs(flow: str, state: str) -> list[Any]:
        body = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"state": {"type": {"any_": [state]}}},
        }
        return list(api.post("flow_runs/filter", json=body).json())

    # A flow run ends a little after its turn: it writes the report.
    until(lambda: len(runs("turn", "COMPLETED")) >= 4, "four turns in the Prefect UI", TURN_S)
    # The first was found by looking; a batch that is done says so itself.
    creators = {(run["created_by"] or {}).get("type") for run in runs("turn", "COMPLETED")}
    assert creators == {None, "AUTOMATION"}
    names = sorted(item["name"] for item in api.post("automations/filter", json={}).json())
    assert names == sorted(
        [
            CRASHED,
            f"maskloop: turn/world on {BATCH_DONE}",
            f"maskloop: refresh/world on {MODEL_PROMOTED}",
        ]
    )
    limits = api.post("v2/concurrency_limits/filter", json={}).json()
    assert any(limit["name"].startswith("maskloop-") for limit in limits)
    until(lambda: runs("turn", "CRASHED"), "the killed run, marked as crashed", TURN_S)
