"""New images beside the known ones: their groups and sides, their rows, what to tell the user."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from flows.errors import StageError, UsageError
from flows.images.sources import SCHEME, Place, Sources, holder
from flows.images.splits import group_images
from flows.intake.files import FoundImage
from flows.workspace import Workspace, placeholders
from storage.catalog.lake import Transaction
from storage.rows import ImageRow, utcnow


@dataclass(frozen=True, kw_only=True)
class IntakeReport:
    """What came in. `problems` are lines for the user, one per thing that was left out.

    `notes` are lines on what is not looked at by rule.
    """

    num_new: int = 0
    num_known: int = 0
    num_masks: int = 0
    num_gold: int = 0
    num_labelled: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    repeated: bool = False

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


def stop_if_strict(problems: Sequence[str], strict: bool) -> None:
    """Raise UsageError for the first problem when `strict`."""
    if problems and strict:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UsageError(
            f"{problems[0]}{more} (nothing came in; without --strict only what is wrong stays out)"
        )


def stop_without_images(num_found: int, problems: Sequence[str], what: str) -> None:
    """Raise UsageError when `problems` have left nothing."""
    if not num_found:
        raise UsageError(f"{what}: no usable image. First problem: {problems[0]}")


Known = Mapping[str, Mapping[str, Any]]
_KNOWN = """
    SELECT image_id, split, group_id, source_group, dhash, file_name, source_image_id,
           num_labels_refused, image_id IN (SELECT image_id FROM reviews) AS reviewed,
           image_id IN (SELECT image_id FROM masks WHERE stage <> 'auto'
                        UNION ALL SELECT image_id FROM reviews) AS answered
    FROM images
"""
TORN = "near-duplicate or source group on the gold and on the training side; left out"


def known_images(workspace: Workspace) -> Known:
    """Split, groups, hash and name of every image of the store, by id.

    `answered` says whether an import or a person has said already what is on it, `reviewed`
    whether a person has.
    """
    return {row["image_id"]: row for row in workspace.lake.rows(_KNOWN)}


_STORED = """
    SELECT image_id, uri, dhash, height, width, format, mode, bit_depth, had_alpha, num_frames
    FROM images
"""


def stored_images(workspace: Workspace, places: Iterable[Place]) -> dict[Place, FoundImage]:
    """The places elsewhere whose image the store has: those need not be fetched again."""
    sources = workspace.reader.sources
    wanted = {sources.known_uri(place): place for place in places if isinstance(place, str)}
    if not wanted.keys() - {None}:
        return {}
    found: dict[Place, FoundImage] = {}
    for row in workspace.lake.rows(_STORED):
        if (place := wanted.get(row.pop("uri"))) is not None:
            dhash = int(row.pop("dhash"), 16)
            found[place] = FoundImage(place=place, dhash=dhash, **row)
    return found


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
    now = {row["image_id"]: row for row in tx.rows(_KNOWN)}
    if _sides(now) != _sides(known):
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


def _sides(images: Known) -> dict[str, tuple[str, bool]]:
    return {image_id: (row["split"], row["answered"]) for image_id, row in images.items()}


def image_row(
    sources: Sources, item: FoundImage, split: str, group: str, run_id: str
) -> tuple[Sources, ImageRow]:
    """The row of a new image, named as in its source, and the sources that its uri needs."""
    sources, uri = sources.uri(item.place)
    _, _, relative = uri.removeprefix(SCHEME).partition("/")
    row = ImageRow(
        image_id=item.image_id,
        uri=uri,
        height=item.height,
        width=item.width,
        split=split,
        source=holder(item.place),
        group_id=group,
        file_name=relative,
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


def named_apart(rows: Iterable[ImageRow], known: Known) -> list[ImageRow]:
    """The rows, each with a file name that no other image has: where one is taken, the source's

    name goes before the path, and a number behind it where the file there was another before.
    """
    taken = {row["file_name"] for row in known.values()}
    named = []
    for row in rows:
        name = _free_name(row, taken)
        taken.add(name)
        named.append(replace(row, file_name=name))
    return named


def _free_name(row: ImageRow, taken: Collection[str]) -> str:
    path = PurePosixPath(row.uri.removeprefix(SCHEME))
    name, number = row.file_name, 1
    while name in taken:
        name = str(path if number == 1 else path.with_stem(f"{path.stem}-{number}"))
        number += 1
    return name
