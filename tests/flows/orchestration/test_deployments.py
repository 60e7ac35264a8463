"""What the deployments of a workspace are called, and when they run."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.errors import UsageError
from flows.orchestration.names import deployment_name
from flows.orchestration.serve import deployments
from flows.settings import ScheduleSettings
from flows.workspace import Workspace


@pytest.mark.parametrize(
    ("root", "name"),
    [("/data/masks", "masks"), ("/data/50% <done>", "50- -done-"), ("/", "workspace")],
    ids=["a folder", "with characters that Prefect refuses", "the root of the disk"],
)
def test_a_server_of_its_own_knows_a_workspace_by_its_folder(root: str, name: str) -> None:
    assert deployment_name(Path(root), shared=False) == name


def test_a_shared_server_tells_folders_of_one_name_apart() -> None:
    here, there = (deployment_name(Path(root, "masks"), shared=True) for root in ("/a", "/b"))
    assert here != there
    assert here == deployment_name(Path("/a/masks"), shared=True)
    assert {len(name) for name in (here, there)} == {len("masks-123456")}


def with_loop(workspace: Workspace, line: str) -> Workspace:
    return replace(
        workspace, settings=replace(workspace.settings, schedules=ScheduleSettings(loop=line))
    )


def test_each_stage_has_its_cron_line(workspace: Workspace) -> None:
    found = {
        item.flow_name: [schedule.schedule for schedule in item.schedules or []]
        for item in deployments(with_loop(workspace, "0 3 * * mon"), "masks")
    }
    stages = {"train", "assist", "merge", "generate", "label", "turn", "refresh", "loop"}
    assert found.keys() == stages
    [schedule] = found.pop("loop")
    assert getattr(schedule, "cron", None) == "0 3 * * mon"
    assert not any(found.values())


def test_a_cron_line_that_only_prefect_refuses(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"maskloop\.toml: schedules\.loop: Prefect cannot read"):
        deployments(with_loop(workspace, "0 3 LW * *"), "masks")
