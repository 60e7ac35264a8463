"""New images beside the known ones: their groups, their rows, and what to tell the user."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from flows.errors import UsageError
from flows.image_files import FoundImage
from flows.sources import Sources
from flows.splits import group_images
from flows.workspace import Workspace
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


def known_images(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Split, group and hash of every image of the store, by id."""
    rows = workspace.lake.rows("SELECT image_id, split, group_id, dhash FROM images")
    return {row["image_id"]: row for row in rows}


def groups_of(
    known: dict[str, dict[str, str]], new: Iterable[tuple[str | None, FoundImage]]
) -> dict[str, str]:
    """Group ids of known and new images together; `new` has a source group, if any, beside each."""
    hashes = {image_id: int(row["dhash"], 16) for image_id, row in known.items()}
    by_source: dict[str, list[str]] = defaultdict(list)
    for image_id, row in known.items():
        by_source["group:" + row["group_id"]].append(image_id)
    for source, item in new:
        hashes[item.image_id] = item.dhash
        if source is not None:
            by_source["source:" + source].append(item.image_id)
    return group_images(hashes, by_source.values())


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
