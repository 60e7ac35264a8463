"""Masks of files on disk: SA-1B's file for each image, one COCO file, or one Parquet table."""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import coco
from engine.coco import CocoImage, CocoMask
from engine.rle import Rle
from flows.errors import UsageError
from storage.durable import write_durably
from storage.mask_files import FileMaskRow, read_mask_file, write_mask_file

# File systems take 255 bytes; a file that is being written has a longer name than it will have.
_LONGEST_NAME = 180
FORMATS = ("parquet", "coco", "sa1b")
_BY_SUFFIX = {".parquet": "parquet", ".json": "coco", "": "sa1b"}
_IMAGE = ("file_name", "image_id", "height", "width")
# Of an annotation, beside what COCO has.
_OURS = ("predicted_iou", "stability_score", "crop_box", "point_coords", "part_of", "level")
_ANNOTATION = ("segmentation", "bbox", "area", *_OURS)


@dataclass(frozen=True)
class Masks:
    """Those of one image: its file_name, image_id, height and width, and its annotations.

    They have SA-1B's keys, and `part_of`, which counts the image's annotations from 1, and `level`.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]


def format_of(out: Path, wanted: str | None) -> str:
    """The format that is wanted, or that the name of `out` asks for; raises UsageError."""
    if wanted is not None and wanted not in FORMATS:
        raise UsageError(f"--format: must be one of {', '.join(FORMATS)}, but got {wanted!r}")
    if wanted is None and not out.is_dir() and out.suffix not in _BY_SUFFIX:
        raise UsageError(
            f"--out: must be a folder, or end in .json or .parquet, but got {out}; or say --format"
        )
    kind = wanted or ("sa1b" if out.is_dir() else _BY_SUFFIX[out.suffix])
    if kind == "sa1b" and out.is_file():
        raise UsageError(f"--out: sa1b writes a folder, but {out} is a file")
    if kind != "sa1b" and out.is_dir():
        raise UsageError(f"--out: {kind} writes a file, but {out} is a folder")
    return kind


# The names of an image's key, of the same in its masks, and of their order.
_JOINED_BY = {
    "coco": ("id", "image_id", "id"),
    "parquet": ("file_name", "file_name", "number"),
}


class MaskFolder:
    """Where masks are kept while they are made, and from which `out` is put together.

    names: of all images that are to get masks; masks of others stay in `out`. made_by: what decides
    about masks; what something else made does not count. With `redo` nothing that is there of these
    images counts. Raises UsageError where `out` is a file that no such command made, and where it
    holds masks of other images that something else made: it can hold one kind only.
    """

    def __init__(
        self,
        out: Path,
        kind: str,
        names: Collection[str],
        made_by: dict[str, str],
        *,
        redo: bool,
    ) -> None:
        self._out, self._kind, self._made_by = out, kind, made_by
        # SA-1B's files are the output; for the others they are there until it is whole.
        self._folder = out if kind == "sa1b" else out.with_name(f"{out.name}.parts")
        earlier = {each.image["file_name"]: each for each in self._read_out(names)}
        self._others = [each for name, each in earlier.items() if name not in names]
        self._earlier = {} if redo else earlier
        if redo and kind != "sa1b":
            shutil.rmtree(self._folder, ignore_errors=True)
        self._trusts_files = not redo
        self._fresh: set[str] = set()

    def masks_of(self, name: str) -> Masks | None:
        """What is there of the image `name`."""
        if name in self._fresh or self._trusts_files:
            found = self._read_file(self._file(name))
            if found is not None and found.image["file_name"] == name:
                return found
        return self._earlier.get(name)

    @property
    def said_of_others(self) -> str:
        """Ends a line on what was made: whose masks stay in `out` beside those of this run."""
        return f"; masks of other images stay there: {len(self._others)}" if self._others else ""

    def keep(self, masks: Masks) -> None:
        """Write the masks of one image, whole or not at all."""
        name = masks.image["file_name"]
        document = {
            "image": masks.image,
            "annotations": [
                {"id": number, **annotation}
                for number, annotation in enumerate(masks.annotations, start=1)
            ],
            "made_by": self._made_by,
        }
        write_durably(self._file(name), json.dumps(document).encode())
        self._fresh.add(name)

    def finish(self, names: Sequence[str]) -> None:
        """Write `out` of the masks of these images, each of which has them, and of the others."""
        if self._kind == "sa1b":
            return
        masks = [found for name in names if (found := self.masks_of(name)) is not None]
        masks += self._others
        if self._kind == "coco":
            write_durably(self._out, json.dumps(_coco(masks, self._made_by)).encode())
        else:
            note = {"made_by": self._made_by, "images": [each.image for each in masks]}
            write_mask_file(self._out, [row for each in masks for row in _rows(each)], note)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, name: str) -> Path:
        path = self._folder / name
        if len(path.name.encode()) > _LONGEST_NAME:
            path = path.with_name(hashlib.sha256(path.name.encode()).hexdigest())
        # With the suffix: a.jpg and a.png may lie side by side.
        return path.with_name(f"{path.name}.json")

    def _read_file(self, path: Path) -> Masks | None:
        try:
            document = json.loads(path.read_bytes())
            if document["made_by"] == self._made_by:
                return Masks(document["image"], document["annotations"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _read_out(self, names: Collection[str]) -> Iterable[Masks]:
        """What an earlier run put together by the same model and config.

        Raises UsageError for a file that holds something else than masks of `names`: it would be
        lost.
        """
        if self._kind == "sa1b" or not self._out.exists():
            return []
        if not self._out.is_file():
            raise UsageError(f"--out: must be a file, but {self._out} is none; name another")
        made_by, pictures, rows = self._parts_of_out()
        if not isinstance(made_by, dict) or made_by.keys() != self._made_by.keys():
            raise UsageError(
                f"--out: {self._out} is there already, and not made by this command; name another "
                "file, or remove it"
            )
        try:
            found = _grouped(pictures, rows, *_JOINED_BY[self._kind])
        except (ValueError, KeyError, TypeError):
            return []
        if made_by == self._made_by:
            return found
        if lost := {each.image["file_name"] for each in found} - set(names):
            raise UsageError(
                f"--out: {self._out} has masks of {len(lost)} other images, such as "
                f"{min(lost)!r}, made by other weights or options; name another file, or remove it"
            )
        return []

    def _parts_of_out(self) -> tuple[Any, Any, Any]:
        """What made the file, its images and its masks; nothing of a file of another kind."""
        try:
            if self._kind == "parquet":
                rows, note = read_mask_file(self._out) or ([], {})
                return note["made_by"], note["images"], rows
            document = json.loads(self._out.read_bytes())
            return document["info"]["made_by"], document["images"], document["annotations"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, [], []


def _grouped(
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    key: str,
    of: str,
    number: str,
) -> list[Masks]:
    """Annotations by their images: `key` of an image is `of` of its annotations.

    `number` is what their `part_of` counts.
    """
    found: dict[Any, list[dict[str, Any]]] = {image[key]: [] for image in images}
    for annotation in annotations:
        own, record = found[annotation[of]], _only(_ANNOTATION, annotation)
        if record["part_of"] is not None:
            record["part_of"] -= annotation[number] - (len(own) + 1)
        own.append(record)
    return [Masks(_only(_IMAGE, image), found[image[key]]) for image in images]


def _only(names: Sequence[str], record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in names}


def _rows(masks: Masks) -> list[FileMaskRow]:
    return [
        FileMaskRow(**masks.image, **_only(_ANNOTATION, annotation), number=number)
        for number, annotation in enumerate(masks.annotations, start=1)
    ]


def _coco(masks: Sequence[Masks], made_by: dict[str, str]) -> dict[str, Any]:
    numbered = list(enumerate(masks, start=1))
    annotations = [(number, each) for number, found in numbered for each in found.annotations]
    document = coco.document(
        [
            CocoImage(
                id=number,
                file_name=found.image["file_name"],
                height=found.image["height"],
                width=found.image["width"],
            )
            for number, found in numbered
        ],
        [
            CocoMask(
                id=number,
                image_id=image,
                category="object",
                rle=Rle(
                    (annotation["segmentation"]["size"][0], annotation["segmentation"]["size"][1]),
                    annotation["segmentation"]["counts"],
                ),
                is_crowd=False,
            )
            for number, (image, annotation) in enumerate(annotations, start=1)
        ],
        {1: "object"},
        {"description": "generated by maskloop", "made_by": made_by},
    )
    for entry, found in zip(document["images"], masks, strict=True):
        entry["image_id"] = found.image["image_id"]
    for entry, (_, annotation) in zip(document["annotations"], annotations, strict=True):
        entry |= _only(_OURS, annotation)
    _count_on(document["annotations"])
    return document


def _count_on(annotations: Sequence[dict[str, Any]]) -> None:
    """Let `part_of` be an id of the document, and no number within its image."""
    first = {entry["image_id"]: entry["id"] for entry in reversed(annotations)}
    for entry in annotations:
        if entry["part_of"] is not None:
            entry["part_of"] += first[entry["image_id"]] - 1
