"""`maskloop import coco`: a COCO file and its images, in one commit."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine import coco, rle
from flows.errors import UsageError
from flows.image_files import FoundImage, Progress, read_images
from flows.image_rows import IntakeReport, groups_of, image_row, known_images, stop_on
from flows.runs import finish_run, new_run
from flows.splits import split_of
from flows.workspace import Workspace, placeholders, to_json
from storage.catalog.lake import Transaction
from storage.rows import ImageRow, MaskLabelRow, MaskRow, mask_id, utcnow


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Who gets to be a label and who is set aside for measuring."""

    labelled: float | None = None
    gold: float = 0.1
    seed: int = 0
    gold_list: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        for name, value in (("--labelled", self.labelled), ("--gold", self.gold)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name}: must be a fraction from 0 to 1, but got {value}")
        if self.labelled is not None and self.gold_list is None and self.labelled + self.gold > 1:
            raise UsageError(
                "--labelled and --gold: must add up to at most 1, "
                f"but got {self.labelled + self.gold}"
            )


def import_coco(
    workspace: Workspace,
    annotations: Path,
    folder: Path,
    options: ImportOptions,
    progress: Progress,
) -> IntakeReport:
    """Bring a COCO file and its images in, in one commit; the same file again changes nothing."""
    if not folder.is_dir():
        raise UsageError(
            f"--images: {folder} is not a folder; name the folder with the image files"
        )
    try:
        dataset = coco.read(annotations, strict=options.strict)
    except coco.CocoError as error:
        raise UsageError(str(error)) from error
    fingerprint = _fingerprint(annotations)
    if _imported_before(workspace, fingerprint):
        return IntakeReport(num_known=len(dataset.images), repeated=True)
    problems = [
        f"{annotations}: {problem.where}: {problem.message}" for problem in dataset.problems
    ]
    paths = [folder / image.file_name for image in dataset.images]
    found, unread = read_images(paths, workspace.reader.limits, progress)
    by_path = {item.path: item for item in found}
    problems += unread
    entries: list[tuple[coco.CocoImage, FoundImage]] = []
    for entry, path in zip(dataset.images, paths, strict=True):
        if (item := by_path.get(path)) is None:
            continue
        if (item.height, item.width) != (entry.height, entry.width):
            problems.append(
                f"{annotations}: image {entry.id} ({entry.file_name}): stated as "
                f"{entry.width}x{entry.height}, but the file is {item.width}x{item.height}; "
                "correct width and height"
            )
            continue
        entries.append((entry, item))
    stop_on(problems, options.strict, nothing_left=not entries, what=str(annotations))
    return _commit_import(
        workspace, annotations, folder, dataset, entries, options, problems, fingerprint
    )


