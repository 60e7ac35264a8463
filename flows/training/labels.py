"""The labelled images of one snapshot, as engine's `LabelledImages`: what training and gold see."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TypeVar

from annotator.truth import Truth, TruthError
from engine.coco import CocoDataset
from engine.images import ImageError, ImageLimits, decode
from engine.rle import Rle
from engine.training.samples import LabelledImage
from flows.errors import UsageError
from flows.images.fetching import fetched_ahead
from flows.images.sources import ImageReader
from flows.merging.merge_rows import BRING_MASKS
from flows.workspace import Workspace

_Each = TypeVar("_Each")
_LABELLED = """
    SELECT i.image_id, i.uri, m.mask_id, m.stage, m.generation_depth AS depth,
           m.segmentation.size AS size, m.segmentation.counts AS counts
    FROM images i JOIN current_masks m USING (image_id)
    WHERE {split} AND m.stage IN ({stages}) AND NOT m.is_crowd
    ORDER BY i.image_id, m.mask_id
"""
# What was said before a mask of the image was revoked is true no more.
_REVOKED = """
    SELECT m.image_id, max(r.created_at) AS revoked_at
    FROM retractions r JOIN masks m USING (mask_id)
    WHERE r.cause IS NOT NULL GROUP BY m.image_id
"""
_SAID_COMPLETE = f"""
    SELECT image_id FROM reviews LEFT JOIN ({_REVOKED}) USING (image_id)
    WHERE coalesce(kind, 'assist') IN {BRING_MASKS}
      AND (revoked_at IS NULL OR submitted_at > revoked_at)
    GROUP BY image_id HAVING arg_max(coalesce(is_complete, false), seq)
"""
_CROWDED = "SELECT DISTINCT image_id FROM current_masks WHERE is_crowd"


@dataclass(frozen=True)
class StoredLabels:
    """Images with their masks, read from disk when asked for.

    `mask_ids` name the masks in the store, and `depths` are their generation depths: how many
    models are behind each.
    `incomplete` holds the images on which not every object may have its mask, so that what no mask
    covers is not known to be background.
    """

    reader: ImageReader
    image_ids: tuple[str, ...]
    uris: tuple[str, ...]
    masks: tuple[tuple[Rle, ...], ...]
    mask_ids: tuple[tuple[str, ...], ...]
    depths: tuple[tuple[int, ...], ...]
    incomplete: frozenset[str]

    def __len__(self) -> int:
        return len(self.image_ids)

    def load(self, index: int) -> LabelledImage:
        """Image `index` with its masks."""
        image_id = self.image_ids[index]
        pixels = self.reader.pixels(self.uris[index], image_id)
        complete = image_id not in self.incomplete
        return LabelledImage(image=pixels, masks=list(self.masks[index]), complete=complete)

    def fetched_ahead(self) -> AbstractContextManager[None]:
        """While in there, images that lie elsewhere come before they are asked for."""
        return fetched_ahead(self.reader, zip(self.uris, self.image_ids, strict=True))

    def only(self, kept: Sequence[bool]) -> "StoredLabels":
        """Those of the images for which `kept` is true."""
        return replace(
            self,
            image_ids=tuple(compress(self.image_ids, kept)),
            uris=tuple(compress(self.uris, kept)),
            masks=tuple(compress(self.masks, kept)),
            mask_ids=tuple(compress(self.mask_ids, kept)),
            depths=tuple(compress(self.depths, kept)),
        )

    @property
    def num_masks(self) -> int:
        """Masks over all images."""
        return sum(map(len, self.masks))

    def fingerprint(self) -> str:
        """16 hex digits that name exactly these images, masks, depths, and what is complete."""
        digest = hashlib.sha256()
        for image_id, masks, depths in zip(self.image_ids, self.masks, self.depths, strict=True):
            digest.update(f"{image_id};{image_id in self.incomplete};".encode())
            for mask, depth in zip(masks, depths, strict=True):
                digest.update(f"{mask.counts};{depth};".encode())
        return digest.hexdigest()[:16]


def training_labels(
    workspace: Workspace,
    snapshot: int,
    *,
    stages: Sequence[str] = ("label", "manual", "semi"),
    max_depth: int | None = None,
) -> StoredLabels:
    """People's masks on images that are not gold, as of `snapshot`.

    Labels came whole, in a file. A person's time may end before the objects do, so an image they
    worked on is complete when the last of them said so, and no longer when masks of it are revoked.
    Where a region is a crowd, its objects have no masks, so such an image never is. Masks of a
    generation depth over `max_depth` are left out, and their images are incomplete.
    """
    labels = _select(workspace, "i.split <> 'gold'", stages, snapshot)
    said = _images(workspace, _SAID_COMPLETE, snapshot)
    revoked = _images(workspace, _REVOKED, snapshot)
    crowded = _images(workspace, _CROWDED, snapshot)
    labels = replace(labels, incomplete=((labels.incomplete | revoked) - said) | crowded)
    return labels if max_depth is None else _capped(labels, max_depth)


def _images(workspace: Workspace, sql: str, snapshot: int) -> set[str]:
    return {row["image_id"] for row in workspace.lake.rows(sql, snapshot=snapshot)}


def _capped(labels: StoredLabels, max_depth: int) -> StoredLabels:
    """Without masks behind which there are more than `max_depth` models, or images without one."""
    kept = [[depth <= max_depth for depth in depths] for depths in labels.depths]
    cut = {name for name, keep in zip(labels.image_ids, kept, strict=True) if not all(keep)}
    capped = replace(
        labels,
        masks=_kept(labels.masks, kept),
        mask_ids=_kept(labels.mask_ids, kept),
        depths=_kept(labels.depths, kept),
        incomplete=labels.incomplete | cut,
    )
    return capped.only([any(keep) for keep in kept])


def _kept(
    values: Sequence[Sequence[_Each]], kept: Sequence[Sequence[bool]]
) -> tuple[tuple[_Each, ...], ...]:
    return tuple(tuple(compress(each, keep)) for each, keep in zip(values, kept, strict=True))


def gold_labels(workspace: Workspace, snapshot: int | None = None) -> StoredLabels:
    """The gold set: masks made without any model's help, for measuring only."""
    return _select(workspace, "i.split = 'gold'", ("label",), snapshot)


