"""Images and labels into the store: `maskloop import coco` and `maskloop add`."""

import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engine import coco, images, rle
from flows.errors import UsageError
from flows.runs import finish_run, new_run
from flows.sources import Sources
from flows.splits import group_images, split_of
from flows.workspace import Workspace, placeholders, to_json
from storage.catalog.lake import Transaction
from storage.rows import ImageRow, MaskLabelRow, MaskRow, mask_id, utcnow

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
Progress = Callable[[int, int], None]


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
                f"--labelled and --gold: must add up to at most 1, but got {self.labelled + self.gold}"
            )


@dataclass(frozen=True, kw_only=True)
class IntakeReport:
    """What came in. `problems` are lines for the user, one per thing that was left out."""

    num_new: int = 0
    num_known: int = 0
    num_masks: int = 0
    num_gold: int = 0
    num_labelled: int = 0
    problems: tuple[str, ...] = ()
    repeated: bool = False

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One readable image file with what its bytes say."""

    path: Path
    image_id: str
    dhash: int
    height: int
    width: int
    format: str
    mode: str
    bit_depth: int
    had_alpha: bool
    num_frames: int


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
    found, unread = read_images(workspace, paths, progress)
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
    _stop_on(problems, options.strict, nothing_left=not entries, what=str(annotations))
    return _commit_import(
        workspace, annotations, folder, dataset, entries, options, problems, fingerprint
    )


def _stop_on(problems: Sequence[str], strict: bool, *, nothing_left: bool, what: str) -> None:
    if problems and strict:
        raise UsageError(f"{problems[0]} (--strict: nothing was imported)")
    if nothing_left:
        first = f" First problem: {problems[0]}" if problems else ""
        raise UsageError(f"{what}: no usable image.{first}")


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


def read_images(
    workspace: Workspace, paths: Sequence[Path], progress: Progress
) -> tuple[list[FoundImage], list[str]]:
    """The readable ones of `paths`, in their order, and a line for each of the others."""
    found: list[FoundImage] = []
    problems: list[str] = []
    limits = workspace.reader.limits
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda path: _look(path, limits), paths)
        for done, result in enumerate(results, start=1):
            if isinstance(result, FoundImage):
                found.append(result)
            else:
                problems.append(result)
            progress(done, len(paths))
    return found, problems


def _look(path: Path, limits: images.ImageLimits) -> FoundImage | str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return f"{path}: no such file; copy it there or correct the file name"
    except OSError as error:
        return f"{path}: {error.strerror}"
    try:
        decoded = images.decode(data, limits)
    except images.ImageError as error:
        return f"{path}: {error}"
    height, width = decoded.pixels.shape[:2]
    return FoundImage(
        path=path,
        image_id=images.image_id(data),
        dhash=images.difference_hash(decoded.pixels),
        height=height,
        width=width,
        format=decoded.format,
        mode=decoded.mode,
        bit_depth=decoded.bit_depth,
        had_alpha=decoded.had_alpha,
        num_frames=decoded.num_frames,
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
    known = _known_images(workspace)
    unique = _unique(entries, annotations, problems_out := list(problems))
    groups = _groups(known, unique)
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
            sources, row = _image_row(sources, item, split, groups[item.image_id], run.run_id)
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


def _known_images(workspace: Workspace) -> dict[str, dict[str, str]]:
    rows = workspace.lake.rows("SELECT image_id, split, group_id, dhash FROM images")
    return {row["image_id"]: row for row in rows}


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


def _groups(
    known: dict[str, dict[str, str]], entries: Iterable[tuple[coco.CocoImage | None, FoundImage]]
) -> dict[str, str]:
    """Group ids of known and new images together; a group that exists keeps its id's side."""
    hashes = {image_id: int(row["dhash"], 16) for image_id, row in known.items()}
    by_source: dict[str, list[str]] = defaultdict(list)
    for image_id, row in known.items():
        by_source["group:" + row["group_id"]].append(image_id)
    for entry, item in entries:
        hashes[item.image_id] = item.dhash
        if entry is not None and entry.group is not None:
            by_source["source:" + entry.group].append(item.image_id)
    return group_images(hashes, by_source.values())


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


def _image_row(
    sources: Sources, item: FoundImage, split: str, group: str, run_id: str
) -> tuple[Sources, ImageRow]:
    sources, uri = sources.uri(item.path)
    row = ImageRow(
        image_id=item.image_id,
        uri=uri,
        height=item.height,
        width=item.width,
        split=split,
        source=item.path.parent.name,
        group_id=group,
        file_name=item.path.name,
        source_image_id=None,
        format=item.format,
        mode=item.mode,
        bit_depth=item.bit_depth,
        had_alpha=item.had_alpha,
        num_frames=item.num_frames,
        dhash=f"{item.dhash:016x}",
        run_id=run_id,
        added_at=utcnow(),
    )
    return sources, row


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


def add_images(
    workspace: Workspace, patterns: Sequence[str], *, strict: bool, progress: Progress
) -> IntakeReport:
    """Bring images without labels in: files, folders (all below them) and globs."""
    paths = _expand(patterns)
    found, problems = read_images(workspace, paths, progress)
    _stop_on(problems, strict, nothing_left=not found, what=" ".join(patterns))
    known = _known_images(workspace)
    fresh = list({item.image_id: item for item in found if item.image_id not in known}.values())
    if not fresh:
        return IntakeReport(num_known=len(found), problems=tuple(problems), repeated=True)
    groups = _groups(known, [(None, item) for item in fresh])
    gold_groups = {groups[key] for key, row in known.items() if row["split"] == "gold"}
    run = new_run("add", config=to_json({"num_paths": len(paths)}))
    sources = workspace.reader.sources
    for pattern in patterns:
        if Path(pattern).is_dir():
            sources = sources.with_folder(Path(pattern))
    rows = []
    for item in fresh:
        # A near-duplicate of a gold image must never reach training, so it joins the gold side.
        split = "gold" if groups[item.image_id] in gold_groups else "unlabelled"
        sources, row = _image_row(sources, item, split, groups[item.image_id], run.run_id)
        rows.append(row)
    workspace.keep_sources(sources)

    def body(tx: Transaction) -> None:
        tx.insert([run])
        tx.insert(rows)
        finish_run(tx, run.run_id, num_images=len(rows))

    workspace.lake.commit(body, message=f"add {len(rows)} images")
    return IntakeReport(
        num_new=len(rows), num_known=len(found) - len(rows), problems=tuple(problems)
    )


def _expand(patterns: Sequence[str]) -> list[Path]:
    paths: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.is_file():
            matches = [path]
        else:
            matches = sorted(Path(p) for p in glob.glob(pattern, recursive=True))
            matches = [p for p in matches if p.is_file()]
        if not matches:
            raise UsageError(
                f"{pattern}: no image file there; expected files, folders or globs of "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        paths.update(dict.fromkeys(path.resolve() for path in matches))
    return list(paths)
