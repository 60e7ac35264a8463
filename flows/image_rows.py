"""New images beside the known ones: their groups and sides, their rows, what to tell the user."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flows.errors import StageError, UsageError
from flows.image_files import FoundImage
from flows.sources import Sources
from flows.splits import group_images
from flows.workspace import Workspace, placeholders
from storage.catalog.lake import Transaction
from storage.rows import ImageRow, utcnow


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


def stop_on(problems: Sequence[str], strict: bool, *, nothing_left: bool, what: str) -> None:
    """Raise UsageError for the first problem when `strict`, and when nothing usable is left."""
    if problems and strict:
        raise UsageError(f"{problems[0]} (--strict: nothing was imported)")
    if nothing_left:
        first = f" First problem: {problems[0]}" if problems else ""
        raise UsageError(f"{what}: no usable image.{first}")


Known = Mapping[str, Mapping[str, Any]]
_KNOWN = "SELECT image_id, split, group_id, source_group, dhash FROM images"
TORN = "near-duplicate or source group on the gold and on the training side; left out"


def known_images(workspace: Workspace) -> Known:
    """Split, groups and hash of every image of the store, by id."""
    return {row["image_id"]: row for row in workspace.lake.rows(_KNOWN)}


def labelled_images(workspace: Workspace) -> set[str]:
    """Images that an import has brought masks for."""
    rows = workspace.lake.rows("SELECT DISTINCT image_id FROM masks WHERE stage = 'label'")
    return {row["image_id"] for row in rows}


def groups_of(known: Known, new: Iterable[tuple[str | None, FoundImage]]) -> dict[str, str]:
    """Group ids of known and new images together; `new` has a source group, if any, beside each."""
    hashes = {image_id: int(row["dhash"], 16) for image_id, row in known.items()}
    by_source: dict[tuple[str, str], list[str]] = defaultdict(list)
    for image_id, row in known.items():
        by_source["group", row["group_id"]].append(image_id)
        if row["source_group"] is not None:
            by_source["source", row["source_group"]].append(image_id)
    for source, item in new:
        hashes[item.image_id] = item.dhash
        if source is not None:
            by_source["source", source].append(item.image_id)
    return group_images(hashes, by_source.values())


def sides_of(known: Known, groups: Mapping[str, str]) -> dict[str, set[str]]:
    """Group -> the splits its known images stand on already; unlabelled ones stand on none.

    Nothing was measured on those or trained on them, so they may still go where the group goes.
    """
    sides: dict[str, set[str]] = defaultdict(set)
    for image_id, row in known.items():
        if row["split"] != "unlabelled":
            sides[groups[image_id]].add(row["split"])
    return sides


def joining_gold(known: Known, groups: Mapping[str, str], gold: set[str]) -> list[str]:
    """Unlabelled images whose group is among `gold`: they must never reach training either."""
    return [
        image_id
        for image_id, row in known.items()
        if row["split"] == "unlabelled" and groups[image_id] in gold
    ]


def settle(
    tx: Transaction,
    known: Known,
    groups: Mapping[str, str],
    new_groups: set[str],
    moves: Mapping[str, Sequence[str]],
) -> None:
    """Give known images the split in `moves` and the groups that new images have joined.

    Raises StageError when the store is no longer what `known` says: sides were chosen by that.
    """
    now = {row["image_id"]: row["split"] for row in tx.rows("SELECT image_id, split FROM images")}
    if now != {image_id: row["split"] for image_id, row in known.items()}:
        raise StageError("the store has changed meanwhile; run the same command again")
    for split, ids in moves.items():
        if ids:
            marks = placeholders(ids)
            tx.execute(f"UPDATE images SET split = ? WHERE image_id IN ({marks})", [split, *ids])
    renamed = {
        (row["group_id"], groups[image_id])
        for image_id, row in known.items()
        if groups[image_id] in new_groups and groups[image_id] != row["group_id"]
    }
    for old, new in sorted(renamed):
        tx.execute("UPDATE images SET group_id = ? WHERE group_id = ?", [new, old])


def image_row(
    sources: Sources, item: FoundImage, split: str, group: str, run_id: str
) -> tuple[Sources, ImageRow]:
    """The row of a new image, and the sources that its uri needs."""
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
