"""One row per execution of a stage: begun, finished, failed, or found dead."""

import pytest

from flows.errors import StageError
from flows.runs import Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.workspace import Workspace


def run_of(workspace: Workspace, run_id: str) -> dict[str, object]:
    [row] = workspace.lake.rows("SELECT * FROM runs WHERE run_id = ?", (run_id,))
    return row


def test_a_run_is_there_from_its_start_and_ends_with_its_results(workspace: Workspace) -> None:
    turn = Turn(iteration=2, parent_run_id="loop", recipe="quick")
    run_id = start_run(workspace, new_run("train", turn=turn, config_hash="c"))
    begun = run_of(workspace, run_id)
    assert (begun["status"], begun["ended_at"], begun["iteration"]) == ("running", None, 2)
    workspace.lake.commit(
        lambda tx: finish_run(tx, run_id, num_images=3, model_version="v2"), message="done"
    )
    done = run_of(workspace, run_id)
    assert (done["status"], done["num_images"], done["model_version"]) == ("done", 3, "v2")
    assert isinstance(done["seconds"], float)
    assert done["seconds"] >= 0


def test_an_error_marks_the_run_failed_and_goes_on(workspace: Workspace) -> None:
    run_id = start_run(workspace, new_run("train"))
    with pytest.raises(StageError, match="no luck"), failing_run(workspace, run_id):
        raise StageError("no luck")
    failed = run_of(workspace, run_id)
    assert (failed["status"], failed["detail"]) == ("failed", "StageError: no luck")


def test_only_running_runs_of_the_stage_are_found_dead(workspace: Workspace) -> None:
    dead, other, done = (start_run(workspace, new_run(s)) for s in ("train", "assist", "train"))
    workspace.lake.commit(lambda tx: finish_run(tx, done), message="done")
    reconcile_runs(workspace, "train")
    statuses = [run_of(workspace, run_id)["status"] for run_id in (dead, other, done)]
    assert statuses == ["failed", "running", "done"]
    snapshot = workspace.lake.snapshot()
    reconcile_runs(workspace, "train")
    assert workspace.lake.snapshot() == snapshot
