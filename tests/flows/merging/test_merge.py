"""People's submissions into the store: each once, with who, what and how."""

from typing import Any

import numpy as np
import pytest

from annotator.item import ItemPayload, Proposal, proposal_ids
from annotator.submission import AddedMask, Click, Decision, Submission
from engine import rle
from engine.rle import Rle
from flows import workspace as workspaces
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.runs import Turn
from flows.training.labels import gold_labels, training_labels
from flows.waiting import unmerged_images
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.rows import MaskRow, utcnow

HW = (96, 128)


def square(top: int, left: int, side: int = 20) -> Rle:
    pixels = np.zeros((1, *HW), bool)
    pixels[0, top : top + side, left : left + side] = True
    return rle.encode(pixels)[0]


def proposal(name: str, mask: Rle) -> Proposal:
    return Proposal(
        proposal_id=name,
        segmentation=mask,
        bbox=[0.0, 0.0, 1.0, 1.0],
        area=rle.area(mask),
        predicted_iou=0.9,
        stability_score=0.8,
        point_coords=[[5.0, 5.0]],
    )


PROPOSALS = [proposal(name, square(10, left)) for name, left in (("p1", 5), ("p2", 45), ("p3", 85))]
CLICK = Click(x=15, y=15, label=1, at_s=2.0, predicted_iou=0.7, segmentation=square(10, 5, 10))
ANSWER = Submission(
    decisions=(
        Decision(proposal_id="p1", action="accepted"),
        Decision(
            proposal_id="p2",
            action="edited",
            segmentation=square(12, 47),
            clicks=(CLICK,),
            category="dog",
        ),
        Decision(proposal_id="p3", action="rejected", clicks=(CLICK,), category="ghost"),
    ),
    added=(
        AddedMask(segmentation=square(60, 5), clicks=(CLICK, CLICK), category="cat"),
        AddedMask(segmentation=square(60, 60), drawn=True),
    ),
    seconds=12.0,
)


@pytest.fixture
def waiting(filled: Workspace, recipe: Recipe) -> Workspace:
    """Every unlabelled image in the queue with three proposals."""
    version = serving.ensure_base(filled, recipe, Silent())
    rows = filled.lake.rows("SELECT * FROM images WHERE split = 'unlabelled' ORDER BY image_id")
    filled.queue.enqueue(
        NewItem(
            image_id=row["image_id"],
            file_name=row["file_name"],
            height=row["height"],
            width=row["width"],
            model_version=version,
            run_id="assist",
            iteration=3,
            payload=ItemPayload(proposals=PROPOSALS).to_dict(),
        )
        for row in rows
    )
    return filled


def answer(workspace: Workspace, submission: Submission, key: str = "one") -> str:
    """Claim an item and submit; returns its image."""
    lease = workspace.queue.claim("ada")
    assert lease is not None
    submission.check(proposal_ids(lease.item.payload), HW)
    workspace.queue.submit(lease.item.item_id, lease.lease_token, "ada", key, submission.to_dict())
    return lease.item.image_id


def masks_of(workspace: Workspace, image_id: str) -> list[dict[str, Any]]:
    return workspace.lake.rows(
        "SELECT * FROM current_masks WHERE image_id = ? ORDER BY stage, prompt", (image_id,)
    )


def test_a_box_alone_is_a_prompt_that_the_model_answered(waiting: Workspace) -> None:
    decisions = [Decision(proposal_id=f"p{n}", action="rejected") for n in (1, 2, 3)]
    box = (5.0, 60.0, 25.0, 80.0)
    boxed = AddedMask(segmentation=square(60, 5), box=box)
    brushed = AddedMask(segmentation=square(60, 60), box=box, drawn=True)
    image_id = answer(waiting, Submission(decisions=decisions, added=(boxed, brushed)))
    merge_stage(waiting, Silent())
    found = [(row["prompt"], row["model_version"]) for row in masks_of(waiting, image_id)]
    assert found == [("box", "v1"), ("brush", None)]


def test_masks_say_who_made_them_with_which_model_and_how(waiting: Workspace) -> None:
    image_id = answer(waiting, ANSWER)
    outcome = merge_stage(waiting, Silent())
    assert (outcome.num_submissions, outcome.num_masks, outcome.num_clicks) == (1, 4, 4)
    found = [
        (row["stage"], row["prompt"], row["model_version"], row["generation_depth"])
        for row in masks_of(waiting, image_id)
    ]
    assert found == [
        ("manual", "brush", None, 0),
        ("manual", "clicks", "v1", 1),
        ("semi", "clicks", "v1", 1),
        ("semi", "proposal", "v1", 1),
    ]
    rows = masks_of(waiting, image_id)
    assert {row["annotator"] for row in rows} == {"ada"}
    accepted = rows[3]
    assert (accepted["proposal_id"], accepted["predicted_iou"]) == ("p1", 0.9)
    assert accepted["segmentation"]["counts"] == square(10, 5).counts
    assert (accepted["bbox"], accepted["area"]) == ([5.0, 10.0, 20.0, 20.0], 400)
    [split] = waiting.lake.rows("SELECT split FROM images WHERE image_id = ?", (image_id,))
    assert split == {"split": "train"}


