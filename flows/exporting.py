"""Masks out of the store, in the formats other tools read."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine import coco
from engine.coco import CocoImage, CocoMask
from engine.rle import Rle
from flows.errors import UsageError
from flows.runs import finish_run, new_run
from flows.workspace import Workspace, to_json
from storage.catalog.lake import Transaction
from storage.catalog.views import VIEWS
from storage.durable import write_durably
from storage.rows import ExportRow, utcnow

STAGES = ("label", "manual", "semi", "auto")


def export_coco(
    workspace: Workspace, output: Path, *, stages: Sequence[str] = (), snapshot: int | None = None
) -> dict[str, Any]:
    """Write the current masks (as of `snapshot`) to `output`, and keep a row of that.

    The masks in the file are those that `current_masks` has at the row's snapshot, of the stages
    that its options name: masks never change, so that selects the same ones for ever. Returns what
    was written.
    """
    for stage in stages:
        if stage not in STAGES:
            raise UsageError(f"--stage: must be one of {', '.join(STAGES)}, but got {stage!r}")
    latest = workspace.lake.snapshot()
    if snapshot is not None and not 1 <= snapshot <= latest:
        raise UsageError(f"--snapshot: must be from 1 to {latest}, but got {snapshot}")
    check_place(output)
    at = latest if snapshot is None else snapshot
    chosen = [stage for stage in STAGES if stage in (stages or STAGES)]
    rows = workspace.lake.rows(
        # The query, not the view: an earlier snapshot may be older than that.
        f"""WITH named AS ({VIEWS["mask_names"].sql})
           SELECT m.*, named.category, named.score AS category_score
           FROM current_masks m LEFT JOIN named USING (mask_id)
           WHERE list_contains(?, m.stage) ORDER BY m.image_id, m.mask_id""",
        (chosen,),
        snapshot=at,
    )
    images = workspace.lake.rows("SELECT * FROM images ORDER BY image_id", snapshot=at)
    data = json.dumps(_document(images, rows)).encode()
    write_durably(output, data)
    kept = _keep(workspace, output, data, at, chosen, (len(images), len(rows)))
    return {
        "output": str(output),
        "images": kept.num_images,
        "masks": kept.num_masks,
        "snapshot": at,
        "export_id": kept.export_id,
        "sha256": kept.sha256,
    }


def _keep(
    workspace: Workspace,
    output: Path,
    data: bytes,
    snapshot: int,
    stages: Sequence[str],
    counts: tuple[int, int],
) -> ExportRow:
    """The row of a file that was written; a crash before it leaves a file that nothing names."""
    run = new_run("export", config=to_json({"stages": stages, "snapshot": snapshot}))
    row = ExportRow(
        export_id=uuid.uuid4().hex,
        snapshot=snapshot,
        format="coco",
        options=to_json({"stages": stages}),
        num_images=counts[0],
        num_masks=counts[1],
        file_name=output.name,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        run_id=run.run_id,
        created_at=utcnow(),
    )

    def body(tx: Transaction) -> None:
        tx.insert([run])
        tx.insert([row])
        finish_run(tx, run.run_id, num_images=row.num_images, num_masks=row.num_masks)

    workspace.lake.commit(body, message=f"export {output.name}")
    return row


def check_place(output: Path) -> None:
    """Raise UsageError unless a file can be written there."""
    if not output.parent.is_dir():
        raise UsageError(f"{output}: no folder {output.parent}; make it first")
    if output.is_dir():
        raise UsageError(f"{output}: a folder; name the file to write")


def _document(images: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    numbers = {row["image_id"]: number for number, row in enumerate(images, start=1)}
    names = sorted({row["category"] or "object" for row in rows})
    categories = dict(enumerate(names, start=1))
    document = coco.document(
        [
            CocoImage(
                id=numbers[row["image_id"]],
                file_name=row["file_name"],
                height=row["height"],
                width=row["width"],
            )
            for row in images
        ],
        [
            CocoMask(
                id=number,
                image_id=numbers[row["image_id"]],
                category=row["category"] or "object",
                rle=Rle(tuple(row["segmentation"]["size"]), row["segmentation"]["counts"]),
                is_crowd=bool(row["is_crowd"]),
            )
            for number, row in enumerate(rows, start=1)
        ],
        categories,
        {"description": "exported by maskloop"},
    )
    # COCO readers ignore keys they do not know; these say where each mask came from.
    for annotation, row in zip(document["annotations"], rows, strict=True):
        annotation |= {
            "mask_id": row["mask_id"],
            "stage": row["stage"],
            "model_version": row["model_version"],
            "annotator": row["annotator"],
            "category_score": row["category_score"],
            "predicted_iou": row["predicted_iou"],
            "stability_score": row["stability_score"],
        }
    return document
