"""The fields of a COCO file's entries: each is what it must be, or refused with its name."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from reprlib import Repr
from typing import Any

from engine import polygons, rle
from engine.rle import Rle

Id = int | str

_REMEDY = "correct the annotation or delete it"
_MAX_ID_LETTERS = 200
_MAX_PATH_LETTERS = 4096
# Boxes, in 32-bit floats, are exact up to here.
_MAX_SIDE = 2**24
# Controls, ends of lines and halves of surrogate pairs: no store, page or line of text holds them.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_short = Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxdict = 4
_short.maxlevel = 2


class UnusableError(ValueError):
    """A wrong entry: `field` inside it and what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def shown(value: Any) -> str:
    """Any value in a few printable letters."""
    return _short.repr(value)


def identity_in(entry: Mapping[str, Any], field: str) -> Id:
    """A whole number or a text; raises UnusableError for anything else."""
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UnusableError(field, f"must be a whole number or a text, but got {shown(value)}")
    if len(text := str(value)) > _MAX_ID_LETTERS or _UNWRITABLE.search(text):
        raise UnusableError(
            field,
            f"must be at most {_MAX_ID_LETTERS} letters without control characters, "
            f"but got {shown(value)}",
        )
    return value


def name_in(entry: Mapping[str, Any]) -> str:
    """The name of a category; raises UnusableError for none."""
    value = entry.get("name")
    if not isinstance(value, str) or not value.strip() or _UNWRITABLE.search(value):
        raise UnusableError(
            "name", f"must be a name without control characters, but got {shown(value)}"
        )
    return value


def side_in(entry: Mapping[str, Any], field: str) -> int:
    """Height or width in pixels; raises UnusableError for anything else."""
    side = _whole(entry.get(field))
    if side is None or not 1 <= side <= _MAX_SIDE:
        raise UnusableError(
            field,
            f"must be a number of pixels from 1 to {_MAX_SIDE}, but got {shown(entry.get(field))}",
        )
    return side


def file_name_in(entry: Mapping[str, Any]) -> str:
    """A path below the folder of images; raises UnusableError for any other."""
    value = entry.get("file_name")
    if not isinstance(value, str) or not value or not value.isprintable():
        raise UnusableError("file_name", f"must be a file's name, but got {shown(value)}")
    if len(value) > _MAX_PATH_LETTERS:
        raise UnusableError(
            "file_name", f"must be at most {_MAX_PATH_LETTERS} letters, but got {shown(value)}"
        )
    # Both kinds of separators, whatever this machine uses.
    for path in (PurePosixPath(value), PureWindowsPath(value)):
        if path.anchor or ".." in path.parts or not path.name:
            raise UnusableError(
                "file_name", f"must lie inside the folder of images, but got {shown(value)}"
            )
    return value


def group_in(entry: Mapping[str, Any]) -> str | None:
    """What an image was cut from, None where it is not said; raises UnusableError for no name."""
    field = "group" if "group" in entry else "group_id"
    value = entry.get(field)
    if value is None:
        return None
    text = value if isinstance(value, str) else _whole(value)
    if text is None or _UNWRITABLE.search(str(text)):
        raise UnusableError(
            field,
            f"must be a whole number or a text, but got {shown(value)}; "
            "the image is kept without a group",
        )
    return str(text)


def crowd_in(entry: Mapping[str, Any]) -> bool:
    """Whether a mask is of a crowd; raises UnusableError for neither yes nor no."""
    value = entry.get("iscrowd", 0)
    if value not in (0, 1):
        raise UnusableError("iscrowd", f"must be 0 or 1, but got {shown(value)}")
    return bool(value)


def mask_in(entry: Mapping[str, Any], hw: tuple[int, int]) -> Rle:
    """A mask with at least one pixel in an image of size `hw`; raises UnusableError for none."""
    try:
        mask = _segmentation(entry.get("segmentation"), hw)
        if rle.area(mask) == 0:
            raise ValueError("must have at least one pixel inside the image, but got none")
    except UnusableError:
        raise
    except ValueError as error:
        raise UnusableError("segmentation", f"{error}; {_REMEDY}") from error
    return mask


def _whole(value: Any) -> int | None:
    # Some tools write 512.0.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _segmentation(value: Any, hw: tuple[int, int]) -> Rle:
    if isinstance(value, list):
        return _polygons(value, hw)
    if not isinstance(value, dict):
        raise ValueError(f"must be polygons or a run-length code, but got {shown(value)}")
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or [_whole(side) for side in size] != list(hw):
        raise UnusableError(
            "segmentation",
            f"size: must be the image's {list(hw)}, but got {shown(size)}; draw the mask at that "
            "size, or correct height and width of the image",
        )
    if isinstance(counts, list):
        return rle.from_uncompressed(counts, hw)
    if not isinstance(counts, str):
        raise ValueError(f"counts: must be a list or a text, but got {shown(counts)}")
    mask = Rle(hw, counts)
    rle.validate(mask)
    return mask


def _polygons(value: list[Any], hw: tuple[int, int]) -> Rle:
    for polygon in value:
        if not isinstance(polygon, list):
            raise ValueError(f"must be a list of polygons, each a list, but got {shown(value)}")
        if not all(type(number) in (int, float) for number in polygon):
            raise ValueError(f"polygon: must be a list of numbers, but got {shown(polygon)}")
    try:
        return polygons.draw(value, hw)
    except OverflowError as error:
        raise ValueError("polygon: must be coordinates of the image, but got a huge one") from error
