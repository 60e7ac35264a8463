"""What answers do to the masks that stand: they replace some, take some away, add others.

An ordinary answer replaces the people's masks that it overlaps. An auditor's also replaces the
automatic masks that it is about, and a lead's settles each mask of a dispute by name.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeVar

from engine import rle
from engine.rle import Rle
from flows.merging.merge_rows import AnswerRows
from flows.suppression import as_rle
from flows.workspace import placeholders
from storage.catalog.lake import Transaction
from storage.rows import ClickRow, MaskLabelRow, MaskRow, RetractionRow, utcnow

_SAME_IOU = 0.5
_AboutAMask = TypeVar("_AboutAMask", ClickRow, MaskLabelRow)


@dataclass
class Changes:
    """The rows that some answers come to, in the order of the answers."""

    masks: list[MaskRow] = field(default_factory=list)
    labels: list[MaskLabelRow] = field(default_factory=list)
    clicks: list[ClickRow] = field(default_factory=list)
    retractions: list[RetractionRow] = field(default_factory=list)


def changes(tx: Transaction, answers: Sequence[AnswerRows]) -> Changes:
    """What the answers change, each seeing what those before it left.

    Whether an earlier answer was merged before or comes in the same batch makes no difference.
    """
    standing = _Standing(tx, answers)
    made = Changes()
    for answer in answers:
        standing.take(answer, made)
    return made


class _Standing:
    """What stands on the answers' images: people's masks, and the automatic ones under audit."""

    def __init__(self, tx: Transaction, answers: Sequence[AnswerRows]) -> None:
        images = sorted({answer.item.image_id for answer in answers})
        self._people: dict[str, dict[str, Rle]] = {image_id: {} for image_id in images}
        for row in tx.rows(
            f"""SELECT mask_id, image_id, segmentation FROM current_masks
                WHERE stage IN ('semi', 'manual') AND image_id IN ({placeholders(images)})""",
            images,
        ):
            self._people[row["image_id"]][row["mask_id"]] = as_rle(row["segmentation"])
        self._automatic = _automatic(tx, answers)
        self._named = _named(tx, answers)

    def take(self, answer: AnswerRows, made: Changes) -> None:
        """Put an answer on top of what stands."""
        people = self._people[answer.item.image_id]
        audited = self._automatic & answer.decided
        settled = people.keys() & answer.decided if answer.kind == "dispute" else set[str]()
        kept = {
            row.mask_id: row.proposal_id
            for row in answer.masks
            if row.proposal_id in settled and as_rle(row.segmentation) == people[row.proposal_id]
        }
        rows = _replacing(
            [row for row in answer.masks if row.mask_id not in kept],
            settled=settled,
            # What a lead has decided on by name, no overlap decides again.
            others={name: mask for name, mask in people.items() if name not in settled},
            audited=audited,
        )
        retracted = [name for name in answer.rejected if name in settled | audited]
        for name in (*retracted, *(row.supersedes for row in rows if row.supersedes)):
            people.pop(name, None)
            self._automatic.discard(name)
        people.update({row.mask_id: as_rle(row.segmentation) for row in rows})
        made.masks += rows
        made.retractions += [_retraction(name, answer) for name in retracted]
        made.labels += self._new_labels(_renamed(answer.labels, kept))
        made.clicks += _renamed(answer.clicks, kept)

    def _new_labels(self, labels: Sequence[MaskLabelRow]) -> list[MaskLabelRow]:
        """Those that say something new: a mask that stays may have its name already."""
        return [row for row in labels if (row.mask_id, row.category) not in self._named]


def _automatic(tx: Transaction, answers: Sequence[AnswerRows]) -> set[str]:
    """The automatic masks that audits are about, unless an earlier answer was."""
    names = sorted({name for each in answers if each.kind == "audit" for name in each.decided})
    found = tx.rows(
        f"""SELECT mask_id FROM masks
                ANTI JOIN retractions USING (mask_id) ANTI JOIN superseded_masks USING (mask_id)
            WHERE stage = 'auto' AND mask_id IN ({placeholders(names)})""",
        names,
    )
    return {row["mask_id"] for row in found}


def _named(tx: Transaction, answers: Sequence[AnswerRows]) -> set[tuple[str, str]]:
    """The masks of disputes with the names that people gave them."""
    names = sorted({name for each in answers if each.kind == "dispute" for name in each.decided})
    found = tx.rows(
        f"""SELECT mask_id, category FROM mask_labels
            WHERE accepted_by IS NOT NULL AND classes_hash IS NULL
              AND mask_id IN ({placeholders(names)})""",
        names,
    )
    return {(row["mask_id"], row["category"]) for row in found}


def _replacing(
    rows: Sequence[MaskRow],
    *,
    settled: Set[str],
    others: Mapping[str, Rle],
    audited: Set[str],
) -> list[MaskRow]:
    """The rows, each with the mask that it supersedes, if any."""
    found = []
    for row, overlapped in zip(rows, _overlapped(rows, others), strict=True):
        # An older answer of a person comes before the automatic mask that it covers.
        by_name = settled if overlapped else settled | audited
        supersedes = row.proposal_id if row.proposal_id in by_name else overlapped
        found.append(replace(row, supersedes=supersedes))
    return found


def _overlapped(rows: Sequence[MaskRow], others: Mapping[str, Rle]) -> list[str | None]:
    """For each row the mask that it is most like, if it is like one at all."""
    if not others:
        return [None] * len(rows)
    names = list(others)
    ious = rle.iou_matrix([as_rle(row.segmentation) for row in rows], list(others.values()))
    return [names[int(each.argmax())] if each.max() > _SAME_IOU else None for each in ious]


def _retraction(name: str, answer: AnswerRows) -> RetractionRow:
    return RetractionRow(
        mask_id=name,
        submission_id=answer.review.submission_id,
        run_id=answer.review.run_id,
        created_at=utcnow(),
    )


def _renamed(rows: Sequence[_AboutAMask], kept: Mapping[str, str | None]) -> list[_AboutAMask]:
    """Rows about a mask that was not made anew are about the one that stays."""
    return [replace(row, mask_id=kept.get(row.mask_id) or row.mask_id) for row in rows]