def _select(
    workspace: Workspace, split: str, stages: Sequence[str], snapshot: int | None
) -> StoredLabels:
    names = ", ".join(f"'{stage}'" for stage in stages)
    rows = workspace.lake.rows(_LABELLED.format(split=split, stages=names), snapshot=snapshot)
    masks: dict[tuple[str, str], list[Rle]] = defaultdict(list)
    mask_ids: dict[tuple[str, str], list[str]] = defaultdict(list)
    depths: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        height, width = row["size"]
        key = (row["image_id"], row["uri"])
        masks[key].append(Rle((height, width), row["counts"]))
        mask_ids[key].append(row["mask_id"])
        depths[key].append(row["depth"])
    return StoredLabels(
        reader=workspace.reader,
        image_ids=tuple(key[0] for key in masks),
        uris=tuple(key[1] for key in masks),
        masks=tuple(tuple(value) for value in masks.values()),
        mask_ids=tuple(tuple(value) for value in mask_ids.values()),
        depths=tuple(tuple(value) for value in depths.values()),
        incomplete=frozenset(row["image_id"] for row in rows if row["stage"] != "label"),
    )


@dataclass(frozen=True)
class TruthFile:
    """A COCO file beside its images, outside the store: for `evaluate --truth`."""

    paths: tuple[Path, ...]
    masks: tuple[tuple[Rle, ...], ...]
    limits: ImageLimits

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> LabelledImage:
        """Image `index` with its masks; raises UsageError when it cannot be read."""
        path = self.paths[index]
        try:
            pixels = decode(path.read_bytes(), self.limits).pixels
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; --images names another folder?") from error
        except ImageError as error:
            raise UsageError(f"{path}: {error}") from error
        hw = (pixels.shape[0], pixels.shape[1])
        if self.masks[index][0].size != hw:
            raise UsageError(
                f"{path}: {hw[0]} x {hw[1]} pixels, but the masks of --truth are "
                f"{self.masks[index][0].size}; name the file of these images"
            )
        return LabelledImage(image=pixels, masks=list(self.masks[index]))


def check_truth(workspace: Workspace, path: Path) -> None:
    """Raise UsageError unless `path` is a COCO file that knows every image people may be shown."""
    try:
        truth = Truth.read(path)
    except TruthError as error:
        raise UsageError(f"--truth: {error}") from error
    rows = workspace.lake.rows(
        "SELECT file_name, height, width FROM images WHERE split IN ('unlabelled', 'gold') "
        "ORDER BY file_name"
    )
    unknown = [row["file_name"] for row in rows if row["file_name"] not in truth.masks]
    if unknown:
        raise UsageError(
            f"--truth: {path}: must know the images of this workspace, but not {unknown[0]!r} "
            f"({len(unknown)} of {len(rows)} unlabelled and gold images); name the file of these "
            "images"
        )
    for row in rows:
        hw = (row["height"], row["width"])
        for mask in truth.masks[row["file_name"]]:
            if mask.size != hw:
                raise UsageError(
                    f"--truth: {path}: {row['file_name']!r}: must have masks of {hw}, like the "
                    f"image, but got {mask.size}; name the file of these images"
                )


def truth_file(dataset: CocoDataset, folder: Path, limits: ImageLimits) -> TruthFile:
    """The images of `dataset` that have masks, without crowd regions."""
    masks: dict[int | str, list[Rle]] = defaultdict(list)
    for mask in dataset.masks:
        if not mask.is_crowd:
            masks[mask.image_id].append(mask.rle)
    chosen = [image for image in dataset.images if masks[image.id]]
    return TruthFile(
        paths=tuple(folder / image.file_name for image in chosen),
        masks=tuple(tuple(masks[image.id]) for image in chosen),
        limits=limits,
    )
