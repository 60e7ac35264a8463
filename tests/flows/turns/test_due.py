"""When the loop turns by itself: what the lake and the queue say, whoever looks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from annotator.submission import Submission
from flows.locks import stage_lock
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.runs import finish_run, new_run, start_run
from flows.turns import due as due_module
from flows.turns.due import due, num_answered, rests_until
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.rows import utcnow

BATCH = 4
Copied = Callable[[Path, Path], AbstractContextManager[Workspace]]


@pytest.fixture(scope="module")
def served_root(
    filled_root: Path, recipe: Recipe, copied: Copied, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("served") / "workspace"
    with copied(filled_root, root) as opened:
        serving.ensure_base(opened, recipe, Silent())
    return root


@pytest.fixture
def served(served_root: Path, tmp_path: Path, copied: Copied) -> Iterator[Workspace]:
    """The drawn images, and a model in service."""
    with copied(served_root, tmp_path / "served") as opened:
        yield opened


def ask(workspace: Workspace, *, stage: str = "assist", num: int = BATCH, model: str = "v1") -> str:
    """An assist run that has enqueued images that nobody has seen."""
    run_id = start_run(workspace, new_run("assist"))
    rows = workspace.lake.rows("SELECT * FROM images WHERE split = 'unlabelled' ORDER BY image_id")
    workspace.queue.enqueue(
        NewItem(
            image_id=row["image_id"],
            file_name=row["file_name"],
            height=row["height"],
            width=row["width"],
            model_version=model,
            run_id=run_id,
            iteration=1,
            stage=stage,
            payload={"proposals": []},
        )
        for row in rows[:num]
    )
    workspace.lake.commit(lambda tx: finish_run(tx, run_id, num_images=num), message="test")
    return run_id


def answer(workspace: Workspace, num: int) -> None:
    for _ in range(num):
        lease = workspace.queue.claim("ada")
        assert lease is not None
        item = lease.item
        workspace.queue.submit(
            item.item_id, lease.lease_token, "ada", item.item_id, Submission().to_dict()
        )


def skip_the_rest(workspace: Workspace) -> None:
    while (lease := workspace.queue.claim("ada")) is not None:
        workspace.queue.skip(lease.item.item_id, lease.lease_token, "ada")


def ended_run(workspace: Workspace, stage: str, status: str, *, ago: timedelta) -> None:
    at = utcnow() - ago
    row = replace(new_run(stage), status=status, started_at=at, ended_at=at)
    start_run(workspace, row)


def work(workspace: Workspace) -> str | None:
    found = due(workspace)
    return found and found.work


def test_nothing_is_due_without_images(workspace: Workspace) -> None:
    assert due(workspace) is None


def test_people_without_work_are_given_some(filled: Workspace) -> None:
    found = due(filled)
    assert found is not None
    assert (found.work, found.why) == ("turn", "nothing waits, and nobody has seen 4 images")


def test_nothing_is_due_while_people_are_at_it(served: Workspace) -> None:
    ask(served)
    assert due(served) is None


@pytest.mark.parametrize(("answered", "expected"), [(2, None), (3, "turn"), (4, "turn")])
def test_a_batch_is_done_to_its_share(
    served: Workspace, answered: int, expected: str | None
) -> None:
    ask(served)
    answer(served, answered)
    assert num_answered(served) == answered
    assert work(served) == expected


def test_who_merges_the_answers_makes_no_difference(served: Workspace) -> None:
    ask(served)
    answer(served, 2)
    merge_stage(served, Silent())
    answer(served, 1)
    assert work(served) == "turn"
    merge_stage(served, Silent())
    assert num_answered(served) == 3
    assert work(served) == "turn"


def test_what_a_training_has_seen_counts_no_more(served: Workspace) -> None:
    ask(served)
    answer(served, 3)
    merge_stage(served, Silent())
    ended_run(served, "train", "done", ago=timedelta(0))
    assert num_answered(served) == 0
    assert due(served) is None
    answer(served, 1)
    assert num_answered(served) == 1


def test_hidden_checks_and_second_eyes_are_no_labels(served: Workspace) -> None:
    ask(served, stage="gold")
    answer(served, BATCH)
    assert num_answered(served) == 0


def test_the_end_of_a_batch_that_nobody_can_finish(served: Workspace) -> None:
    ask(served)
    answer(served, 1)
    skip_the_rest(served)
    found = due(served)
    assert found is not None
    assert found.why == "1 images were answered, and nothing is left to hand out"


def test_somebody_holds_the_last_image(served: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(served, num=2)
    answer(served, 1)
    served.queue.claim("bob")
    assert due(served) is None, "they may answer it in a moment"
    monkeypatch.setattr(due_module, "_QUIET", timedelta(0))
    assert work(served) == "turn"


def test_when_everything_was_seen_nothing_is_due(served: Workspace) -> None:
    served.lake.commit(
        lambda tx: tx.execute("UPDATE images SET split = 'train' WHERE split = 'unlabelled'"),
        message="test",
    )
    assert due(served) is None


@pytest.mark.parametrize("stage", ["loop", "turn", "train", "assist"])
def test_nothing_is_due_while_a_stage_is_at_work(filled: Workspace, stage: str) -> None:
    assert work(filled) == "turn"
    with stage_lock(filled, stage):
        assert due(filled) is None
    assert work(filled) == "turn"


def test_a_turn_that_was_stopped_goes_on(served: Workspace) -> None:
    ask(served)
    start_run(served, new_run("turn"))
    found = due(served)
    assert found is not None
    assert found.why == "a turn was stopped, and goes on"


@pytest.mark.parametrize(
    ("failures", "minutes"), [(1, 1), (2, 2), (3, 4), (7, 60)], ids=lambda value: str(value)
)
def test_after_failures_the_loop_rests(filled: Workspace, failures: int, minutes: int) -> None:
    ended_run(filled, "turn", "done", ago=timedelta(days=2))
    for number in range(failures):
        ended_run(filled, "turn", "failed", ago=timedelta(minutes=1 + 9 * number))
    again = rests_until(filled, "turn")
    if minutes == 1:
        assert again is None
        assert work(filled) == "turn"
        return
    assert again is not None
    left = (again - utcnow()).total_seconds() / 60
    assert minutes - 1.5 < left < minutes - 0.9
    assert due(filled) is None


def another_version(workspace: Workspace, *, serves: bool) -> None:
    """A copy of v1 as v2."""
    row = serving.model_row(workspace, "v1")
    new = replace(row, version="v2", status="candidate", parent="v1")
    workspace.lake.commit(lambda tx: tx.insert([new]), message="test")
    if serves:
        serving.promote(workspace, "v2", reason="test")


def test_what_waits_with_another_model_is_refreshed(served: Workspace) -> None:
    ask(served)
    another_version(served, serves=False)
    assert due(served) is None
    serving.promote(served, "v2", reason="test")
    found = due(served)
    assert found is not None
    assert found.work == "refresh"
    assert found.why == "4 items wait with another model than the one in service"
    serving.rollback(served)
    assert due(served) is None


def test_what_a_newer_model_proposed_is_refreshed_after_a_rollback(served: Workspace) -> None:
    another_version(served, serves=True)
    ask(served, model="v2")
    assert due(served) is None
    serving.rollback(served)
    assert work(served) == "refresh"


@pytest.mark.parametrize(
    ("stage", "expected"),
    [("gold", "refresh"), ("second", "refresh"), ("dispute", "refresh"), ("audit", None)],
)
def test_an_audit_alone_keeps_its_model(
    served: Workspace, stage: str, expected: str | None
) -> None:
    ask(served, stage=stage, num=99)
    another_version(served, serves=True)
    assert work(served) == expected
