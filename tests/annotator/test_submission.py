"""A submission is read strictly, answers each proposal once, and survives being stored."""

from typing import Any

import numpy as np
import pytest

from annotator.item import ItemPayload, PayloadError, Proposal, proposal_ids
from annotator.submission import AddedMask, Click, Decision, Submission, SubmissionError
from engine import rle
from engine.rle import Rle

HW = (20, 30)


def mask(rows: slice, columns: slice, hw: tuple[int, int] = HW) -> Rle:
    pixels = np.zeros(hw, dtype=bool)
    pixels[rows, columns] = True
    return rle.encode_one(pixels)


def wire(value: Rle) -> dict[str, Any]:
    return {"size": list(value.size), "counts": value.counts}


GOOD = mask(slice(2, 8), slice(3, 9))
OTHER = mask(slice(10, 15), slice(12, 20))
EMPTY = mask(slice(0, 0), slice(0, 0))
WRONG_SIZE = mask(slice(2, 8), slice(3, 9), (30, 20))


def proposal(name: str, segmentation: Rle = GOOD) -> Proposal:
    return Proposal(
        proposal_id=name,
        segmentation=segmentation,
        bbox=[3.0, 2.0, 6.0, 6.0],
        area=36,
        predicted_iou=np.float32(0.5),
        stability_score=0.875,
        point_coords=[[6.0, 5.0]],
    )


ITEM = ItemPayload(proposals=[proposal("a"), proposal("b", OTHER)])
PROPOSED = {"a", "b"}


def body(**changes: Any) -> dict[str, Any]:
    decisions = [
        {"proposal_id": "a", "action": "accepted"},
        {"proposal_id": "b", "action": "edited", "segmentation": wire(GOOD)},
    ]
    return {"decisions": decisions, "added": [], "seconds": 3.5, **changes}


def click(**changes: Any) -> dict[str, Any]:
    return {"x": 4.0, "y": 5.0, "label": 1, "at_s": 1.25, **changes}


def added(**changes: Any) -> dict[str, Any]:
    return {"segmentation": wire(OTHER), "clicks": [click()], **changes}


def test_what_is_stored_reads_back_equal() -> None:
    submission = Submission(
        decisions=(
            Decision(proposal_id="a", action="rejected"),
            Decision(
                proposal_id="b", action="edited", segmentation=GOOD, drawn=True, category="debris"
            ),
        ),
        added=(
            AddedMask(
                segmentation=OTHER,
                box=(1, 2, 30, 20),
                clicks=(Click(x=1, y=2.5, label=0, predicted_iou=0.5, segmentation=GOOD),),
                category="nucleus",
            ),
        ),
        complete=True,
        seconds=12.25,
    )
    submission.check(PROPOSED, HW)
    assert Submission.parse(submission.to_dict()) == submission
    assert submission.num_clicks == 1


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ({"decisions": "debris"}, None),
        ({"decisions": "dust"}, "decisions[0].category"),
        ({"added": "dust"}, "added[0].category"),
    ],
    ids=["known", "unknown of a proposal", "unknown of an added mask"],
)
def test_a_project_with_categories_has_no_others(where: dict[str, str], field: str | None) -> None:
    submission = Submission(
        decisions=(
            Decision(proposal_id="a", action="accepted", category=where.get("decisions")),
            Decision(proposal_id="b", action="rejected"),
        ),
        added=(AddedMask(segmentation=OTHER, category=where.get("added")),),
    )
    submission.check(PROPOSED, HW)
    if field is None:
        submission.check(PROPOSED, HW, ("nucleus", "debris"))
        return
    with pytest.raises(SubmissionError) as caught:
        submission.check(PROPOSED, HW, ("nucleus", "debris"))
    rule = "must be one of nucleus, debris, got 'dust'"
    assert str(caught.value) == f"{field}: {rule}"


def test_an_item_reads_back_and_gives_masks_of_the_engine() -> None:
    stored = ITEM.to_dict()
    again = ItemPayload.from_dict(stored)
    assert again.to_dict() == stored
    assert again.proposals[1].segmentation == OTHER
    assert stored["proposals"][0]["predicted_iou"] == 0.5
    assert stored["proposals"][0]["bbox"] == [3.0, 2.0, 6.0, 6.0]


def test_an_item_of_a_newer_version_may_know_more() -> None:
    assert ItemPayload.from_dict({**ITEM.to_dict(), "hint": "later"}) == ITEM
    assert proposal_ids(ITEM.to_dict()) == PROPOSED


def test_proposals_need_ids_of_their_own() -> None:
    with pytest.raises(PayloadError, match="proposal_id of their own"):
        ItemPayload.from_dict({"proposals": [proposal("a").model_dump(mode="json")] * 2})
    with pytest.raises(PayloadError, match="proposal_id of their own"):
        ItemPayload.from_dict(
            {name: [proposal("a").model_dump(mode="json")] for name in ("proposals", "withheld")}
        )


def test_what_is_withheld_is_kept_and_not_to_be_decided_on() -> None:
    item = ItemPayload(proposals=[proposal("a")], withheld=[proposal("b")])
    assert ItemPayload.from_dict(item.to_dict()) == item
    assert proposal_ids(item.to_dict()) == {"a"}


