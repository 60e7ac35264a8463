"""Everything that runs all the time, started and stopped together."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from flows.annotating.doors import check_guarded, public_url
from flows.annotating.people import annotator_server
from flows.errors import StageError
from flows.locks import is_locked, stage_lock
from flows.processes import launch, prefect_server
from flows.workspace import Workspace


def serve(workspace: Workspace, *, tell: Callable[[str], None]) -> None:
    """Run the Prefect server, the deployments and the annotator until Ctrl+C.

    Raises StageError when they run already in this workspace, or when a port is taken, UsageError
    when the annotator would listen beyond this machine and nobody could sign in.
    """
    # A service manager asks with SIGTERM; without this, Python would skip what is left to stop.
    signal.signal(signal.SIGTERM, _end)
    if is_locked(workspace, launch.SERVE):
        raise StageError(_runs_already(workspace))
    # Before Prefect's server, which takes its time to come up.
    check_guarded(workspace)
    with stage_lock(workspace, launch.SERVE), _prefect(workspace) as (api_url, shared):
        launch.report_to(api_url)
        settings = workspace.settings.annotator
        by_itself = settings.batch_done_share > 0
        tell_done = partial(launch.tell_batch_done, workspace) if by_itself else None
        with (
            annotator_server(
                workspace, port=settings.port, on_batch_done=tell_done
            ) as annotator_url,
            _announced(workspace, prefect_api=api_url, annotator=annotator_url),
        ):
            tell(f"Prefect UI   {api_url.removesuffix('/api')}")
            tell(f"annotator    {public_url(settings)}")
            launch.deployments(workspace, shared=shared, tell=tell)


def _end(*_: object) -> None:
    sys.exit(0)


def _runs_already(workspace: Workspace) -> str:
    found = launch.running(workspace)
    where = f"at {found['annotator']}, Prefect at {found['prefect_api']}" if found else "(starting)"
    return f"serve: runs already in this workspace {where}; stop that one first"


@contextmanager
def _prefect(workspace: Workspace) -> Iterator[tuple[str, bool]]:
    """(address, True) of the configured Prefect API, else (address, False) of one in the block."""
    if api_url := launch.configured(workspace):
        yield api_url, True
        return
    server = prefect_server.start_with_pages(workspace)
    try:
        server.wait()
        yield server.api_url, False
    finally:
        server.stop()


@contextmanager
def _announced(workspace: Workspace, **addresses: str) -> Iterator[None]:
    """Other commands of this workspace find the addresses while the block runs."""
    path = workspace.folder(".locks") / launch.RUNNING_FILE
    path.write_text(json.dumps(addresses), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
