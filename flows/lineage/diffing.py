"""What changed between two snapshots of the store, mask by mask: `maskloop diff`.

Which images changed is told by a digest of each image's standing masks, one scan over two columns
at either snapshot; only the masks of those images are read, and only those that changed compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, Literal, get_args

from engine.metrics.changes import compare
from flows.errors import UsageError
from flows.suppression import as_rle
from flows.workspace import Workspace

By = Literal["image", "stage", "model"]
Kind = Literal["added", "removed", "changed", "split", "merged"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Images whose masks are read together.
_AT_ONCE = 1000

# Masks are added up without an order; the number tells two that cancel out.
_DIGESTS = """
    SELECT image_id, count(*) AS num_masks, bit_xor(hash(mask_id)) AS digest
    FROM current_masks GROUP BY image_id
"""
_STANDING = """
    SELECT image_id, mask_id, stage, model_version FROM current_masks
    WHERE image_id IN (SELECT unnest(?)) ORDER BY image_id, mask_id
"""
_SHAPES = """
    SELECT mask_id, segmentation FROM masks
    WHERE image_id IN (SELECT unnest(?)) AND mask_id IN (SELECT unnest(?))
"""
_REPLACED = """
    SELECT mask_id, supersedes FROM masks
    WHERE supersedes IS NOT NULL AND image_id IN (SELECT unnest(?))
"""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of a mask, or of several; `iou` is between old and new where one became one.

    `stage` and `model_version` are those of the new mask, or of the old one that is gone.
    """

    kind: Kind
    image_id: str
    stage: str
    model_version: str | None
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    iou: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True)
class Diff:
    """All changes from one snapshot to another, in the order of the images."""

    start: int
    end: int
    changes: tuple[Change, ...]

    def groups(self, by: By) -> list[dict[str, Any]]:
        """One row for each image, stage or model: how many changes of each kind, the mean IoU."""
        found: dict[str, list[Change]] = {}
        for change in self.changes:
            found.setdefault(_key(change, by), []).append(change)
        return [{by: key, **_counted(found[key])} for key in sorted(found)]

    def to_dict(self, by: By) -> dict[str, Any]:
        """For `--json`."""
        return {
            "from": self.start,
            "to": self.end,
            "images": len({change.image_id for change in self.changes}),
            **_counted(self.changes),
            "by": by,
            "groups": self.groups(by),
            "changes": [change.to_dict() for change in self.changes],
        }


def diff(workspace: Workspace, start: int, end: int) -> Diff:
    """What of the standing masks changed from snapshot `start` to snapshot `end`.

    Raises UsageError for a snapshot that there is not.
    """
    latest = workspace.lake.snapshot()
    for number in (start, end):
        if not 1 <= number <= latest:
            raise UsageError(f"diff: a snapshot must be from 1 to {latest}, but got {number}")
    images = _changed_images(workspace, start, end)
    changes: list[Change] = []
    for first in range(0, len(images), _AT_ONCE):
        changes += _changes(workspace, images[first : first + _AT_ONCE], start, end)
    return Diff(start, end, tuple(changes))


def _key(change: Change, by: By) -> str:
    if by == "image":
        return change.image_id
    return change.stage if by == "stage" else change.model_version or ""


def _counted(changes: Sequence[Change]) -> dict[str, Any]:
    counts: dict[str, Any] = {kind: sum(each.kind == kind for each in changes) for kind in KINDS}
    ious = [change.iou for change in changes if change.iou is not None]
    return {**counts, "mean_iou": fmean(ious) if ious else None}


def _changed_images(workspace: Workspace, start: int, end: int) -> list[str]:
    before, after = (
        {
            row["image_id"]: (row["num_masks"], row["digest"])
            for row in workspace.lake.rows(_DIGESTS, snapshot=number)
        }
        for number in (start, end)
    )
    names = before.keys() | after.keys()
    return sorted(name for name in names if before.get(name) != after.get(name))


_Row = Mapping[str, Any]


def _changes(workspace: Workspace, images: Sequence[str], start: int, end: int) -> Iterator[Change]:
    """The changes of some images."""
    before, after = (_standing(workspace, images, number) for number in (start, end))
    gone = {name: row for name, row in before.items() if name not in after}
    come = {name: row for name, row in after.items() if name not in before}
    shapes = {
        row["mask_id"]: as_rle(row["segmentation"])
        for rows, number in ((gone, start), (come, end))
        for row in workspace.lake.rows(_SHAPES, (list(images), list(rows)), snapshot=number)
    }
    rows = workspace.lake.rows(_REPLACED, (list(images),), snapshot=max(start, end))
    replaced = {row["mask_id"]: row["supersedes"] for row in rows}
    old, new = _by_image(gone), _by_image(come)
    for image_id in images:
        yield from _of_image(
            image_id, old.get(image_id, []), new.get(image_id, []), shapes, replaced
        )


def _by_image(rows: Mapping[str, _Row]) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    for row in rows.values():
        found.setdefault(row["image_id"], []).append(row)
    return found


def _standing(workspace: Workspace, images: Sequence[str], snapshot: int) -> dict[str, _Row]:
    rows = workspace.lake.rows(_STANDING, (list(images),), snapshot=snapshot)
    return {row["mask_id"]: row for row in rows}


def _of_image(
    image_id: str,
    old: Sequence[_Row],
    new: Sequence[_Row],
    shapes: Mapping[str, Any],
    replaced: Mapping[str, str],
) -> Iterator[Change]:
    olds, news = ([row["mask_id"] for row in rows] for rows in (old, new))
    found = compare(
        [shapes[name] for name in olds],
        [shapes[name] for name in news],
        _links(olds, news, replaced),
    )

    def change(
        kind: Kind, left: Sequence[int], right: Sequence[int], iou: float | None = None
    ) -> Change:
        row = new[right[0]] if right else old[left[0]]
        return Change(
            kind=kind,
            image_id=image_id,
            stage=row["stage"],
            model_version=row["model_version"],
            old=tuple(olds[index] for index in left),
            new=tuple(news[index] for index in right),
            iou=iou,
        )

    yield from (change("removed", [index], []) for index in found.removed)
    yield from (change("added", [], [index]) for index in found.added)
    yield from (change("changed", [left], [right], iou) for left, right, iou in found.changed)
    yield from (change("split", [left], right) for left, right in found.split)
    yield from (change("merged", left, [right]) for left, right in found.merged)


def _links(
    olds: Sequence[str], news: Sequence[str], replaced: Mapping[str, str]
) -> set[tuple[int, int]]:
    """(old, new) where one replaced the other, over any number of masks between them."""
    places = {name: index for index, name in enumerate(olds)}
    back = {name: index for index, name in enumerate(news)}
    forward = {
        (places[earlier], index)
        for index, name in enumerate(news)
        if (earlier := _first_of(name, places, replaced)) is not None
    }
    # What a revoked mask had replaced stands again.
    restored = {
        (index, back[earlier])
        for index, name in enumerate(olds)
        if (earlier := _first_of(name, back, replaced)) is not None
    }
    return forward | restored


def _first_of(name: str, wanted: Mapping[str, int], replaced: Mapping[str, str]) -> str | None:
    """The nearest mask among `wanted` that `name` has replaced."""
    seen = {name}
    while (earlier := replaced.get(name)) is not None and earlier not in seen:
        if earlier in wanted:
            return earlier
        seen.add(earlier)
        name = earlier
    return None
