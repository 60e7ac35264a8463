"""`maskloop serve`: the deployments with their schedules, run by this process."""

import asyncio
import platform
import re
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from flows.errors import UsageError
from flows.orchestration import flows
from flows.settings import FILE_NAME
from flows.workspace import Workspace

_FLOWS: dict[str, Flow[..., Any]] = {
    "train": flows.train_flow,
    "assist": flows.assist_flow,
    "merge": flows.merge_flow,
    "generate": flows.generate_flow,
    "loop": flows.loop_flow,
}


def deployment_name(root: Path, *, shared: bool) -> str:
    """A workspace's folder; at a shared server with six digits of a hash of where it lies."""
    folder = re.sub(r"[/%&<>]", "-", root.name) or "workspace"
    if not shared:
        return folder
    place = f"{platform.node()}:{root}"
    return f"{folder}-{sha256(place.encode()).hexdigest()[:6]}"


def deployments(workspace: Workspace, name: str) -> list[RunnerDeployment]:
    """One deployment of that name per stage, with the cron lines of `maskloop.toml`."""
    return [_deployment(workspace, stage, name) for stage in _FLOWS]


def _deployment(workspace: Workspace, stage: str, name: str) -> RunnerDeployment:
    flow = _FLOWS[stage]
    cron = getattr(workspace.settings.schedules, stage)
    try:
        made = flow.to_deployment(
            name=name,
            cron=cron or None,
            parameters={"root": str(workspace.root), "recipe": workspace.settings.recipe},
            tags=["maskloop"],
            description=flow.description,
            concurrency_limit=1,
            # By path, Prefect would put this folder before the package that it shares a name with.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except ValueError as error:
        # The settings know what cron is; Prefect's scheduler does not know all of it.
        path = workspace.root / FILE_NAME
        raise UsageError(f"{path}: schedules.{stage}: Prefect cannot read {cron!r}") from error
    assert isinstance(made, RunnerDeployment), "outside an event loop Prefect answers at once"
    return made


class _Runner(Runner):
    is_told_to_end = False

    def handle_sigterm(self, *_args: Any, **_kwargs: Any) -> None:
        """End as Ctrl+C does, which cancels; an exit would come up in whichever task runs now."""
        self.is_told_to_end = True
        signal.raise_signal(signal.SIGINT)


def run(workspace: Workspace, *, shared: bool, tell: Callable[[str], None]) -> None:
    """Register the deployments and run what is scheduled or asked for, until interrupted."""
    runner = _Runner(pause_on_shutdown=True)
    name = deployment_name(workspace.root, shared=shared)
    for deployment in deployments(workspace, name):
        runner.add_deployment(deployment)
    tell(f"deployments  {', '.join(f'{stage}/{name}' for stage in _FLOWS)}")
    tell("Ctrl+C stops all.")
    try:
        asyncio.run(runner.start())
    except KeyboardInterrupt:
        if not runner.is_told_to_end:
            raise