def test_every_click_and_decision_is_kept(waiting: Workspace) -> None:
    answer(waiting, ANSWER)
    merge_stage(waiting, Silent())
    clicks = waiting.lake.rows("SELECT mask_id, ordinal, x, y, label, segmentation FROM clicks")
    masks = {row["mask_id"] for row in waiting.lake.rows("SELECT mask_id FROM masks")}
    assert sorted(row["ordinal"] for row in clicks) == [0, 0, 0, 1]
    assert {row["mask_id"] for row in clicks} - masks == {"p3"}
    assert clicks[0]["segmentation"]["counts"] == square(10, 5, 10).counts
    decisions = waiting.lake.rows(
        "SELECT proposal_id, action, num_clicks, iteration, round(iou_with_result, 2) AS iou "
        "FROM decisions ORDER BY 1"
    )
    assert [tuple(row.values()) for row in decisions] == [
        ("p1", "accepted", 0, 3, 1.0),
        ("p2", "edited", 1, 3, 0.68),
        ("p3", "rejected", 1, 3, None),
    ]
    [review] = waiting.lake.rows("SELECT * FROM reviews")
    counts = [review[f"num_{name}"] for name in ("accepted", "edited", "rejected", "added")]
    assert counts == [1, 1, 1, 2]
    assert (review["seconds"], review["num_clicks"], review["iteration"]) == (12.0, 4, 3)
    assert review["is_complete"] is False
    labels = waiting.lake.rows(
        "SELECT category, accepted_by, m.stage, m.proposal_id "
        "FROM mask_labels l JOIN masks m USING (mask_id) WHERE m.stage <> 'label' ORDER BY 1"
    )
    # A rejected proposal leaves no mask that could show anything.
    assert [tuple(row.values()) for row in labels] == [
        ("cat", "ada", "manual", None),
        ("dog", "ada", "semi", "p2"),
    ]


def test_merging_again_changes_nothing(waiting: Workspace, contents: Any) -> None:
    answer(waiting, ANSWER)
    merge_stage(waiting, Silent())
    before, snapshot = contents(waiting), waiting.lake.snapshot()
    outcome = merge_stage(waiting, Silent())
    assert (outcome.run_id, outcome.num_submissions) == (None, 0)
    assert (contents(waiting), waiting.lake.snapshot()) == (before, snapshot)
    assert unmerged_images(waiting) == set()


def test_a_loops_merge_of_nothing_leaves_its_mark(waiting: Workspace) -> None:
    outcome = merge_stage(waiting, Silent(), turn=Turn(iteration=1, parent_run_id="loop"))
    [run] = waiting.lake.rows("SELECT run_id, status FROM runs WHERE stage = 'merge'")
    assert run == {"run_id": outcome.run_id, "status": "done"}


