"""How answers to gold and second items agree with what is known, as rows of the lake."""

from collections.abc import Sequence
from typing import Any

from engine.metrics.agreement import agreement
from engine.rle import Rle
from flows.merging.merge_rows import AnswerRows, added_mask_id
from flows.suppression import as_rle
from flows.workspace import placeholders
from storage.catalog.lake import Transaction
from storage.rows import AgreementRow, utcnow

# A lead's answer leaves what it accepts as it is: its masks are not all its own.
_WHOLE = "coalesce(kind, 'assist') IN ('assist', 'audit')"


def agreements(
    tx: Transaction, answers: Sequence[AnswerRows], dispute_below: float
) -> list[AgreementRow]:
    """The rows of those answers that are to be compared, and have something to be compared with.

    Call it when the answers' own rows are in: what a second looks at may have come with them.
    """
    found = (_compared(tx, answer, dispute_below) for answer in answers)
    return [row for row in found if row is not None]


def _compared(tx: Transaction, answer: AnswerRows, dispute_below: float) -> AgreementRow | None:
    if answer.kind == "gold":
        return _row(answer, *_known(tx, answer.item.image_id))
    if answer.kind == "second" and (first := _first(tx, answer)):
        return _row(answer, _made_by(tx, first), first=first, dispute_below=dispute_below)
    return None


def _row(
    answer: AnswerRows,
    reference: Sequence[Rle],
    crowds: Sequence[Rle] = (),
    *,
    first: dict[str, Any] | None = None,
    dispute_below: float = 0.0,
) -> AgreementRow:
    found = agreement(answer.shapes, reference, crowds)
    review = answer.review
    return AgreementRow(
        submission_id=review.submission_id,
        image_id=review.image_id,
        annotator=review.annotator,
        kind=answer.kind,
        reference_submission_id=first["submission_id"] if first else None,
        reference_annotator=first["annotator"] if first else None,
        mean_iou=found.mean_iou,
        f1_50=found.f1_50,
        num_masks=found.num_masks,
        num_reference_masks=found.num_reference_masks,
        num_matched=found.num_matched,
        is_disputed=found.mean_iou < dispute_below,
        run_id=review.run_id,
        iteration=review.iteration,
        created_at=utcnow(),
    )


def _known(tx: Transaction, image_id: str) -> tuple[list[Rle], list[Rle]]:
    """The labels of an image, and apart from them the regions of many objects."""
    rows = tx.rows(
        """SELECT segmentation, is_crowd FROM current_masks
           WHERE image_id = ? AND stage = 'label' ORDER BY mask_id""",
        (image_id,),
    )
    objects, crowds = (
        [as_rle(row["segmentation"]) for row in rows if row["is_crowd"] is side]
        for side in (False, True)
    )
    return objects, crowds


def _first(tx: Transaction, answer: AnswerRows) -> dict[str, Any] | None:
    """The newest answer, before this one, of whoever did the image first."""
    rows = tx.rows(
        f"""SELECT submission_id, annotator, num_added FROM reviews
            WHERE image_id = ? AND annotator = ? AND seq < ? AND {_WHOLE}
            ORDER BY seq DESC LIMIT 1""",
        (answer.item.image_id, answer.item.not_for, answer.review.seq),
    )
    return rows[0] if rows else None


def _made_by(tx: Transaction, review: dict[str, Any]) -> list[Rle]:
    """The masks that an answer left, whether they still stand or not."""
    submission_id = review["submission_id"]
    added = [added_mask_id(submission_id, number) for number in range(review["num_added"])]
    rows = tx.rows(
        f"""SELECT segmentation FROM masks
            WHERE mask_id IN ({placeholders(added)}) OR mask_id IN
                (SELECT mask_id FROM decisions WHERE submission_id = ? AND mask_id IS NOT NULL)
            ORDER BY mask_id""",
        (*added, submission_id),
    )
    return [as_rle(row["segmentation"]) for row in rows]
