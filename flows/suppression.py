"""Automatic masks that a person's mask covers: never merged over it, and kept with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.rle import Rle, iou_matrix
from storage.catalog.lake import Transaction
from storage.rows import SuppressionRow

SUPPRESS_IOU = 0.5


def suppressions(tx: Transaction, which: str, params: Sequence[str]) -> list[SuppressionRow]:
    """Pairs (automatic mask, person's mask) of one image with mask IoU over SUPPRESS_IOU.

    `which` selects the automatic masks; pairs recorded before are left out. Boxes that do not
    meet are dropped in SQL, so masks are compared only where they can overlap.
    """
    rows = tx.rows(
        f"""SELECT a.mask_id AS auto_id, p.mask_id AS person_id, a.run_id,
                   a.segmentation AS auto, p.segmentation AS person
            FROM masks a JOIN masks p USING (image_id)
            WHERE a.stage = 'auto' AND a.{which} AND p.stage IN ('label', 'manual', 'semi')
              AND a.bbox[1] < p.bbox[1] + p.bbox[3] AND p.bbox[1] < a.bbox[1] + a.bbox[3]
              AND a.bbox[2] < p.bbox[2] + p.bbox[4] AND p.bbox[2] < a.bbox[2] + a.bbox[4]
              AND a.area > {SUPPRESS_IOU} * p.area AND p.area > {SUPPRESS_IOU} * a.area
              AND NOT EXISTS (SELECT 1 FROM suppressions s
                              WHERE s.mask_id = a.mask_id AND s.by_mask_id = p.mask_id)""",
        params,
    )
    found = []
    for row in rows:
        iou = float(iou_matrix([as_rle(row["auto"])], [as_rle(row["person"])])[0, 0])
        if iou > SUPPRESS_IOU:
            found.append(
                SuppressionRow(
                    mask_id=row["auto_id"],
                    by_mask_id=row["person_id"],
                    iou=iou,
                    run_id=row["run_id"],
                )
            )
    return found


def as_rle(segmentation: Mapping[str, Any]) -> Rle:
    """A segmentation of the store as a mask."""
    height, width = segmentation["size"]
    return Rle((int(height), int(width)), str(segmentation["counts"]))
