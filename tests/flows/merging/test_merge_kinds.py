"""What an answer brings depends on what was asked: checks, second pairs of eyes, disputes."""

from typing import Any

import numpy as np
import pytest

from annotator.item import ItemPayload, Proposal, proposal_ids
from annotator.submission import AddedMask, Click, Decision, Submission
from engine import rle
from engine.rle import Rle
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.training.labels import training_labels
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.queue.items import Item, NewItem

HW = (96, 128)


def square(top: int, left: int, side: int = 20) -> Rle:
    pixels = np.zeros(HW, bool)
    pixels[top : top + side, left : left + side] = True
    return rle.encode_one(pixels)


def proposal(name: str, mask: Rle, **more: Any) -> Proposal:
    return Proposal.of(
        mask, proposal_id=name, predicted_iou=0.9, stability_score=0.8, points=[(5, 5)], **more
    )


LEFT, MIDDLE, RIGHT, BELOW = square(10, 5), square(10, 45), square(10, 85), square(60, 5)
OFFERED = [proposal(name, mask) for name, mask in (("l", LEFT), ("m", MIDDLE))]
CLICK = Click(x=15, y=15, label=1)
ACCEPT = tuple(Decision(proposal_id=name, action="accepted", clicks=(CLICK,)) for name in "lm")


class Office:
    """A workspace with one unlabelled image to ask people about."""

    def __init__(self, workspace: Workspace, version: str) -> None:
        self.workspace = workspace
        self.version = version
        [self.image, *_] = self.images("unlabelled")

    def images(self, split: str) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM images WHERE split = ? ORDER BY image_id", split)

    def rows(self, sql: str, *params: Any) -> list[dict[str, Any]]:
        return self.workspace.lake.rows(sql, params)

    def ask(self, kind: str = "assist", **changes: Any) -> None:
        row = changes.pop("image", self.image)
        payload = ItemPayload(proposals=OFFERED, withheld=changes.pop("withheld", []))
        values = {
            "image_id": row["image_id"],
            "file_name": row["file_name"],
            "height": row["height"],
            "width": row["width"],
            "model_version": self.version,
            "run_id": "assist",
            "iteration": 3,
            "payload": payload.to_dict(),
            "stage": kind,
        }
        self.workspace.queue.enqueue([NewItem(**values | changes)])

    def answer(self, who: str, *added: Rle, complete: bool = True, **more: Any) -> Item:
        """Claim what there is and answer it: accepts all proposals unless `decisions` say more."""
        queue, is_lead = self.workspace.queue, who == "lead"
        lease = queue.claim(who, is_lead=is_lead)
        assert lease is not None, f"nothing for {who}"
        names = sorted(proposal_ids(lease.item.payload))
        answer = Submission(
            decisions=more.pop(
                "decisions", tuple(Decision(proposal_id=name, action="accepted") for name in names)
            ),
            added=tuple(AddedMask(segmentation=mask, clicks=(CLICK,)) for mask in added),
            complete=complete,
        )
        answer.check(set(names), HW)
        key = f"{who} {queue.last_seq()}"
        queue.submit(lease.item.item_id, lease.lease_token, who, key, answer.to_dict())
        return lease.item

    def merge(self, **options: Any) -> Any:
        return merge_stage(self.workspace, Silent(), **options)

    def standing(self) -> set[str]:
        """The run-length codes of people's masks that stand."""
        rows = self.rows(
            "SELECT segmentation FROM current_masks WHERE image_id = ? AND stage <> 'label'",
            self.image["image_id"],
        )
        return {row["segmentation"]["counts"] for row in rows}


@pytest.fixture
def office(filled: Workspace, recipe: Recipe) -> Office:
    return Office(filled, serving.ensure_base(filled, recipe, Silent()))


def counts(*masks: Rle) -> set[str]:
    return {mask.counts for mask in masks}


TABLES = ("masks", "mask_labels", "clicks", "decisions", "retractions", "suppressions")


def sizes(office: Office) -> dict[str, int]:
    return {name: len(office.rows(f"FROM {name}")) for name in TABLES}


