"""`maskloop serve`: the deployments, what makes them run, and the process that runs them."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from flows.errors import UsageError
from flows.locks import is_locked
from flows.orchestration import flows
from flows.orchestration.automations import keep_automations
from flows.orchestration.limits import make_training_limit
from flows.orchestration.names import TAG, deployment_name
from flows.orchestration.watch import watching
from flows.settings import FILE_NAME
from flows.workspace import Workspace

_FLOWS: dict[str, Flow[..., Any]] = {
    "train": flows.train_flow,
    "assist": flows.assist_flow,
    "merge": flows.merge_flow,
    "generate": flows.generate_flow,
    "label": flows.label_flow,
    "turn": flows.turn_flow,
    "refresh": flows.refresh_flow,
    "loop": flows.loop_flow,
}
# These look under a lock what there is to do. A slot of Prefect's would be one that a killed run
# keeps for minutes, while others wait with nothing to do in the end.
_LOCKED = ("turn", "refresh")
_POLL_S = 5.0


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
            tags=[TAG],
            description=flow.description,
            concurrency_limit=None if stage in _LOCKED else 1,
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
    runner = _Runner(pause_on_shutdown=True, query_seconds=_POLL_S)
    name = deployment_name(workspace.root, shared=shared)
    made = zip(_FLOWS, deployments(workspace, name), strict=True)
    ids = {stage: _register(runner, deployment) for stage, deployment in made}
    with get_client(sync_client=True) as client:
        alone = not shared and not is_locked(workspace, "train")
        make_training_limit(client, workspace, nobody_trains=alone)
        keep_automations(client, workspace.root, name, ids)
    tell(f"deployments  {', '.join(f'{stage}/{name}' for stage in _FLOWS)}")
    tell("Ctrl+C stops all.")
    by_itself = workspace.settings.annotator.batch_done_share > 0
    try:
        with watching(workspace, ids) if by_itself else nullcontext():
            asyncio.run(runner.start())
    except KeyboardInterrupt:
        if not runner.is_told_to_end:
            raise


def _register(runner: Runner, deployment: RunnerDeployment) -> UUID:
    made = runner.add_deployment(deployment)
    assert isinstance(made, UUID), "outside an event loop Prefect answers at once"
    return made