def _fingerprint(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _imported_before(workspace: Workspace, fingerprint: str) -> bool:
    return bool(
        workspace.lake.rows(
            "SELECT 1 FROM runs WHERE stage = 'import' AND status = 'done' AND detail = ?",
            (fingerprint,),
        )
    )


def _commit_import(
    workspace: Workspace,
    annotations: Path,
    folder: Path,
    dataset: coco.CocoDataset,
    entries: Sequence[tuple[coco.CocoImage, FoundImage]],
    options: ImportOptions,
    problems: Sequence[str],
    fingerprint: str,
) -> IntakeReport:
    known = known_images(workspace)
    unique = _unique(entries, annotations, problems_out := list(problems))
    groups = groups_of(known, [(entry.group, item) for entry, item in unique])
    splits = _splits(known, unique, groups, options)
    masks_of: dict[int | str, list[coco.CocoMask]] = defaultdict(list)
    for mask in dataset.masks:
        masks_of[mask.image_id].append(mask)
    run = new_run("import", config=_config(options))
    sources = workspace.reader.sources.with_folder(folder)
    image_rows: list[ImageRow] = []
    promoted: list[str] = []
    mask_rows: list[MaskRow] = []
    label_rows: list[MaskLabelRow] = []
    for entry, item in unique:
        split = splits[item.image_id]
        if item.image_id not in known:
            sources, row = image_row(sources, item, split, groups[item.image_id], run.run_id)
            image_rows.append(replace(row, source=annotations.name, source_image_id=str(entry.id)))
        elif known[item.image_id]["split"] == "unlabelled" and split == "train":
            promoted.append(item.image_id)
        else:
            continue
        if split != "unlabelled":
            for mask in masks_of[entry.id]:
                row_and_label = _mask_rows(mask, item.image_id, run.run_id, annotations.name)
                mask_rows.append(row_and_label[0])
                label_rows.extend(row_and_label[1])
    workspace.keep_sources(sources)

    def body(tx: Transaction) -> None:
        for rows in ([run], image_rows, mask_rows, label_rows):
            tx.insert(rows)
        if promoted:
            tx.execute(
                f"UPDATE images SET split = 'train' WHERE image_id IN ({placeholders(promoted)})",
                promoted,
            )
        finish_run(
            tx, run.run_id, num_images=len(image_rows), num_masks=len(mask_rows), detail=fingerprint
        )

    workspace.lake.commit(body, message=f"import {annotations.name}")
    return IntakeReport(
        num_new=len(image_rows),
        num_known=len(unique) - len(image_rows),
        num_masks=len(mask_rows),
        num_gold=sum(row.split == "gold" for row in image_rows),
        num_labelled=sum(row.split == "train" for row in image_rows) + len(promoted),
        problems=tuple(problems_out),
    )


def _config(options: ImportOptions) -> str:
    return to_json(
        {
            "labelled": options.labelled,
            "gold": options.gold,
            "seed": options.seed,
            "gold_list": options.gold_list.name if options.gold_list else None,
        }
    )


def _unique(
    entries: Sequence[tuple[coco.CocoImage, FoundImage]], annotations: Path, problems: list[str]
) -> list[tuple[coco.CocoImage, FoundImage]]:
    """Entries with different bytes; a second name of the same picture is reported and left out."""
    first: dict[str, coco.CocoImage] = {}
    kept = []
    for entry, item in entries:
        if (other := first.setdefault(item.image_id, entry)) is entry:
            kept.append((entry, item))
        else:
            problems.append(
                f"{annotations}: image {entry.id} ({entry.file_name}): the same bytes as "
                f"{other.file_name}; only the first is kept"
            )
    return kept


def _splits(
    known: dict[str, dict[str, str]],
    entries: Sequence[tuple[coco.CocoImage, FoundImage]],
    groups: dict[str, str],
    options: ImportOptions,
) -> dict[str, str]:
    """The side of each image of this import; whole groups go to one side."""
    gold_groups = _listed_gold(entries, groups, options.gold_list)
    taken: dict[str, str] = {}
    for image_id, row in known.items():
        side = "gold" if row["split"] == "gold" else "train"
        if row["split"] != "unlabelled" or groups[image_id] not in taken:
            taken[groups[image_id]] = side
    gold = 0.0 if options.gold_list else options.gold
    labelled = 1.0 - gold if options.labelled is None else options.labelled
    splits = {}
    for _, item in entries:
        group = groups[item.image_id]
        split = split_of(group, seed=options.seed, gold=gold, labelled=labelled)
        if group in gold_groups or taken.get(group) == "gold":
            split = "gold"
        elif group in taken and split == "gold":
            # Its near-duplicate is already in use for training, so it can never measure.
            split = "unlabelled"
        splits[item.image_id] = split
    return splits


def _listed_gold(
    entries: Sequence[tuple[coco.CocoImage, FoundImage]],
    groups: dict[str, str],
    gold_list: Path | None,
) -> set[str]:
    if gold_list is None:
        return set()
    try:
        lines = gold_list.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--gold-list: {gold_list}: {error}; name a text file") from error
    wanted = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    by_name: dict[str, str] = {}
    for entry, item in entries:
        for name in (entry.file_name, str(entry.id), item.image_id):
            by_name[name] = groups[item.image_id]
    if unknown := sorted(wanted - by_name.keys()):
        raise UsageError(
            f"{gold_list}: {unknown[0]!r} is no image of this import ({len(unknown)} such lines); "
            "expected one file name, id or image_id a line"
        )
    return {by_name[name] for name in wanted}


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
