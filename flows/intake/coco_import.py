"""`maskloop import coco`: a COCO file and its images, in one commit."""

import hashlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Literal

from engine import coco, rle
from flows.errors import UsageError
from flows.images.sources import Place
from flows.intake.coco_entries import readable, unique_entries
from flows.intake.coco_plan import ImportOptions as ImportOptions
from flows.intake.coco_plan import Plan, labels_in_part
from flows.intake.files import Progress, pages_left_out, unwritable
from flows.intake.places import check_base
from flows.intake.rows import (
    IntakeReport,
    image_row,
    known_images,
    named_apart,
    settle,
    stop_if_strict,
    stop_without_images,
)
from flows.intake.sightings import sightings
from flows.runs import finish_run, new_run
from flows.suppression import suppressions
from flows.workspace import Workspace, placeholders, to_json
from storage.catalog.lake import Transaction
from storage.rows import ImageRow, MaskLabelRow, MaskRow, mask_id, utcnow


def import_coco(
    workspace: Workspace,
    annotations: Path,
    folder: Place,
    options: ImportOptions,
    progress: Progress,
) -> IntakeReport:
    """Bring a COCO file and its images in, in one commit; the same file again changes nothing."""
    _check_base(workspace, folder)
    if (problem := unwritable(Path(annotations.name))) is not None:
        raise UsageError(problem)
    try:
        dataset = coco.read(annotations)
    except coco.CocoError as error:
        raise UsageError(str(error)) from error
    problems = [f"{annotations}: {item.where}: {item.message}" for item in dataset.problems]
    if not dataset.images and not problems:
        raise UsageError(
            f"{annotations}: no usable image: the list images is empty; name a COCO file that has "
            "some, or bring images without labels in by maskloop add"
        )
    stop_if_strict(problems, options.strict)
    before = _imported_before(workspace, fingerprint := _fingerprint(annotations))
    if before == "all":
        return IntakeReport(num_known=len(dataset.images), repeated=True)
    with sightings(workspace, folder) as seen:
        entries = readable(workspace, annotations, folder, dataset, problems, progress, seen)
        detail = fingerprint if len(entries) == len(dataset.images) else f"{fingerprint} in part"
        unique = unique_entries(entries, annotations, problems)
        known = known_images(workspace)
        if before == "in part":
            # What came in the first time stays where it is; what could not be read then is new.
            unique = [(entry, item) for entry, item in unique if item.image_id not in known]
        plan = Plan(known, unique, dataset, labels_in_part(workspace), options)
        problems += [f"{annotations}: {line}" for line in plan.problems]
        stop_if_strict(problems, options.strict)
        stop_without_images(len(entries), problems, str(annotations))
        if plan.changes:
            _commit(workspace, annotations, folder, plan, options, detail)
    return IntakeReport(
        num_new=len(plan.new),
        num_known=len(entries) - len(plan.new),
        num_masks=plan.num_masks,
        num_gold=plan.count("gold"),
        num_labelled=plan.count("train"),
        problems=tuple(problems),
        notes=tuple(pages_left_out([item for (_, item), _ in plan.new])),
        repeated=not plan.changes,
    )


def _check_base(workspace: Workspace, folder: Place) -> None:
    if isinstance(folder, str):
        try:
            check_base(folder, workspace.remote)
        except UsageError as error:
            raise UsageError(f"--images: {error}") from error
    elif not folder.is_dir():
        raise UsageError(
            f"--images: {folder} is not a folder; name the folder with the image files"
        )


def _fingerprint(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _imported_before(workspace: Workspace, fingerprint: str) -> Literal["no", "in part", "all"]:
    rows = workspace.lake.rows(
        "SELECT detail FROM runs WHERE stage = 'import' AND starts_with(detail, ?)", (fingerprint,)
    )
    if not rows:
        return "no"
    return "all" if any(row["detail"] == fingerprint for row in rows) else "in part"


def _commit(
    workspace: Workspace,
    annotations: Path,
    folder: Place,
    plan: Plan,
    options: ImportOptions,
    detail: str,
) -> None:
    run = new_run("import", config=_config(options))
    sources = workspace.reader.sources.with_place(folder)
    image_rows: list[ImageRow] = []
    for (entry, item), split in plan.new:
        group = plan.groups[item.image_id]
        sources, row = image_row(sources, item, split, group, run.run_id)
        image_rows.append(
            replace(
                row,
                source=annotations.name,
                file_name=entry.file_name,
                source_image_id=str(entry.id),
                source_group=entry.group,
                num_labels_refused=plan.num_refused.get(item.image_id),
            )
        )
    pairs = [
        _mask_rows(mask, image_id, run.run_id, annotations.name)
        for image_id, masks in plan.brought.items()
        for mask in masks
    ]
    mask_rows = [mask for mask, _ in pairs]
    label_rows = [label for _, labels in pairs for label in labels]
    image_rows = named_apart(image_rows, plan.known)
    # Before the commit: a folder too many does no harm, one too few loses images.
    workspace.keep_sources(sources)
    # How many of its annotations were refused -> images that were there before.
    labelled: dict[int, list[str]] = defaultdict(list)
    for image_id, number in plan.num_refused.items():
        if image_id in plan.known:
            labelled[number].append(image_id)

    def body(tx: Transaction) -> None:
        settle(tx, plan.known, plan.groups, {row.group_id for row in image_rows}, plan.moves)
        for rows in ([run], image_rows, mask_rows, label_rows):
            tx.insert(rows)
        for number, ids in labelled.items():
            marks = placeholders(ids)
            tx.execute(
                f"UPDATE images SET num_labels_refused = ? WHERE image_id IN ({marks})",
                [number, *ids],
            )
            # A model may have looked at these before their labels came.
            tx.insert(suppressions(tx, f"image_id IN ({marks})", ids))
        finish_run(
            tx, run.run_id, num_images=len(image_rows), num_masks=len(mask_rows), detail=detail
        )

    workspace.lake.commit(body, message=f"import {annotations.name}")


def _config(options: ImportOptions) -> str:
    return to_json(
        {
            "labelled": options.labelled,
            "gold": options.gold_fraction,
            "seed": options.seed,
            "gold_list": options.gold_list.name if options.gold_list else None,
        }
    )


def _mask_rows(
    mask: coco.CocoMask, image_id: str, run_id: str, source: str
) -> tuple[MaskRow, list[MaskLabelRow]]:
    x0, y0, x1, y1 = (float(value) for value in rle.box(mask.rle))
    identity = mask_id("label", image_id, source, str(mask.id), mask.rle.counts)
    now = utcnow()
    row = MaskRow(
        mask_id=identity,
        image_id=image_id,
        stage="label",
        run_id=run_id,
        prompt="import",
        generation_depth=0,
        source_annotation_id=str(mask.id),
        is_crowd=mask.is_crowd,
        segmentation={"size": list(mask.rle.size), "counts": mask.rle.counts},
        bbox=[x0, y0, x1 - x0, y1 - y0],
        area=rle.area(mask.rle),
        created_at=now,
    )
    if mask.category is None:
        return row, []
    label = MaskLabelRow(
        mask_id=identity, category=mask.category, score=1.0, accepted_by=source, created_at=now
    )
    return row, [label]
