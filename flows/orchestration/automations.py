"""What the Prefect server does by itself: a turn when a batch is done, a refresh after a promotion,
and the end of flow runs that nobody hears of any more.

Automations are found by their names, so that every `maskloop serve` leaves one of each.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.orchestration.events import BATCH_DONE, MODEL_PROMOTED
from flows.orchestration.names import TAG, resource

CRASHED = "maskloop: flow runs without a heartbeat have crashed"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
# Three heartbeats of the shortest interval that Prefect has.
_SILENCE = timedelta(seconds=90)


def keep_automations(
    client: SyncPrefectClient, root: Path, name: str, deployments: Mapping[str, UUID]
) -> None:
    """Make the automations of a workspace, or make those that are there what they should be.

    `name` is its deployments', `deployments` their ids by flow.
    """
    for event, flow in ((BATCH_DONE, "turn"), (MODEL_PROMOTED, "refresh")):
        _keep(client, _running(f"{flow}/{name}", event, root, deployments[flow]))
    _keep(client, _crashing())


def _running(deployment: str, event: str, root: Path, deployment_id: UUID) -> AutomationCore:
    return AutomationCore(
        name=f"maskloop: {deployment} on {event}",
        description=f"Runs the deployment {deployment} when its workspace says {event}.",
        tags=[TAG],
        trigger=EventTrigger(
            expect={event},
            match=ResourceSpecification(
                {"prefect.resource.id": resource(root)["prefect.resource.id"]}
            ),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            RunDeployment(
                source="selected", deployment_id=deployment_id, parameters=None, job_variables=None
            )
        ],
    )


def _crashing() -> AutomationCore:
    return AutomationCore(
        name=CRASHED,
        description="A process that was killed cannot say so; its heartbeats stop.",
        tags=[TAG],
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *(f"prefect.flow-run.{end}" for end in _ENDS)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                force=False,
                message="No heartbeat for a minute and a half: the process is gone.",
            )
        ],
    )


def _keep(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    found = client.read_automations_by_name(wanted.name)
    if not found:
        client.create_automation(wanted)
        return
    first, *doubles = found
    # Whoever has switched it off in the Prefect UI meant that.
    wanted = wanted.model_copy(update={"enabled": first.enabled})
    if AutomationCore.model_validate(first.model_dump()) != wanted:
        client.update_automation(first.id, wanted)
    for double in doubles:
        client.delete_automation(double.id)
