"""`maskloop import coco`: a COCO file and its images, in one commit."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine import coco, rle
from flows.errors import UsageError
from flows.images.sources import Place
from flows.images.splits import split_of
from flows.intake.coco_entries import Entry, readable, unique_entries
from flows.intake.files import Progress, unwritable
from flows.intake.places import check_base
from flows.intake.rows import (
    TORN,
    IntakeReport,
    Known,
    groups_of,
    image_row,
    joining_gold,
    known_images,
    named_apart,
    settle,
    sides_of,
    stop_if_strict,
    stop_without_images,
)
from flows.intake.sightings import sightings
from flows.runs import finish_run, new_run
from flows.suppression import suppressions
from flows.workspace import Workspace, placeholders, to_json
from storage.catalog.lake import Transaction
from storage.rows import ImageRow, MaskLabelRow, MaskRow, mask_id, utcnow

DEFAULT_GOLD = 0.1


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Who gets to be a label and who is set aside for measuring: fractions, or a list of the gold.

    Without `labelled`, everything but gold is labelled. Without `gold` and `gold_list`, gold is
    DEFAULT_GOLD, or what `labelled` leaves of it.
    """

    labelled: float | None = None
    gold: float | None = None
    seed: int = 0
    gold_list: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        for name, value in (("--labelled", self.labelled), ("--gold", self.gold)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name}: must be a fraction from 0 to 1, but got {value}")
        if self.gold is not None and self.gold_list is not None:
            raise UsageError("--gold and --gold-list: give one; the list names all gold images")
        if (total := (self.labelled or 0) + (self.gold or 0)) > 1:
            raise UsageError(f"--labelled and --gold: must add up to at most 1, but got {total}")

    @property
    def gold_fraction(self) -> float:
        """The fraction of images that their hash makes gold."""
        if self.gold_list is not None:
            return 0.0
        if self.gold is not None:
            return self.gold
        return min(DEFAULT_GOLD, round(1.0 - (self.labelled or 0.0), 9))

    @property
    def labelled_fraction(self) -> float:
        """The fraction of images that keep their labels, beside the gold ones."""
        return 1.0 - self.gold_fraction if self.labelled is None else self.labelled


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
        plan = _Plan(known, unique, dataset.masks, options)
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


class _Plan:
    """What an import will change: the side of each image, and which of them bring their masks."""

    def __init__(
        self,
        known: Known,
        entries: Sequence[Entry],
        masks: Sequence[coco.CocoMask],
        options: ImportOptions,
    ) -> None:
        self.known = known
        self.groups = groups_of(known, [(entry.group, item) for entry, item in entries])
        self.masks_of: dict[int | str, list[coco.CocoMask]] = defaultdict(list)
        for mask in masks:
            self.masks_of[mask.image_id].append(mask)
        self.new: list[tuple[Entry, str]] = []
        self.labels: list[tuple[Entry, str]] = []
        self.moves: dict[str, list[str]] = {"train": []}
        self.problems: list[str] = []
        self._num_kept = 0
        splits = self._splits(entries, options)
        for pair in entries:
            self._place(pair, splits[pair[1].image_id])
        if self._num_kept:
            self.problems.append(
                f"images labelled or reviewed before keep what they have: {self._num_kept}"
            )
        gold = {self.groups[item.image_id] for (_, item), split in self.labels if split == "gold"}
        self.moves["gold"] = joining_gold(known, self.groups, gold)

    def _place(self, pair: Entry, split: str | None) -> None:
        entry, item = pair
        old = self.known.get(item.image_id)
        if split is None:
            self.problems.append(f"image {entry.id} ({entry.file_name}): {TORN}")
            return
        if old is None:
            self.new.append((pair, split))
        elif old["answered"]:
            self._num_kept += bool(self.masks_of[entry.id])
            return
        elif old["split"] != "unlabelled":
            # It has its side and waits for its first masks: those before were of no use.
            if not self.masks_of[entry.id]:
                return
            split = old["split"]
        elif split == "train":
            self.moves["train"].append(item.image_id)
        if split != "unlabelled":
            self.labels.append((pair, split))

    @property
    def changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.new or self.num_masks or any(self.moves.values()))

    @property
    def num_masks(self) -> int:
        """Masks that come in."""
        return sum(len(self.masks_of[entry.id]) for (entry, _), _ in self.labels)

    def count(self, side: str) -> int:
        """Images that come to a side with their masks."""
        return sum(split == side for _, split in self.labels)

    def _splits(self, entries: Sequence[Entry], options: ImportOptions) -> dict[str, str | None]:
        """The side of each image of this import, whole groups together; None for one on both."""
        sides = sides_of(self.known, self.groups)
        listed = _listed_gold(entries, self.groups, options.gold_list)
        for name, group in listed.items():
            if "train" in sides[group]:
                raise UsageError(
                    f"{options.gold_list}: {name!r}: it, a near-duplicate or one of its source "
                    "group is in training already; take it off the list"
                )
        gold, labelled = options.gold_fraction, options.labelled_fraction
        splits: dict[str, str | None] = {}
        for _, item in entries:
            group = self.groups[item.image_id]
            split: str | None = split_of(group, seed=options.seed, gold=gold, labelled=labelled)
            if len(sides[group]) > 1:
                split = None
            elif group in listed.values() or sides[group] == {"gold"}:
                split = "gold"
            elif split == "gold" and sides[group] == {"train"}:
                # What its near-duplicate taught the model, it can no longer measure.
                split = "unlabelled"
            splits[item.image_id] = split
        return splits


def _commit(
    workspace: Workspace,
    annotations: Path,
    folder: Place,
    plan: _Plan,
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
            )
        )
    pairs = [
        _mask_rows(mask, item.image_id, run.run_id, annotations.name)
        for (entry, item), _ in plan.labels
        for mask in plan.masks_of[entry.id]
    ]
    mask_rows = [mask for mask, _ in pairs]
    label_rows = [label for _, labels in pairs for label in labels]
    image_rows = named_apart(image_rows, plan.known)
    # Before the commit: a folder too many does no harm, one too few loses images.
    workspace.keep_sources(sources)
    labelled = [item.image_id for (_, item), _ in plan.labels if item.image_id in plan.known]

    def body(tx: Transaction) -> None:
        settle(tx, plan.known, plan.groups, {row.group_id for row in image_rows}, plan.moves)
        for rows in ([run], image_rows, mask_rows, label_rows):
            tx.insert(rows)
        if labelled:
            # A model may have looked at these before their labels came.
            tx.insert(suppressions(tx, f"image_id IN ({placeholders(labelled)})", labelled))
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


def _listed_gold(
    entries: Sequence[Entry], groups: dict[str, str], gold_list: Path | None
) -> dict[str, str]:
    """Group by name for each line of the file."""
    if gold_list is None:
        return {}
    try:
        # Windows editors put a mark before the first line, which is no part of its name.
        lines = gold_list.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"--gold-list: {gold_list}: {error.strerror}; name a text file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--gold-list: {gold_list}: not UTF-8 text; name a text file") from error
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
    return {name: by_name[name] for name in sorted(wanted)}


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