def test_a_hidden_check_is_compared_with_the_labels_and_goes_no_further(office: Office) -> None:
    [gold, *_] = office.images("gold")
    labels = office.rows(
        "SELECT segmentation FROM masks WHERE image_id = ? ORDER BY mask_id", gold["image_id"]
    )
    known = [Rle(HW, row["segmentation"]["counts"]) for row in labels]
    wrong = square(70, 100, 3)
    offered = ItemPayload(proposals=[proposal("known", known[0]), proposal("wrong", wrong)])
    office.ask("gold", image=gold, payload=offered.to_dict())
    before, splits = sizes(office), office.rows("SELECT image_id, split FROM images ORDER BY 1")
    office.answer("ada")
    outcome = office.merge()
    assert (outcome.num_submissions, outcome.num_masks, outcome.num_clicks) == (1, 0, 0)
    assert sizes(office) == before
    assert office.rows("SELECT image_id, split FROM images ORDER BY 1") == splits
    [review] = office.rows("SELECT kind, num_accepted, is_complete FROM reviews")
    assert review == {"kind": "gold", "num_accepted": 2, "is_complete": True}
    [row] = office.rows("FROM agreements")
    assert (row["kind"], row["annotator"], row["reference_annotator"]) == ("gold", "ada", None)
    assert (row["num_masks"], row["num_reference_masks"]) == (2, len(known))
    assert (row["num_matched"], row["is_disputed"], row["iteration"]) == (1, False, 3)
    assert row["mean_iou"] == pytest.approx(1 / (1 + len(known)))
    assert fsck(office.workspace) == []


@pytest.mark.parametrize("together", [True, False], ids=["in one merge", "in two"])
def test_a_second_pair_of_eyes_is_compared_with_the_first(office: Office, together: bool) -> None:
    office.ask()
    office.answer("ada", RIGHT, decisions=(*ACCEPT[:1], edited("m", square(12, 47))))
    if not together:
        office.merge()
    office.ask("second", not_for="ada")
    office.answer("bob", square(10, 87))
    outcome = office.merge()
    assert office.standing() == counts(LEFT, square(12, 47), RIGHT)
    assert outcome.num_disputes == 0
    [row] = office.rows("FROM agreements")
    [first] = office.rows("SELECT submission_id FROM reviews WHERE annotator = 'ada'")
    assert (row["annotator"], row["reference_annotator"]) == ("bob", "ada")
    assert row["reference_submission_id"] == first["submission_id"]
    edges = 18 * 18 / (800 - 18 * 18), 18 * 20 / (800 - 18 * 20)
    assert row["mean_iou"] == pytest.approx((1 + sum(edges)) / 3)
    assert (row["f1_50"], row["is_disputed"]) == (1.0, False)
    assert [r["kind"] for r in office.rows("FROM reviews ORDER BY seq")] == ["assist", "second"]
    assert fsck(office.workspace) == []


def edited(name: str, mask: Rle) -> Decision:
    return Decision(proposal_id=name, action="edited", segmentation=mask)


def rejected(name: str) -> Decision:
    return Decision(proposal_id=name, action="rejected")


def test_it_is_the_firsts_newest_answer_that_counts(office: Office) -> None:
    office.ask()
    item = office.answer("ada")
    office.merge()
    office.workspace.queue.reopen(item.item_id)
    office.answer("ada", RIGHT)
    office.ask("second", not_for="ada")
    office.answer("bob", RIGHT)
    office.merge()
    [row] = office.rows("FROM agreements")
    assert (row["mean_iou"], row["num_reference_masks"]) == (1.0, 3)


def test_a_second_opinion_does_not_say_whether_the_rest_is_background(office: Office) -> None:
    office.ask()
    office.answer("ada", complete=True)
    office.ask("second", not_for="ada")
    office.answer("bob", complete=False)
    office.merge()
    labels = training_labels(office.workspace, office.workspace.lake.snapshot())
    [image] = [each for each in labels.images if each.image_id == office.image["image_id"]]
    assert image.complete


def disagree(office: Office) -> dict[str, str]:
    """Ada's masks: left, middle, and one below; bob's: left, and one on the right.

    Returns the ids of the masks that stand, by their codes.
    """
    office.ask()
    office.answer("ada", BELOW)
    office.ask("second", not_for="ada")
    office.answer("bob", RIGHT, decisions=(*ACCEPT[:1], rejected("m")))
    assert office.merge().num_disputes == 1
    rows = office.rows("SELECT mask_id, segmentation FROM masks WHERE stage IN ('semi', 'manual')")
    return {row["segmentation"]["counts"]: row["mask_id"] for row in rows}


