"""What happens in a workspace, told to the Prefect server for its automations to act on.

An event may get lost, and may come twice: whoever acts on one looks first what is due.
"""

from pathlib import Path

from prefect.events import emit_event

from flows.orchestration.names import resource

BATCH_DONE = "maskloop.batch.done"
MODEL_PROMOTED = "maskloop.model.promoted"


def batch_done(root: Path, run_id: str) -> None:
    """Enough items of the assist run `run_id` are finished; does not wait for the server."""
    emit_event(BATCH_DONE, resource(root), payload={"run_id": run_id})


def model_promoted(root: Path, version: str) -> None:
    """The model `version` serves now; does not wait for the server."""
    emit_event(MODEL_PROMOTED, resource(root), payload={"version": version})
