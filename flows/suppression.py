"""Automatic masks that lie over a person's mask: kept with the reason, but never current."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine import rle
from engine.rle import Rle
from storage.catalog.lake import Transaction
from storage.rows import SuppressionRow

# A mask with an IoU over 0.5 is covered to more than this share, so it goes as well.
_COVERED_SHARE = 0.5
# A bird is less of the sky, and a wheel of the car: things of their own. A piece is more.
_PIECE_SHARE = 0.1


def suppressions(tx: Transaction, which: str, params: Sequence[str]) -> list[SuppressionRow]:
    """Pairs (automatic mask, person's mask) of which the latter covers over half of the former.

    So pieces of what a person outlined go; a whole of which a person outlined a part stays, and so
    does what is under a tenth of the person's mask.
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
              AND p.area > {_COVERED_SHARE} * a.area AND a.area > {_PIECE_SHARE} * p.area
              AND NOT EXISTS (SELECT 1 FROM suppressions s
                              WHERE s.mask_id = a.mask_id AND s.by_mask_id = p.mask_id)""",
        params,
    )
    found = []
    for row in rows:
        auto, person = as_rle(row["auto"]), as_rle(row["person"])
        covered = float(rle.intersections([auto], [person])[0, 0])
        if covered > _COVERED_SHARE * rle.area(auto):
            found.append(
                SuppressionRow(
                    mask_id=row["auto_id"],
                    by_mask_id=row["person_id"],
                    iou=float(rle.iou_matrix([auto], [person])[0, 0]),
                    run_id=row["run_id"],
                )
            )
    return found


def as_rle(segmentation: Mapping[str, Any]) -> Rle:
    """A segmentation of the store as a mask."""
    height, width = segmentation["size"]
    return Rle((int(height), int(width)), str(segmentation["counts"]))
