"""Where two people disagree about an image, a lead is asked: disputes into the review queue.

A disagreement is a row of the lake, its item one of the queue, and no transaction spans both. So
each merge asks for the items of all disagreements that are open, and asking twice changes nothing.
"""

from collections.abc import Mapping
from typing import Any

from annotator.item import ItemPayload, Proposal
from annotator.submission import Submission as Answer
from engine.metrics.agreement import MATCH_IOU
from engine.metrics.matching import match
from engine.rle import Rle
from flows.clip.suggesting import stored_suggestions
from flows.merging.merge_rows import shapes
from flows.suppression import as_rle
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.rows import mask_id

# Before all ordinary work of a lead, whose priorities end at 1; the worse it is, the earlier.
_BEFORE_OTHERS = 1.0
# A lead who has answered for an image since has settled whatever was said before.
_OPEN = """
    SELECT a.submission_id, a.mean_iou, a.run_id, a.iteration, r.seq, r.model_version,
           i.image_id, i.file_name, i.height, i.width
    FROM agreements a JOIN reviews r USING (submission_id) JOIN images i ON i.image_id = a.image_id
    WHERE a.is_disputed AND NOT EXISTS
        (SELECT 1 FROM reviews s
         WHERE s.image_id = a.image_id AND s.kind = 'dispute' AND s.seq > r.seq)
    QUALIFY row_number() OVER (PARTITION BY a.image_id ORDER BY r.seq DESC) = 1
    ORDER BY r.seq
"""


def ask_leads(workspace: Workspace) -> int:
    """Put each open disagreement into the queue, for leads only; returns how many are new there.

    An image whose earlier dispute is settled is asked about once more when people disagree again.
    """
    num_new = 0
    for row in workspace.lake.rows(_OPEN):
        num_new += workspace.queue.ask_anew(_item(workspace, row), since=row["seq"])
    return num_new


def _item(workspace: Workspace, row: dict[str, Any]) -> NewItem:
    return NewItem(
        image_id=row["image_id"],
        file_name=row["file_name"],
        height=row["height"],
        width=row["width"],
        model_version=row["model_version"],
        run_id=row["run_id"],
        iteration=row["iteration"] or 0,
        priority=_BEFORE_OTHERS + 1 - row["mean_iou"],
        payload=ItemPayload(proposals=_proposals(workspace, row)).to_dict(),
        stage="dispute",
        for_role="lead",
    )


def _proposals(workspace: Workspace, row: dict[str, Any]) -> list[Proposal]:
    """People's masks that stand, named as they are, and those of the second that match none."""
    standing = standing_of(workspace, row["image_id"])
    seconds = _answer_of(workspace, row["seq"])
    matched = match(seconds, list(standing.values()), MATCH_IOU)
    others = {
        mask_id("second", row["submission_id"], str(number)): mask
        for number, mask in enumerate(seconds)
        if number not in matched
    }
    return of_people(workspace, standing | others)


def standing_of(workspace: Workspace, image_id: str) -> dict[str, Rle]:
    """What people made on an image and stands; labels of files are not in dispute."""
    rows = workspace.lake.rows(
        """SELECT mask_id, segmentation FROM current_masks
           WHERE image_id = ? AND stage IN ('semi', 'manual') ORDER BY mask_id""",
        (image_id,),
    )
    return {row["mask_id"]: as_rle(row["segmentation"]) for row in rows}


def _answer_of(workspace: Workspace, seq: int) -> list[Rle]:
    """The masks of one submission, which only the queue keeps."""
    [submission] = workspace.queue.submissions_after(seq - 1, limit=1)
    assert submission.seq == seq, "submissions stay in the queue"
    payload = ItemPayload.from_dict(submission.item.payload)
    proposals = {proposal.proposal_id: proposal for proposal in payload.proposals}
    return shapes(Answer.parse(submission.body), proposals)


def of_people(workspace: Workspace, masks: Mapping[str, Rle]) -> list[Proposal]:
    """Masks by name that people made, no model doubts them; what they may show is suggested."""
    suggestions = stored_suggestions(workspace, list(masks))
    return [
        Proposal.of(
            mask,
            proposal_id=name,
            predicted_iou=1.0,
            stability_score=1.0,
            points=(),
            source="person",
            suggestion=suggestions.get(name),
        )
        for name, mask in masks.items()
    ]
