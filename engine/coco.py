"""COCO files in and out: what can be used is kept, and each thing that cannot is named.

Files come from many tools and some of them are wrong, so `read` trusts nothing: a wrong entry
becomes a `CocoProblem` and the rest is read. An annotation counts as a whole: one wrong polygon
leaves the mask out. Where two entries contradict each other, neither is believed. Format:
https://cocodataset.org/#format-data
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import coco_fields, coco_file, rle
from engine.coco_fields import Id, UnusableError, shown
from engine.coco_file import CocoError as CocoError
from engine.geometry import box_xyxy_to_xywh
from engine.rle import Rle

MAX_IMAGE_PIXELS = 2**30


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
    """The usable part of a file, and the problems of the rest.

    num_refused: image id -> how many of its annotations cannot be used, where there are some.
    """

    images: list[CocoImage]
    masks: list[CocoMask]
    categories: dict[Id, str]
    problems: list[CocoProblem]
    num_refused: Mapping[Id, int] = field(default_factory=dict)


def read(path: Path) -> CocoDataset:
    """The usable part of a file; raises CocoError for a file that is none."""
    document = coco_file.load(path)
    reader = _Reader(names_categories="categories" in document)
    for key, add, required in (
        ("categories", reader.add_category, False),
        ("images", reader.add_image, True),
        ("annotations", reader.add_mask, True),
    ):
        for number, entry in enumerate(coco_file.list_of(path, document, key, required=required)):
            reader.try_entry(f"{key}[{number}]", add, entry)
    return CocoDataset(
        images=list(reader.images.values()),
        masks=reader.masks,
        categories=reader.categories,
        problems=reader.problems,
        num_refused=reader.num_refused,
    )


class _Reader:
    """Collects the entries of one file."""

    def __init__(self, *, names_categories: bool) -> None:
        self.images: dict[Id, CocoImage] = {}
        self.masks: list[CocoMask] = []
        self.categories: dict[Id, str] = {}
        self.problems: list[CocoProblem] = []
        self.num_refused: Counter[Id] = Counter()
        self._names_categories = names_categories
        self._torn_categories: set[Id] = set()
        self._refused_images: set[Id] = set()
        # By the id's text, as which it is stored: 7 and "7" are one there.
        self._image_entries: dict[str, tuple[Any, ...]] = {}
        self._mask_ids: set[str] = set()

    def try_entry(self, where: str, add: Any, entry: Any) -> None:
        """Add one entry; what makes it unusable becomes a problem."""
        try:
            if not isinstance(entry, dict):
                raise UnusableError("", f"must be an object, but got {shown(entry)}")
            add(where, entry)
        except UnusableError as error:
            self._report(where, error)

    def add_category(self, _: str, entry: dict[str, Any]) -> None:
        """One of `categories`."""
        identity = coco_fields.identity_in(entry, "id")
        name = coco_fields.name_in(entry)
        if identity in self._torn_categories or self.categories.get(identity, name) != name:
            self.categories.pop(identity, None)
            self._torn_categories.add(identity)
            raise UnusableError(
                "id",
                f"must be unique, but {shown(identity)} is there twice with different names; its "
                "masks are kept without a category",
            )
        if identity in self.categories:
            raise UnusableError("id", f"must be unique, but {shown(identity)} is there twice")
        self.categories[identity] = name

    def add_image(self, where: str, entry: dict[str, Any]) -> None:
        """One of `images`; the masks of one that is refused go with it, without a word each."""
        identity = coco_fields.identity_in(entry, "id")
        self._check_unique(identity, entry)
        self._refused_images.add(identity)
        height, width = (coco_fields.side_in(entry, side) for side in ("height", "width"))
        if height * width > MAX_IMAGE_PIXELS:
            raise UnusableError(
                "height",
                f"must be under 2^30 pixels with width, but got {height} x {width}",
            )
        file_name = coco_fields.file_name_in(entry)
        self._refused_images.discard(identity)
        self.images[identity] = CocoImage(
            id=identity,
            file_name=file_name,
            height=height,
            width=width,
            group=self._group(where, entry),
        )

    def _check_unique(self, identity: Id, entry: dict[str, Any]) -> None:
        mine = (identity, *(entry.get(key) for key in ("file_name", "height", "width")))
        first = self._image_entries.setdefault(str(identity), mine)
        if first is mine:
            return
        if first == mine:
            raise UnusableError(
                "id", f"must be unique, but {shown(identity)} is there twice; the first is kept"
            )
        self._refused_images |= {identity, first[0]}
        self.images.pop(first[0], None)
        raise UnusableError(
            "id",
            f"must be unique, but {shown(identity)} is there twice for different images, and whose "
            "its masks are is not known; give each image an id of its own",
        )

    def _group(self, where: str, entry: dict[str, Any]) -> str | None:
        try:
            return coco_fields.group_in(entry)
        except UnusableError as error:
            self._report(where, error)
            return None

    def add_mask(self, where: str, entry: dict[str, Any]) -> None:
        """One of `annotations`."""
        image_id = coco_fields.identity_in(entry, "image_id")
        if image_id in self._refused_images:
            return
        if (image := self.images.get(image_id)) is None:
            raise UnusableError(
                "image_id", f"must be the id of an image, but got {shown(image_id)}"
            )
        try:
            self.masks.append(self._mask(where, entry, image))
        except UnusableError:
            self.num_refused[image_id] += 1
            raise

    def _mask(self, where: str, entry: dict[str, Any], image: CocoImage) -> CocoMask:
        identity = coco_fields.identity_in(entry, "id")
        if str(identity) in self._mask_ids:
            raise UnusableError(
                "id", f"must be unique, but {shown(identity)} is there twice; the first is kept"
            )
        is_crowd = coco_fields.crowd_in(entry)
        mask = coco_fields.mask_in(entry, (image.height, image.width))
        self._mask_ids.add(str(identity))
        return CocoMask(
            id=identity,
            image_id=image.id,
            category=self._category(where, entry),
            rle=mask,
            is_crowd=is_crowd,
        )

    def _category(self, where: str, entry: dict[str, Any]) -> str | None:
        identity = entry.get("category_id")
        # COCO's masks need a category; this is how `maskloop export coco` says that one has none.
        has_no_name = entry.get("category_score", 1.0) is None
        if identity is None or has_no_name or not self._names_categories:
            return None
        if type(identity) in (int, str):
            if identity in self.categories:
                return self.categories[identity]
            if identity in self._torn_categories:
                return None
        self.problems.append(
            CocoProblem(
                f"{where}.category_id",
                f"must be the id of a category, but got {shown(identity)}; "
                "the mask is kept without a category",
            )
        )
        return None

    def _report(self, where: str, error: UnusableError) -> None:
        field = f".{error.field}" if error.field else ""
        self.problems.append(CocoProblem(where + field, str(error)))


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
