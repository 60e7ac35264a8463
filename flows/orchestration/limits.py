"""One training at a time on a device, over all workspaces that report to one Prefect server."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.models import serving
from flows.orchestration.names import training_limit
from flows.progress import Progress
from flows.workspace import Workspace

# The shortest that Prefect has: so long the slot of a training that was killed stays taken.
_LEASE_S = 60.0
_TELL_AFTER_S = 5.0


def make_training_limit(
    client: SyncPrefectClient, workspace: Workspace, *, nobody_trains: bool
) -> None:
    """Make the limit of this workspace's device; one that is there keeps how many it allows.

    Where `nobody_trains`, a slot that is taken is a killed training's, and is free at once.
    """
    name = training_limit(serving.device(workspace))
    try:
        found = client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        _create(client, name, 1)
        return
    if found.active_slots and nobody_trains:
        # The lease that has the slot is of the limit's id, and of no meaning to another.
        client.delete_global_concurrency_limit_by_name(name)
        _create(client, name, found.limit)


def _create(client: SyncPrefectClient, name: str, limit: int) -> None:
    # Another workspace's `maskloop serve` may be a moment quicker.
    with suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))


@contextmanager
def training_slot(workspace: Workspace, progress: Progress) -> Iterator[None]:
    """Wait for the device's turn and hold it; at a server without such a limit, do nothing."""
    name = training_limit(serving.device(workspace))
    with ExitStack() as held:
        try:
            held.enter_context(
                concurrency(name, lease_duration=_LEASE_S, timeout_seconds=_TELL_AFTER_S)
            )
        except TimeoutError:
            progress.note(f"another training has {name}; this one waits for it")
            held.enter_context(concurrency(name, lease_duration=_LEASE_S))
        yield
