"""`maskloop add`: images without labels."""

from collections.abc import Sequence
from pathlib import Path

from flows.image_files import Progress, expand, read_images
from flows.image_rows import (
    TORN,
    IntakeReport,
    groups_of,
    image_row,
    joining_gold,
    known_images,
    settle,
    sides_of,
    stop_on,
)
from flows.runs import finish_run, new_run
from flows.workspace import Workspace, to_json
from storage.catalog.lake import Transaction


def add_images(
    workspace: Workspace, patterns: Sequence[str], *, strict: bool, progress: Progress
) -> IntakeReport:
    """Bring images without labels in: files, folders (all below them) and globs."""
    paths = expand(patterns)
    found, problems = read_images(paths, workspace.reader.limits, progress)
    stop_on(problems, strict, nothing_left=not found, what=" ".join(patterns))
    known = known_images(workspace)
    fresh = list({item.image_id: item for item in found if item.image_id not in known}.values())
    if not fresh:
        return IntakeReport(num_known=len(found), problems=tuple(problems), repeated=True)
    groups = groups_of(known, [(None, item) for item in fresh])
    sides = sides_of(known, groups)
    torn = [item for item in fresh if len(sides[groups[item.image_id]]) > 1]
    problems += [f"{item.path}: {TORN}" for item in torn]
    fresh = [item for item in fresh if item not in torn]
    run = new_run("add", config=to_json({"num_paths": len(paths)}))
    sources = workspace.reader.sources
    for pattern in patterns:
        if Path(pattern).is_dir():
            sources = sources.with_folder(Path(pattern))
    rows = []
    for item in fresh:
        # A near-duplicate of a gold image must never reach training, so it joins the gold side.
        split = "gold" if "gold" in sides[groups[item.image_id]] else "unlabelled"
        sources, row = image_row(sources, item, split, groups[item.image_id], run.run_id)
        rows.append(row)
    workspace.keep_sources(sources)
    joined = {row.group_id for row in rows}
    gold = {row.group_id for row in rows if row.split == "gold"}

    def body(tx: Transaction) -> None:
        settle(tx, known, groups, joined, {"gold": joining_gold(known, groups, gold)})
        tx.insert([run])
        tx.insert(rows)
        finish_run(tx, run.run_id, num_images=len(rows))

    workspace.lake.commit(body, message=f"add {len(rows)} images")
    return IntakeReport(
        num_new=len(rows), num_known=len(found) - len(rows), problems=tuple(problems)
    )
