"""Turns by themselves on drawn images: their steps, in order, each once, whatever stops them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from annotator.item import proposal_ids
from annotator.submission import AddedMask, Decision, Submission
from engine import rle
from flows.asking.assist import AssistOutcome, assist_stage
from flows.asking.refreshing import RefreshOutcome, refresh_stage
from flows.errors import StageError
from flows.locks import stage_lock
from flows.merging.merge import MergeOutcome, merge_stage
from flows.models import serving
from flows.progress import Progress, Silent
from flows.recipes import Recipe
from flows.runs import Turn, new_run, start_run
from flows.training.train import TrainOutcome, TrainRequest, train_stage
from flows.turns.due import due
from flows.turns.history import last_turns
from flows.turns.status import status
from flows.turns.turning import run_turn
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.errors import TransientStorageError

Copied = Callable[[Path, Path], AbstractContextManager[Workspace]]


@dataclass
class Here:
    """The steps as plain calls in this process; something may go wrong before one."""

    workspace: Workspace
    recipe: Recipe
    before: dict[str, BaseException] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)
    called: list[str] = field(default_factory=list)

    def _go(self, stage: str) -> None:
        self.called.append(stage)
        if stage in self.before:
            raise self.before[stage]

    def merge(self, turn: Turn) -> MergeOutcome:
        self._go("merge")
        return merge_stage(self.workspace, self.progress, turn=turn)

    def train(self, turn: Turn, request: TrainRequest) -> TrainOutcome:
        self._go("train")
        trained = train_stage(
            self.workspace, self.recipe, self.progress, turn=turn, request=request
        )
        if not trained.promoted:
            # Two steps of training teach what they like; here it must serve.
            serving.promote(self.workspace, trained.version, reason="by hand")
        return trained

    def refresh(self, turn: Turn) -> RefreshOutcome:
        self._go("refresh")
        return refresh_stage(self.workspace, self.recipe, self.progress, turn=turn)

    def assist(self, turn: Turn) -> AssistOutcome:
        self._go("assist")
        return assist_stage(self.workspace, self.recipe, self.progress, turn=turn)


def turn(workspace: Workspace, recipe: Recipe, **before: BaseException) -> Here:
    """A turn in this process; what goes wrong before a step comes out of it."""
    here = Here(workspace, recipe, before)
    if before:
        with pytest.raises(type(next(iter(before.values())))):
            run_turn(workspace, recipe, here, Silent())
    else:
        run_turn(workspace, recipe, here, Silent())
    return here


def answer(workspace: Workspace) -> None:
    """Reject what is proposed, and draw a mask of the upper half."""
    lease = workspace.queue.claim("ada")
    assert lease is not None
    item = lease.item
    mask = np.zeros((item.height, item.width), dtype=bool)
    mask[: item.height // 2] = True
    body = Submission(
        decisions=tuple(
            Decision(proposal_id=name, action="rejected") for name in proposal_ids(item.payload)
        ),
        added=(AddedMask(segmentation=rle.encode_one(mask), drawn=True),),
        complete=True,
    )
    workspace.queue.submit(item.item_id, lease.lease_token, "ada", item.item_id, body.to_dict())


@dataclass(frozen=True)
class Turned:
    """Three turns: people answer half of each batch, and hold an item at the second's end."""

    workspace: Workspace
    called: list[list[str]]


@pytest.fixture(scope="module")
def turned(
    filled_root: Path, recipe: Recipe, copied: Copied, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Turned]:
    with copied(filled_root, tmp_path_factory.mktemp("turned") / "workspace") as opened:
        annotator = replace(opened.settings.annotator, batch_done_share=0.5)
        half = replace(opened, settings=replace(opened.settings, annotator=annotator))
        called = [turn(half, recipe).called]
        for _ in range(2):
            answer(half)
            called.append(turn(half, recipe).called)
        yield Turned(half, called)