def test_a_dispute_is_for_leads_and_offers_what_either_made(office: Office) -> None:
    names = disagree(office)
    [row] = office.rows("FROM agreements")
    assert (row["mean_iou"], row["is_disputed"]) == (pytest.approx(1 / 4), True)
    queue = office.workspace.queue
    assert queue.claim("cy") is None
    lease = queue.claim("lead", is_lead=True)
    assert lease is not None
    assert (lease.item.stage, lease.item.for_role) == ("dispute", "lead")
    assert (lease.item.file_name, lease.item.height) == (office.image["file_name"], HW[0])
    offered = {
        proposal.proposal_id: proposal.segmentation.counts
        for proposal in ItemPayload.from_dict(lease.item.payload).proposals
    }
    assert {offered.pop(name): name for name in names.values()} == names
    assert list(offered.values()) == [RIGHT.counts]


def test_agreeing_by_less_than_a_recipe_asks_for_is_no_dispute(office: Office) -> None:
    office.ask()
    office.answer("ada", BELOW)
    office.ask("second", not_for="ada")
    office.answer("bob", decisions=(*ACCEPT[:1], rejected("m")))
    assert office.merge(dispute_below=0.2).num_disputes == 0
    assert office.workspace.queue.claim("lead", is_lead=True) is None


def test_a_lead_settles_each_mask(office: Office) -> None:
    names = disagree(office)
    left, middle, below = (names[mask.counts] for mask in (LEFT, MIDDLE, BELOW))
    [right] = offered_beside(office, names)
    decisions = (
        Decision(proposal_id=left, action="accepted", category="cell", clicks=(CLICK,)),
        edited(middle, square(14, 49)),
        rejected(below),
        Decision(proposal_id=right, action="accepted", category="cell"),
    )
    before = sizes(office)
    # It lies over what was accepted, which is therefore another thing.
    office.answer("lead", square(10, 8), decisions=decisions)
    outcome = office.merge()
    assert (outcome.num_masks, outcome.num_disputes) == (3, 0)
    assert office.standing() == counts(LEFT, square(14, 49), RIGHT, square(10, 8))
    after = sizes(office)
    assert {name: after[name] - before[name] for name in TABLES} == {
        "masks": 3,
        "mask_labels": 2,
        "clicks": 2,
        "decisions": 0,
        "retractions": 1,
        "suppressions": 0,
    }
    made = office.rows(
        """SELECT supersedes, predicted_iou FROM masks
           WHERE annotator = 'lead' ORDER BY supersedes NULLS LAST"""
    )
    assert [row["supersedes"] for row in made] == [middle, None, None]
    assert {row["predicted_iou"] for row in made} == {None}
    [gone] = office.rows("FROM retractions")
    [review] = office.rows("FROM reviews WHERE kind = 'dispute'")
    assert (gone["mask_id"], gone["submission_id"]) == (below, review["submission_id"])
    named = office.rows("SELECT mask_id FROM mask_labels WHERE category = 'cell'")
    assert left in {row["mask_id"] for row in named}
    assert fsck(office.workspace) == []


def offered_beside(office: Office, names: dict[str, str]) -> list[str]:
    """The ids of what a dispute offers beside the masks that stand."""
    lease = office.workspace.queue.claim("lead", is_lead=True)
    assert lease is not None
    return sorted(proposal_ids(lease.item.payload) - set(names.values()))


def test_a_name_that_a_mask_has_is_not_given_again(office: Office) -> None:
    office.ask()
    named = tuple(each.model_copy(update={"category": "cell"}) for each in ACCEPT)
    office.answer("ada", BELOW, RIGHT, decisions=named)
    office.ask("second", not_for="ada")
    office.answer("bob", decisions=(*ACCEPT[:1], rejected("m")))
    office.merge()
    before = sizes(office)
    rows = office.rows("SELECT mask_id FROM current_masks WHERE stage IN ('semi', 'manual')")
    office.answer(
        "lead",
        decisions=tuple(
            Decision(proposal_id=row["mask_id"], action="accepted", category="cell") for row in rows
        ),
    )
    office.merge()
    after = sizes(office)
    assert (after["masks"], after["mask_labels"]) == (before["masks"], before["mask_labels"] + 2)


