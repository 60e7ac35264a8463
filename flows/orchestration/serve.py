"""`maskloop serve`: the deployments with their schedules, run by this process."""

from typing import Any

from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.orchestration import flows
from flows.workspace import Workspace

_FLOWS: dict[str, Flow[..., Any]] = {
    "train": flows.train_flow,
    "assist": flows.assist_flow,
    "merge": flows.merge_flow,
    "generate": flows.generate_flow,
    "loop": flows.loop_flow,
}


def deployments(workspace: Workspace) -> list[RunnerDeployment]:
    """One deployment per stage, with the cron lines of `maskloop.toml`."""
    schedules = workspace.settings.schedules
    parameters = {"root": str(workspace.root), "recipe": workspace.settings.recipe}
    made = [
        flow.to_deployment(
            name="maskloop",
            cron=getattr(schedules, name) or None,
            parameters=parameters,
            tags=["maskloop"],
            description=flow.description,
            concurrency_limit=1,
            # By path, Prefect would put this folder before the package that it shares a name with.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for name, flow in _FLOWS.items()
    ]
    return [item for item in made if isinstance(item, RunnerDeployment)]


def run(workspace: Workspace) -> None:
    """Register the deployments and run what is scheduled or asked for, until interrupted."""
    serve(*deployments(workspace), pause_on_shutdown=True)