@pytest.mark.parametrize("landed", [False, True], ids=["before the commit", "after the commit"])
def test_a_crash_loses_nothing_and_doubles_nothing(
    waiting: Workspace, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    answer(waiting, ANSWER)
    commit = waiting.lake.commit

    def crash(body: Any, **more: Any) -> None:
        if landed:
            commit(body, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(waiting.lake, "commit", crash)
        with pytest.raises(KeyboardInterrupt):
            merge_stage(waiting, Silent())
    assert len(unmerged_images(waiting)) == (0 if landed else 1)
    merge_stage(waiting, Silent())
    people = waiting.lake.rows("SELECT 1 FROM masks WHERE stage IN ('semi', 'manual')")
    assert len(people) == 4
    assert len(waiting.lake.rows("SELECT 1 FROM clicks")) == 4


def test_many_submissions_come_in_batches_of_one_run(
    waiting: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.merging.merge._AT_ONCE", 1)
    images = {answer(waiting, ANSWER, str(number)) for number in range(3)}
    outcome = merge_stage(waiting, Silent())
    [run] = waiting.lake.rows("SELECT * FROM runs WHERE stage = 'merge'")
    assert (run["num_images"], run["num_masks"]) == (len(images), outcome.num_masks) == (3, 12)


def auto_mask(image_id: str, mask: Rle, name: str) -> MaskRow:
    x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
    return MaskRow(
        mask_id=name,
        image_id=image_id,
        stage="auto",
        run_id="generate",
        segmentation={"size": list(mask.size), "counts": mask.counts},
        bbox=[x0, y0, x1 - x0, y1 - y0],
        area=rle.area(mask),
        created_at=utcnow(),
    )


def test_automatic_masks_that_a_person_covers_are_suppressed(waiting: Workspace) -> None:
    image_id = answer(waiting, ANSWER)
    autos = [
        auto_mask(image_id, square(11, 6), "over"),
        auto_mask(image_id, square(14, 10, 10), "a piece"),
        auto_mask(image_id, square(22, 8, 5), "a thing of its own"),
        auto_mask(image_id, square(20, 17), "beside"),
        auto_mask("another image", square(10, 5), "elsewhere"),
    ]
    waiting.lake.commit(lambda tx: tx.insert(autos), message="test")
    merge_stage(waiting, Silent())
    rows = waiting.lake.rows("SELECT mask_id, by_mask_id, iou FROM suppressions")
    found = {row["mask_id"]: row["iou"] for row in rows}
    assert found == {"over": pytest.approx(361 / 439), "a piece": pytest.approx(1 / 4)}


@pytest.mark.parametrize("together", [True, False], ids=["in one merge", "in two"])
def test_a_later_answer_replaces_the_masks_it_overlaps(waiting: Workspace, together: bool) -> None:
    lease = waiting.queue.claim("ada")
    assert lease is not None
    first = Submission(
        decisions=tuple(Decision(proposal_id=f"p{n}", action="rejected") for n in (1, 2, 3)),
        added=(AddedMask(segmentation=square(60, 5)), AddedMask(segmentation=square(60, 60))),
    )
    second = first.model_copy(update={"added": (AddedMask(segmentation=square(62, 7)),)})
    item, queue = lease.item, waiting.queue
    queue.submit(item.item_id, lease.lease_token, "ada", "first", first.to_dict())
    if not together:
        merge_stage(waiting, Silent())
    answer_again(waiting, item.item_id, second, "second")
    merge_stage(waiting, Silent())
    standing = [row["bbox"][:2] for row in masks_of(waiting, item.image_id)]
    assert sorted(standing) == [[7.0, 62.0], [60.0, 60.0]]


def answer_again(workspace: Workspace, item_id: str, submission: Submission, key: str) -> None:
    """Another answer to an item that was answered before."""
    assert workspace.queue.reopen(item_id)
    token = claim_item(workspace, item_id)
    workspace.queue.submit(item_id, token, "ada", key, submission.to_dict())


def claim_item(workspace: Workspace, item_id: str) -> int:
    """Let others take what comes first, until ada is offered that item."""
    for number in range(20):
        lease = workspace.queue.claim(f"other {number}")
        assert lease is not None
        if lease.item.item_id == item_id:
            workspace.queue.release(item_id, lease.lease_token, f"other {number}")
            mine = workspace.queue.claim("ada")
            assert mine is not None
            assert mine.item.item_id == item_id
            return mine.lease_token
    raise AssertionError("the item was never offered")


@pytest.mark.parametrize("said", [(False,), (True,), (True, False), (False, True)])
def test_the_last_answer_says_whether_the_rest_is_background(
    waiting: Workspace, said: tuple[bool, ...]
) -> None:
    first, *others = (ANSWER.model_copy(update={"complete": complete}) for complete in said)
    image_id = answer(waiting, first)
    merge_stage(waiting, Silent())
    before = training_labels(waiting, waiting.lake.snapshot())
    [done] = waiting.queue.submissions_after(0, limit=None)
    for number, submission in enumerate(others):
        answer_again(waiting, done.item.item_id, submission, f"again {number}")
        merge_stage(waiting, Silent())
    labels = training_labels(waiting, waiting.lake.snapshot())
    index = labels.image_ids.index(image_id)
    assert labels.load(index).complete is said[-1]
    assert all(labels.load(other).complete for other in range(len(labels)) if other != index)
    assert (labels.fingerprint() == before.fingerprint()) is (len(said) == 1)


def test_a_gold_image_stays_gold_whatever_people_send(waiting: Workspace) -> None:
    image_id = answer(waiting, ANSWER)
    waiting.lake.commit(
        lambda tx: tx.execute("UPDATE images SET split = 'gold' WHERE image_id = ?", [image_id]),
        message="test",
    )
    merge_stage(waiting, Silent())
    assert image_id not in training_labels(waiting, waiting.lake.snapshot()).image_ids
    # Made with the current model's help, so they may not measure it either.
    assert image_id not in gold_labels(waiting).image_ids


def test_another_process_sees_what_was_merged(waiting: Workspace) -> None:
    image_id = answer(waiting, ANSWER)
    merge_stage(waiting, Silent())
    other = workspaces.open_workspace(waiting.root)
    assert len(masks_of(other, image_id)) == 4
