"""`maskloop add`: images without labels."""

from collections.abc import Sequence

from flows.images.sources import Place
from flows.intake.files import FoundImage, Progress, left_out, pages_left_out, read_images
from flows.intake.places import places_of, with_places
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
    stored_images,
)
from flows.intake.sightings import Sightings, sightings
from flows.runs import finish_run, new_run
from flows.workspace import Workspace, to_json
from storage.catalog.lake import Transaction
from storage.rows import ImageRow

# Images from elsewhere that come in together: what an interruption costs at most.
_BATCH = 2000


def add_images(
    workspace: Workspace,
    patterns: Sequence[str],
    *,
    strict: bool,
    progress: Progress,
    batch: int = _BATCH,
) -> IntakeReport:
    """Bring images without labels in: files, folders (all below them), globs and addresses.

    Those at addresses come in by batches, unless one problem may stop them all (`strict`): begun
    again, the command goes on where it was.
    """
    places = places_of(patterns, workspace.remote)
    whole = strict or not any(isinstance(place, str) for place in places)
    size = len(places) if whole else batch
    total, num_found = IntakeReport(repeated=True, notes=tuple(left_out(patterns))), 0
    for start in range(0, len(places), size):

        def step(done: int, _total: int, before: int = start) -> None:
            progress(before + done, len(places))

        with sightings(workspace, *patterns) as seen:
            part, found = _add(
                workspace, patterns, places[start : start + size], strict, step, seen
            )
        num_found += found
        total = IntakeReport(
            num_new=total.num_new + part.num_new,
            num_known=total.num_known + part.num_known,
            problems=total.problems + part.problems,
            notes=total.notes + part.notes,
            repeated=total.repeated and part.repeated,
        )
    stop_without_images(num_found, total.problems, " ".join(patterns))
    return total


def _add(
    workspace: Workspace,
    patterns: Sequence[str],
    places: Sequence[Place],
    strict: bool,
    progress: Progress,
    seen: Sightings,
) -> tuple[IntakeReport, int]:
    """Bring the images at these places in, in one commit; also, how many could be read."""
    stored = seen.before() | stored_images(workspace, places)
    found, problems = read_images(places, workspace.reader, progress, stored=stored, note=seen.note)
    known = known_images(workspace)
    fresh = list({item.image_id: item for item in found if item.image_id not in known}.values())
    groups = groups_of(known, [(None, item) for item in fresh])
    sides = sides_of(known, groups)
    torn = {item.image_id for item in fresh if len(sides[groups[item.image_id]]) > 1}
    problems += [f"{item.place}: {TORN}" for item in fresh if item.image_id in torn]
    fresh = [item for item in fresh if item.image_id not in torn]
    stop_if_strict(problems, strict)
    if fresh:
        # A near-duplicate of a gold image must never reach training, so it joins the gold side.
        splits = {
            item.image_id: "gold" if "gold" in sides[groups[item.image_id]] else "unlabelled"
            for item in fresh
        }
        _commit(workspace, patterns, fresh, known, groups, splits)
    report = IntakeReport(
        num_new=len(fresh),
        num_known=len(found) - len(fresh) - len(torn),
        problems=tuple(problems),
        notes=tuple(pages_left_out(fresh)),
        repeated=not fresh,
    )
    return report, len(found)


def _commit(
    workspace: Workspace,
    patterns: Sequence[str],
    fresh: Sequence[FoundImage],
    known: Known,
    groups: dict[str, str],
    splits: dict[str, str],
) -> None:
    run = new_run("add", config=to_json({"num_images": len(fresh)}))
    sources = with_places(workspace.reader.sources, patterns)
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
