"""Looks every few seconds whether something is due, and has its deployment run.

Events are quicker, but may get lost; a workspace that has just been filled has none; and after a
crash nobody emits one. Whatever happened, the next look finds what is to be done.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from flows.turns.due import Due, due
from flows.workspace import Workspace

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 4.0
_STOP_TIMEOUT_S = 10.0
_NOT_ENDED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


@contextmanager
def watching(workspace: Workspace, deployments: Mapping[str, UUID]) -> Iterator[None]:
    """Look on a thread for as long as the block runs; `deployments` are ids by flow."""
    stop = threading.Event()
    watch = Watch(workspace, deployments)
    thread = threading.Thread(target=watch.run, args=(stop,), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_TIMEOUT_S)


class Watch:
    """Remembers what it saw last, and since when the deployments are run by this process."""

    def __init__(self, workspace: Workspace, deployments: Mapping[str, UUID]) -> None:
        self._workspace = workspace
        self._deployments = deployments
        self._since = datetime.now(UTC)
        self._seen: Due | None = None
        self._said = ""

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop; what goes wrong is said once and tried again."""
        while not stop.wait(_LOOK_EVERY_S):
            try:
                self.look()
                self._said = ""
            except Exception as error:
                if (words := f"{type(error).__name__}: {error}") != self._said:
                    self._said = words
                    _log.warning("cannot see what is due, or start it: %s", words)

    def look(self) -> None:
        """Start what is due, if it was due at the look before as well: an event comes first."""
        found = due(self._workspace)
        before, self._seen = self._seen, found
        if found is None or before is None or before.work != found.work:
            return
        deployment = self._deployments[found.work]
        with get_client(sync_client=True) as client:
            if not any(self._is_coming(run) for run in _not_ended(client, deployment)):
                client.create_flow_run_from_deployment(deployment)

    def _is_coming(self, run: FlowRun) -> bool:
        """Whether a run will still do something; one of a process before this one will not."""
        if run.state is None or run.state.type is StateType.SCHEDULED:
            return True
        return run.state.timestamp > self._since


def _not_ended(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_NOT_ENDED)),
    )
    return client.read_flow_runs(flow_run_filter=wanted)
