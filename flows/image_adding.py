"""`maskloop add`: images without labels."""

from collections.abc import Sequence

from flows.image_files import FoundImage, Progress, expand, read_images, start_of
from flows.image_rows import (
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
from flows.runs import finish_run, new_run
from flows.sources import Sources
from flows.workspace import Workspace, to_json
from storage.catalog.lake import Transaction
from storage.rows import ImageRow


def add_images(
    workspace: Workspace, patterns: Sequence[str], *, strict: bool, progress: Progress
) -> IntakeReport:
    """Bring images without labels in: files, folders (all below them) and globs."""
    found, problems = read_images(expand(patterns), workspace.reader.limits, progress)
    known = known_images(workspace)
    fresh = list({item.image_id: item for item in found if item.image_id not in known}.values())
    groups = groups_of(known, [(None, item) for item in fresh])
    sides = sides_of(known, groups)
    torn = {item.image_id for item in fresh if len(sides[groups[item.image_id]]) > 1}
    problems += [f"{item.path}: {TORN}" for item in fresh if item.image_id in torn]
    fresh = [item for item in fresh if item.image_id not in torn]
    stop_if_strict(problems, strict)
    stop_without_images(found, problems, " ".join(patterns))
    if fresh:
        # A near-duplicate of a gold image must never reach training, so it joins the gold side.
        splits = {
            item.image_id: "gold" if "gold" in sides[groups[item.image_id]] else "unlabelled"
            for item in fresh
        }
        _commit(workspace, patterns, fresh, known, groups, splits)
    return IntakeReport(
        num_new=len(fresh),
        num_known=len(found) - len(fresh) - len(torn),
        problems=tuple(problems),
        repeated=not fresh,
    )


def _commit(
    workspace: Workspace,
    patterns: Sequence[str],
    fresh: Sequence[FoundImage],
    known: Known,
    groups: dict[str, str],
    splits: dict[str, str],
) -> None:
    run = new_run("add", config=to_json({"num_images": len(fresh)}))
    sources = _with_folders(workspace.reader.sources, patterns)
    rows: list[ImageRow] = []
    for item in fresh:
        split, group = splits[item.image_id], groups[item.image_id]
        sources, row = image_row(sources, item, split, group, run.run_id)
        rows.append(row)
    rows = named_apart(rows, known)
    # Before the commit: a folder too many does no harm, one too few loses images.
    workspace.keep_sources(sources)
    joined = {row.group_id for row in rows}
    gold = {row.group_id for row in rows if row.split == "gold"}

    def body(tx: Transaction) -> None:
        settle(tx, known, groups, joined, {"gold": joining_gold(known, groups, gold)})
        tx.insert([run])
        tx.insert(rows)
        finish_run(tx, run.run_id, num_images=len(rows))

    workspace.lake.commit(body, message=f"add {len(rows)} images")


def _with_folders(sources: Sources, patterns: Sequence[str]) -> Sources:
    for pattern in patterns:
        if (folder := start_of(pattern)).is_dir():
            sources = sources.with_folder(folder)
    return sources
