"""The labelled images of one snapshot, as engine's `LabelledImages`: what training and gold see."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import compress, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

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

_LABELLED = """
    SELECT i.image_id, i.uri, m.mask_id, m.stage, m.generation_depth AS depth,
           m.segmentation.size AS size, m.segmentation.counts AS counts, m.is_crowd
    FROM images i JOIN current_masks m USING (image_id)
    WHERE {split} AND m.stage IN ({stages})
    ORDER BY i.image_id, m.mask_id
"""
# Their labels came whole, and there were none.
_NOTHING_THERE = """
    SELECT image_id, uri FROM images
    WHERE split = 'gold' AND num_labels_refused = 0
      AND image_id NOT IN (SELECT image_id FROM masks WHERE stage <> 'auto')
    ORDER BY image_id
"""
_REFUSED = "SELECT image_id FROM images WHERE num_labels_refused > 0"
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


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image of the store and its masks, from none on.

    `mask_ids` name the masks in the store, `depths` are their generation depths: how many models
    are behind each. `crowds` are regions of many objects, which have no mask each. On an image that
    is not `complete` what no mask covers is not known to be background.
    """

    image_id: str
    uri: str
    masks: tuple[Rle, ...] = ()
    mask_ids: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()
    crowds: tuple[Rle, ...] = ()
    complete: bool = True

    def up_to(self, max_depth: int) -> "StoredImage":
        """Without masks behind which there are more than `max_depth` models."""
        kept = [depth <= max_depth for depth in self.depths]
        return replace(
            self,
            masks=tuple(compress(self.masks, kept)),
            mask_ids=tuple(compress(self.mask_ids, kept)),
            depths=tuple(compress(self.depths, kept)),
            complete=self.complete and all(kept),
        )


@dataclass(frozen=True)
class StoredLabels:
    """Images with their masks, read from disk when asked for."""

    reader: ImageReader
    images: tuple[StoredImage, ...]

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> LabelledImage:
        """Image `index` with its masks."""
        image = self.images[index]
        return LabelledImage(
            image=self.reader.pixels(image.uri, image.image_id),
            masks=list(image.masks),
            complete=image.complete,
            crowds=image.crowds,
        )

    def fetched_ahead(self) -> AbstractContextManager[None]:
        """While in there, images that lie elsewhere come before they are asked for."""
        return fetched_ahead(self.reader, ((image.uri, image.image_id) for image in self.images))

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Of each image."""
        return tuple(image.image_id for image in self.images)

    @property
    def depths(self) -> tuple[tuple[int, ...], ...]:
        """Of each image's masks."""
        return tuple(image.depths for image in self.images)

    @property
    def num_masks(self) -> int:
        """Masks over all images."""
        return sum(len(image.masks) for image in self.images)

    def fingerprint(self) -> str:
        """16 hex digits that name exactly these images, masks, depths, and what is complete."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{image.image_id};{not image.complete};".encode())
            for mask, depth in zip(image.masks, image.depths, strict=True):
                digest.update(f"{mask.counts};{depth};".encode())
            for crowd in image.crowds:
                digest.update(f"crowd {crowd.counts};".encode())
        return digest.hexdigest()[:16]


def training_labels(
    workspace: Workspace,
    snapshot: int,
    *,
    stages: Sequence[str] = ("label", "manual", "semi"),
    max_depth: int | None = None,
) -> StoredLabels:
    """People's masks on images that are not gold, as of `snapshot`.

    Labels came whole, in a file, unless some of an image's were refused. A person's time may end
    before the objects do, so an image they worked on is complete when the last of them said so, and
    no longer when masks of it are revoked. Where a region is a crowd, its objects have no masks, so
    such an image never is. Masks of a generation depth over `max_depth` are left out, and their
    images are incomplete.
    """
    said, revoked, refused = (
        _images(workspace, sql, snapshot) for sql in (_SAID_COMPLETE, _REVOKED, _REFUSED)
    )
    lacking = revoked | refused
    found = []
    for image in _select(workspace, "i.split <> 'gold'", stages, snapshot):
        came_whole = image.complete and image.image_id not in lacking
        is_complete = (came_whole or image.image_id in said) and not image.crowds
        found.append(replace(image, complete=is_complete))
    if max_depth is not None:
        found = [image.up_to(max_depth) for image in found]
    return StoredLabels(workspace.reader, tuple(image for image in found if image.masks))


def _images(workspace: Workspace, sql: str, snapshot: int) -> set[str]:
    return {row["image_id"] for row in workspace.lake.rows(sql, snapshot=snapshot)}


def gold_labels(workspace: Workspace, snapshot: int | None = None) -> StoredLabels:
    """The gold set: masks made without any model's help, for measuring only.

    Images on which nothing is belong to it, at most as many as the others: of some hundred images
    that are measured, half should say something about clicks.
    """
    labels = _select(workspace, "i.split = 'gold'", ("label",), snapshot)
    nothing = workspace.lake.rows(_NOTHING_THERE, snapshot=snapshot)[: len(labels)]
    return StoredLabels(workspace.reader, (*labels, *(StoredImage(**row) for row in nothing)))


def _select(
    workspace: Workspace, split: str, stages: Sequence[str], snapshot: int | None
) -> list[StoredImage]:
    names = ", ".join(f"'{stage}'" for stage in stages)
    rows = workspace.lake.rows(_LABELLED.format(split=split, stages=names), snapshot=snapshot)
    return [_of_rows(list(of_image)) for _, of_image in groupby(rows, key=itemgetter("image_id"))]


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> StoredImage:
    """One image, a row for each of its masks."""
    objects = [row for row in rows if not row["is_crowd"]]
    return StoredImage(
        image_id=rows[0]["image_id"],
        uri=rows[0]["uri"],
        masks=tuple(_rle(row) for row in objects),
        mask_ids=tuple(row["mask_id"] for row in objects),
        depths=tuple(row["depth"] for row in objects),
        crowds=tuple(_rle(row) for row in rows if row["is_crowd"]),
        complete=all(row["stage"] == "label" for row in rows),
    )


def _rle(row: Mapping[str, Any]) -> Rle:
    height, width = row["size"]
    return Rle((height, width), row["counts"])


@dataclass(frozen=True)
class TruthFile:
    """A COCO file beside its images, outside the store: for `evaluate --truth`."""

    paths: tuple[Path, ...]
    masks: tuple[tuple[Rle, ...], ...]
    crowds: tuple[tuple[Rle, ...], ...]
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
        for mask in (*self.masks[index], *self.crowds[index]):
            if mask.size != hw:
                raise UsageError(
                    f"{path}: {hw[0]} x {hw[1]} pixels, but the masks of --truth are {mask.size}; "
                    "name the file of these images"
                )
        return LabelledImage(image=pixels, masks=list(self.masks[index]), crowds=self.crowds[index])

    @property
    def num_masks(self) -> int:
        """Masks over all images."""
        return sum(map(len, self.masks))


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
    """The images of `dataset`; those without a mask show what is found where nothing is."""
    masks: dict[int | str, list[Rle]] = defaultdict(list)
    crowds: dict[int | str, list[Rle]] = defaultdict(list)
    for mask in dataset.masks:
        (crowds if mask.is_crowd else masks)[mask.image_id].append(mask.rle)
    return TruthFile(
        paths=tuple(folder / image.file_name for image in dataset.images),
        masks=tuple(tuple(masks[image.id]) for image in dataset.images),
        crowds=tuple(tuple(crowds[image.id]) for image in dataset.images),
        limits=limits,
    )
