"""COCO files in and out: what can be used is kept, and each thing that cannot is named.

Files come from many tools and some of them are wrong, so `read` trusts nothing: a wrong entry
becomes a `CocoProblem` and the rest is read. An annotation counts as a whole: one wrong polygon
leaves the mask out. Format: https://cocodataset.org/#format-data
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import Repr
from typing import Any

from engine import rle
from engine.geometry import box_xyxy_to_xywh
from engine.rle import Rle

MAX_BYTES = 4 * 2**30
MAX_IMAGE_PIXELS = 2**30
_EXPECTED = "expected a COCO file: an object with the lists images and annotations"
_REMEDY = "correct the annotation or delete it"
_short = Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxdict = 4
_short.maxlevel = 2

Id = int | str


class CocoError(ValueError):
    """A file that cannot be used at all; one line for the user."""


@dataclass(frozen=True)
class CocoProblem:
    """What was left out, and why: `where` as in `annotations[3].segmentation`."""

    where: str
    message: str


@dataclass(frozen=True, kw_only=True)
class CocoImage:
    """An image entry; `group` names what it was cut from, when the file says so."""

    id: Id
    file_name: str
    height: int
    width: int
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class CocoMask:
    """An annotation with its mask; `category` is a name, None where the file gives none."""

    id: Id
    image_id: Id
    category: str | None
    rle: Rle
    is_crowd: bool


@dataclass(frozen=True, kw_only=True)
class CocoDataset:
    """The usable part of a file, and the problems of the rest."""

    images: list[CocoImage]
    masks: list[CocoMask]
    categories: dict[Id, str]
    problems: list[CocoProblem]


class _UnusableError(ValueError):
    """A wrong entry: `field` inside it and what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def read(path: Path) -> CocoDataset:
    """The usable part of a file; raises CocoError for a file that is none."""
    document = _load(path)
    reader = _Reader()
    for number, entry in enumerate(_list(path, document, "categories", required=False)):
        reader.try_entry(f"categories[{number}]", reader.add_category, entry)
    reader.names_categories = "categories" in document
    for number, entry in enumerate(_list(path, document, "images")):
        reader.try_entry(f"images[{number}]", reader.add_image, entry)
    for number, entry in enumerate(_list(path, document, "annotations")):
        reader.try_entry(f"annotations[{number}]", reader.add_mask, entry)
    return CocoDataset(
        images=list(reader.images.values()),
        masks=reader.masks,
        categories=reader.categories,
        problems=reader.problems,
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise CocoError(f"{path}: {size} bytes, over the limit of {MAX_BYTES}; split the file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CocoError(f"{path}: no such file; name a COCO annotation file") from error
    except OSError as error:
        raise CocoError(f"{path}: {error.strerror}; name a COCO annotation file") from error
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        raise CocoError(
            f"{path}: line {error.lineno}: not JSON ({error.msg}); {_EXPECTED}"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise CocoError(f"{path}: not JSON ({reason}); {_EXPECTED}") from error
    if isinstance(document, list):
        raise CocoError(f"{path}: a list, such as a file of results; {_EXPECTED}")
    if not isinstance(document, dict):
        raise CocoError(f"{path}: JSON, but {_shown(document)}; {_EXPECTED}")
    return document


def _list(path: Path, document: dict[str, Any], key: str, *, required: bool = True) -> list[Any]:
    if key not in document:
        if required:
            raise CocoError(f"{path}: {key}: missing; {_EXPECTED}")
        return []
    value = document[key]
    if not isinstance(value, list):
        raise CocoError(f"{path}: {key}: must be a list, but got {_shown(value)}; {_EXPECTED}")
    return value


class _Reader:
    """Collects the entries of one file."""

    def __init__(self) -> None:
        self.images: dict[Id, CocoImage] = {}
        self.masks: list[CocoMask] = []
        self.categories: dict[Id, str] = {}
        self.problems: list[CocoProblem] = []
        self.names_categories = False
        self._refused_images: set[Id] = set()
        self._mask_ids: set[Id] = set()

    def try_entry(self, where: str, add: Any, entry: Any) -> None:
        """Add one entry; what makes it unusable becomes a problem."""
        try:
            if not isinstance(entry, dict):
                raise _UnusableError("", f"must be an object, but got {_shown(entry)}")
            add(where, entry)
        except _UnusableError as error:
            field = f".{error.field}" if error.field else ""
            self.problems.append(CocoProblem(where + field, str(error)))

    def add_category(self, _: str, entry: dict[str, Any]) -> None:
        """One of `categories`."""
        identity = _id(entry, "id")
        if identity in self.categories:
            raise _UnusableError("id", f"must be unique, but {_shown(identity)} is there twice")
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise _UnusableError("name", f"must be a name, but got {_shown(name)}")
        self.categories[identity] = name

    def add_image(self, _: str, entry: dict[str, Any]) -> None:
        """One of `images`; the masks of one that is refused go with it, without a word each."""
        identity = _id(entry, "id")
        if identity in self.images:
            raise _UnusableError(
                "id", f"must be unique, but {_shown(identity)} is there twice; the first is kept"
            )
        self._refused_images.add(identity)
        height, width = _side(entry, "height"), _side(entry, "width")
        if height * width > MAX_IMAGE_PIXELS:
            raise _UnusableError(
                "height", f"must be under 2^30 pixels with width, but got {height} x {width}"
            )
        file_name = _file_name(entry.get("file_name"))
        self._refused_images.discard(identity)
        self.images[identity] = CocoImage(
            id=identity, file_name=file_name, height=height, width=width, group=_group(entry)
        )

    def add_mask(self, where: str, entry: dict[str, Any]) -> None:
        """One of `annotations`."""
        image_id = _id(entry, "image_id")
        if image_id in self._refused_images:
            return
        identity = _id(entry, "id")
        if identity in self._mask_ids:
            raise _UnusableError(
                "id", f"must be unique, but {_shown(identity)} is there twice; the first is kept"
            )
        if (image := self.images.get(image_id)) is None:
            raise _UnusableError(
                "image_id", f"must be the id of an image, but got {_shown(image_id)}"
            )
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise _UnusableError("iscrowd", f"must be 0 or 1, but got {_shown(crowd)}")
        mask = _mask(entry.get("segmentation"), (image.height, image.width))
        self._mask_ids.add(identity)
        self.masks.append(
            CocoMask(
                id=identity,
                image_id=image_id,
                category=self._category(where, entry.get("category_id")),
                rle=mask,
                is_crowd=bool(crowd),
            )
        )

    def _category(self, where: str, identity: Any) -> str | None:
        if identity is None or not self.names_categories:
            return None
        if isinstance(identity, (int, str)) and identity in self.categories:
            return self.categories[identity]
        self.problems.append(
            CocoProblem(
                f"{where}.category_id",
                f"must be the id of a category, but got {_shown(identity)}; "
                "the mask is kept without a category",
            )
        )
        return None


def _id(entry: Mapping[str, Any], field: str) -> Id:
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _UnusableError(field, f"must be a whole number or a text, but got {_shown(value)}")
    return value


def _side(entry: Mapping[str, Any], field: str) -> int:
    value = entry.get(field)
    # Some tools write 512.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 1:
        raise _UnusableError(field, f"must be a number of pixels from 1, but got {_shown(value)}")
    return value


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _UnusableError("file_name", f"must be a file's name, but got {_shown(value)}")
    # Both kinds of separators, whatever this machine uses.
    for path in (PurePosixPath(value), PureWindowsPath(value)):
        if path.anchor or ".." in path.parts or not path.name:
            raise _UnusableError(
                "file_name", f"must lie inside the folder of images, but got {_shown(value)}"
            )
    return value


def _group(entry: Mapping[str, Any]) -> str | None:
    value = entry.get("group", entry.get("group_id"))
    if value is None or isinstance(value, (dict, list)):
        return None
    return str(value)


def _mask(segmentation: Any, hw: tuple[int, int]) -> Rle:
    try:
        mask = _segmentation(segmentation, hw)
        if rle.area(mask) == 0:
            raise ValueError("must have at least one pixel inside the image, but got none")
    except _UnusableError:
        raise
    except ValueError as error:
        raise _UnusableError("segmentation", f"{error}; {_REMEDY}") from error
    return mask


def _segmentation(value: Any, hw: tuple[int, int]) -> Rle:
    if isinstance(value, list):
        return _polygons(value, hw)
    if not isinstance(value, dict):
        raise ValueError(f"must be polygons or a run-length code, but got {_shown(value)}")
    size, counts = value.get("size"), value.get("counts")
    if size != list(hw):
        raise _UnusableError(
            "segmentation",
            f"size: must be the image's {list(hw)}, but got {_shown(size)}; draw the mask at that "
            "size, or correct height and width of the image",
        )
    if isinstance(counts, list):
        return rle.from_uncompressed(counts, hw)
    if not isinstance(counts, str):
        raise ValueError(f"counts: must be a list or a text, but got {_shown(counts)}")
    mask = Rle(hw, counts)
    rle.validate(mask)
    return mask


def _polygons(value: list[Any], hw: tuple[int, int]) -> Rle:
    for polygon in value:
        if not isinstance(polygon, list):
            raise ValueError(f"must be a list of polygons, each a list, but got {_shown(value)}")
        if not all(type(number) in (int, float) for number in polygon):
            raise ValueError(f"polygon: must be a list of numbers, but got {_shown(polygon)}")
    try:
        return rle.from_polygons(value, hw)
    except OverflowError as error:
        raise ValueError("polygon: must be coordinates of the image, but got a huge one") from error


def _shown(value: Any) -> str:
    return _short.repr(value)


def document(
    images: Sequence[CocoImage],
    masks: Sequence[CocoMask],
    categories: Mapping[int, str],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    """A COCO file as JSON values, masks as compressed RLE, one annotation per mask in their order.

    Raises ValueError for a mask whose category is not among `categories`: readers need one.
    """
    numbers = {name: number for number, name in categories.items()}
    for mask in masks:
        if mask.category not in numbers:
            raise ValueError(
                f"category: must be one of {sorted(numbers)}, "
                f"but mask {mask.id} has {mask.category!r}"
            )
    return {
        "info": dict(info),
        "images": [
            {
                "id": image.id,
                "file_name": image.file_name,
                "height": image.height,
                "width": image.width,
            }
            | ({} if image.group is None else {"group": image.group})
            for image in images
        ],
        "annotations": [_annotation(mask, numbers[mask.category or ""]) for mask in masks],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }


def _annotation(mask: CocoMask, category_id: int) -> dict[str, Any]:
    return {
        "id": mask.id,
        "image_id": mask.image_id,
        "category_id": category_id,
        "segmentation": {"size": list(mask.rle.size), "counts": mask.rle.counts},
        "area": rle.area(mask.rle),
        "bbox": [float(value) for value in box_xyxy_to_xywh(rle.box(mask.rle))],
        "iscrowd": int(mask.is_crowd),
    }