def test_a_mask_that_went_meanwhile_is_made_anew_if_the_lead_wants_it(office: Office) -> None:
    names = disagree(office)
    lead = office.workspace.queue.claim("lead", is_lead=True)
    assert lead is not None
    [first] = office.rows("SELECT item_id FROM reviews WHERE kind = 'assist'")
    office.workspace.queue.reopen(first["item_id"])
    office.answer("ada", square(61, 6), decisions=(rejected("l"), rejected("m")))
    office.answer("lead")
    office.merge()
    assert office.standing() == counts(LEFT, MIDDLE, BELOW, RIGHT)
    rows = office.rows("SELECT supersedes, segmentation FROM masks WHERE annotator = 'lead'")
    made = {row["segmentation"]["counts"]: row["supersedes"] for row in rows}
    assert set(made) == counts(BELOW, RIGHT)
    assert made[BELOW.counts] not in (None, names[BELOW.counts])
    assert fsck(office.workspace) == []


def test_a_crash_between_the_stores_forgets_no_dispute(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.ask()
    office.answer("ada", BELOW, RIGHT)
    office.ask("second", not_for="ada")
    office.answer("bob", decisions=(rejected("l"), rejected("m")))

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(office.workspace.queue, "ask_anew", crash)
        with pytest.raises(KeyboardInterrupt):
            office.merge()
    assert [row["is_disputed"] for row in office.rows("FROM agreements")] == [True]
    assert office.workspace.queue.claim("lead", is_lead=True) is None
    assert office.merge().num_disputes == 1
    assert office.merge().num_disputes == 0
    office.answer("lead")
    assert office.merge().num_disputes == 0
    assert office.workspace.queue.claim("lead", is_lead=True) is None


def test_people_may_disagree_about_one_image_again(office: Office) -> None:
    disagree(office)
    office.answer("lead")
    # Bob is asked once more before the lead's answer is merged, and differs once more.
    [second] = office.rows("SELECT item_id FROM reviews WHERE kind = 'second'")
    office.workspace.queue.reopen(second["item_id"])
    other = square(60, 60)
    office.answer("bob", other, decisions=(rejected("l"), rejected("m")))
    assert office.merge().num_disputes == 1
    item = office.answer("lead")
    offered = {
        proposal.segmentation.counts for proposal in ItemPayload.from_dict(item.payload).proposals
    }
    assert offered == counts(LEFT, MIDDLE, BELOW, RIGHT, other)
    office.merge()
    assert office.standing() == offered
    assert len(office.rows("FROM reviews WHERE kind = 'dispute'")) == 2
    assert fsck(office.workspace) == []


WITHHELD = [
    proposal("hidden", square(12, 47), source="detector", detection_score=0.4),
    proposal("nothing", square(60, 60)),
]


@pytest.mark.parametrize("complete", [True, False])
def test_withheld_proposals_are_compared_with_a_complete_answer(
    office: Office, complete: bool
) -> None:
    office.ask(withheld=WITHHELD)
    office.answer("ada", complete=complete)
    office.merge()
    rows = office.rows("SELECT * FROM decisions WHERE action = 'withheld' ORDER BY proposal_id")
    assert len(rows) == (2 if complete else 0)
    if complete:
        hidden, nothing = rows
        assert hidden["iou_with_result"] == pytest.approx(18 * 18 / (800 - 18 * 18))
        assert nothing["iou_with_result"] == 0.0
        assert (hidden["source"], hidden["area"], nothing["source"]) == ("detector", 400, "grid")
        assert [row["score"] for row in rows] == [each.score for each in WITHHELD]
        assert {row["mask_id"] for row in rows} == {None}
    [review] = office.rows("SELECT num_proposals FROM reviews")
    assert review["num_proposals"] == 2
    assert office.standing() == counts(LEFT, MIDDLE)
    assert fsck(office.workspace) == []


def test_a_withheld_proposal_on_an_image_with_nothing_on_it_is_like_nothing(
    office: Office,
) -> None:
    office.ask(withheld=WITHHELD)
    office.answer("ada", decisions=(rejected("l"), rejected("m")))
    office.merge()
    rows = office.rows("SELECT iou_with_result FROM decisions WHERE action = 'withheld'")
    assert [row["iou_with_result"] for row in rows] == [0.0, 0.0]