def test_a_turn_learns_and_people_have_work_again(turned: Turned) -> None:
    assert turned.called[0] == ["merge", "train", "assist"]
    assert turned.called[1] == ["merge", "train", "refresh", "assist"]
    # Nobody has seen four images, and two are a batch.
    assert turned.called[2] == ["merge", "train", "refresh", "assist"]


def test_what_each_turn_brought(turned: Turned) -> None:
    third, second, first = last_turns(turned.workspace, 5)
    assert first.summary == "0 answers with 0 masks; v2 promoted; 2 images to review"
    assert second.summary == (
        "1 answers with 1 masks; v3 promoted; 1 items refreshed; 2 images to review"
    )
    assert (third.num_submissions, third.version, third.num_refreshed) == (1, "v4", 2)
    assert third.num_items == 0
    assert [item.iteration for item in (first, second, third)] == [1, 2, 3]


def test_the_steps_are_runs_of_the_turn(turned: Turned) -> None:
    rows = turned.workspace.lake.rows(
        "SELECT t.iteration, list(s.stage ORDER BY s.started_at) AS stages "
        "FROM runs t JOIN runs s ON s.parent_run_id = t.run_id AND s.iteration = t.iteration "
        "WHERE t.stage = 'turn' AND s.status = 'done' GROUP BY ALL ORDER BY ALL"
    )
    assert [row["stages"] for row in rows] == [
        ["merge", "train", "assist"],
        ["merge", "train", "refresh", "assist"],
        ["merge", "train", "refresh"],
    ]
    assert fsck(turned.workspace) == []


def test_afterwards_nothing_is_due(turned: Turned, recipe: Recipe) -> None:
    assert due(turned.workspace) is None
    assert turn(turned.workspace, recipe).called == []
    facts = status(turned.workspace)
    assert facts["due"] == "nothing; 0 images were answered since the last training"
    assert [row["turn"] for row in facts["turns"]] == [3, 2, 1]


@pytest.fixture
def unlabelled(filled: Workspace) -> Workspace:
    """The drawn images; those with labels are all gold."""
    filled.lake.commit(
        lambda tx: tx.execute("UPDATE images SET split = 'gold' WHERE split = 'train'"),
        message="test",
    )
    return filled


@pytest.mark.parametrize(
    "stopped_by",
    [KeyboardInterrupt(), TransientStorageError("locked")],
    ids=["Ctrl+C", "what passes"],
)
def test_a_turn_that_was_stopped_goes_on_with_its_first_step_not_done(
    unlabelled: Workspace, recipe: Recipe, stopped_by: BaseException
) -> None:
    assert turn(unlabelled, recipe, assist=stopped_by).called == ["merge", "assist"]
    assert turn(unlabelled, recipe).called == ["assist"]
    [facts] = last_turns(unlabelled, 5)
    assert (facts.status, facts.iteration, facts.num_items) == ("done", 1, 2)


def test_a_turn_that_fails_says_why_and_the_loop_rests(filled: Workspace, recipe: Recipe) -> None:
    assert turn(filled, recipe, train=StageError("it diverged")).called == ["merge", "train"]
    assert turn(filled, recipe).called == []
    [facts] = last_turns(filled, 5)
    assert (facts.status, facts.detail) == ("failed", "StageError: it diverged")
    assert "the last one failed: StageError: it diverged" in status(filled)["due"]


def test_without_labels_a_turn_only_asks(unlabelled: Workspace, recipe: Recipe) -> None:
    assert turn(unlabelled, recipe).called == ["merge", "assist"]


def test_labels_that_a_training_has_seen_are_no_reason_to_train(
    filled: Workspace, recipe: Recipe
) -> None:
    start_run(filled, replace(new_run("train"), status="done"))
    assert turn(filled, recipe).called == ["merge", "assist"]


@pytest.mark.parametrize("other", ["loop", "turn"])
def test_one_at_a_time(filled: Workspace, recipe: Recipe, other: str) -> None:
    with stage_lock(filled, other):
        assert turn(filled, recipe).called == []
    assert last_turns(filled, 5) == []