def test_a_detectors_score_counts_where_there_is_one() -> None:
    by_grid = proposal("a")
    by_detector = by_grid.model_copy(update={"source": "detector", "detection_score": 0.25})
    assert by_grid.source == "grid"
    assert by_grid.score == pytest.approx(by_grid.predicted_iou * by_grid.stability_score)
    assert by_detector.score == pytest.approx(0.25 * by_grid.score)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"surplus": 1}, "surplus", id="unknown field"),
        pytest.param({"seconds": -1.0}, "seconds", id="time runs backwards"),
        pytest.param({"seconds": float("nan")}, "seconds", id="time is not a number"),
        pytest.param({"seconds": "3"}, "seconds", id="time as text"),
        pytest.param({"decisions": {}}, "decisions", id="decisions are no list"),
        pytest.param({"decisions": [7]}, "decisions[0]", id="decision is no object"),
        pytest.param(
            {"decisions": [{"proposal_id": "a", "action": "approved"}]},
            "decisions[0].action",
            id="unknown action",
        ),
        pytest.param(
            {"decisions": [{"proposal_id": "a", "action": "edited"}]},
            "decisions[0]",
            id="edited without a mask",
        ),
        pytest.param(
            {"decisions": [{"proposal_id": "a", "action": "accepted", "segmentation": wire(GOOD)}]},
            "decisions[0]",
            id="accepted with a mask",
        ),
        pytest.param({"added": [{}]}, "added[0].segmentation", id="added without a mask"),
        pytest.param(
            {"added": [added(segmentation=None)]}, "added[0].segmentation", id="mask is null"
        ),
        pytest.param(
            {"added": [added(segmentation={"size": [20, 30], "counts": GOOD.counts[:-2]})]},
            "added[0].segmentation",
            id="mask cut short",
        ),
        pytest.param(
            {"added": [added(segmentation={"size": [20, 30], "counts": "\u00e9"})]},
            "added[0].segmentation",
            id="mask not ASCII",
        ),
        pytest.param(
            {"added": [added(segmentation={"size": [20, True], "counts": GOOD.counts})]},
            "added[0].segmentation",
            id="size is a bool",
        ),
        pytest.param(
            {"added": [added(segmentation={"size": [20, 10**12], "counts": GOOD.counts})]},
            "added[0].segmentation",
            id="size is huge",
        ),
        pytest.param(
            {"added": [added(clicks=[click(), click(label=2)])]},
            "added[0].clicks[1].label",
            id="click neither adds nor removes",
        ),
        pytest.param(
            {"added": [added(clicks=[click(label=True)])]},
            "added[0].clicks[0].label",
            id="label is a bool",
        ),
        pytest.param(
            {"added": [added(clicks=[click(x=-0.5)])]}, "added[0].clicks[0].x", id="click left of 0"
        ),
        pytest.param(
            {"added": [added(clicks=[click(predicted_iou=1.5)])]},
            "added[0].clicks[0].predicted_iou",
            id="score above 1",
        ),
        pytest.param({"added": [added(category="")]}, "added[0].category", id="category empty"),
        pytest.param(
            {"added": [added(category="a\u202eb")]}, "added[0].category", id="category turns text"
        ),
    ],
)
def test_a_malformed_body_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        Submission.parse(body(**changes))
    assert str(caught.value).startswith(f"{field}:")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"decisions": [{"proposal_id": "a", "action": "accepted"}]},
            "decisions: must have each proposal once, got 'b' 0 times",
            id="a proposal left out",
        ),
        pytest.param(
            {"decisions": [*body()["decisions"], {"proposal_id": "a", "action": "rejected"}]},
            "decisions: must have each proposal once, got 'a' 2 times",
            id="a proposal decided twice",
        ),
        pytest.param(
            {"decisions": [*body()["decisions"], {"proposal_id": "c", "action": "rejected"}]},
            "decisions[2].proposal_id: must be a proposal of this item, got 'c'",
            id="a proposal of another item",
        ),
        pytest.param(
            {"added": [added(segmentation=wire(WRONG_SIZE))]},
            "added[0].segmentation.size: must be the image's [20, 30], got [30, 20]",
            id="mask of another size",
        ),
        pytest.param(
            {"added": [added(), added(segmentation=wire(EMPTY))]},
            "added[1].segmentation: must have at least one pixel, got an empty mask",
            id="empty mask",
        ),
        pytest.param(
            {"added": [added(clicks=[click(x=30.5)])]},
            "added[0].clicks[0]: must be in the image, 30 wide and 20 high, got (30.5, 5.0)",
            id="click outside",
        ),
        pytest.param(
            {"added": [added(box=[1, 2, 31, 19])]},
            "added[0].box: must be in the image, 30 wide and 20 high, got (31.0, 19.0)",
            id="box outside",
        ),
        pytest.param(
            {"added": [added(clicks=[click(segmentation=wire(WRONG_SIZE))])]},
            "added[0].clicks[0].segmentation.size: must be the image's [20, 30], got [30, 20]",
            id="mask of a click of another size",
        ),
    ],
)
def test_an_answer_to_something_else_is_refused(changes: dict[str, Any], message: str) -> None:
    submission = Submission.parse(body(**changes))
    with pytest.raises(SubmissionError) as caught:
        submission.check(PROPOSED, HW)
    assert str(caught.value) == message


def test_a_click_may_produce_an_empty_mask_and_lie_on_the_edge() -> None:
    clicks = [click(x=30.0, y=20.0, segmentation=wire(EMPTY))]
    Submission.parse(body(added=[added(clicks=clicks)])).check(PROPOSED, HW)
