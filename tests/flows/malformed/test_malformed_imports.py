"""Annotation files that went through bad hands: an import takes what is right, and names the rest.

What is right is said here once more, slowly: runs are painted, polygons are where a ray crosses
their outline an odd number of times.
"""

import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import coco, rle
from engine.rle import Rle
from flows.errors import UsageError
from flows.intake.coco_import import ImportOptions, import_coco
from flows.intake.rows import IntakeReport
from flows.workspace import Workspace

FEW, MANY = 30, 65
REMEDY = re.compile(r"must|expected|correct|copy|rename|put|make|save|only the first|keep|name a")


def parsed(path: Path) -> dict[str, Any] | None:
    """What a file says, None for no COCO file; what says a thing twice says nothing."""

    def once(pairs: list[tuple[str, Any]]) -> Any:
        return dict(pairs) if len({key for key, _ in pairs}) == len(pairs) else "twice"

    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=once, parse_int=_number)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    lists = [document.get("images"), document.get("annotations"), document.get("categories", [])]
    return document if all(isinstance(entries, list) for entries in lists) else None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 4_000 else math.inf


@dataclass(frozen=True)
class Kept:
    """A mask as an import has it."""

    file_name: str
    annotation_id: str
    category: str | None
    is_crowd: bool
    code: Rle


class Right:
    """What of a file must come in, and what may."""

    def __init__(self, document: dict[str, Any], whole: dict[str, Any]) -> None:
        self.document = document
        same = {json.dumps(entry) for entry in [*whole["images"], *whole["annotations"]]}
        images = [entry for entry in document["images"] if isinstance(entry, dict)]
        named = [str(PurePosixPath(str(entry.get("file_name")))) for entry in images]
        # The same bytes, which are kept once.
        named = ["a.png" if name == "twin.png" else name for name in named]
        ids = [str(entry.get("id")) for entry in images]
        self.images = {
            entry["id"]: entry
            for entry, name, identity in zip(images, named, ids, strict=True)
            if json.dumps(entry) in same and named.count(name) == ids.count(identity) == 1
        }
        self.entries = [entry for entry in document["annotations"] if isinstance(entry, dict)]
        ids = [str(entry.get("id")) for entry in self.entries]
        self.masks = {
            str(entry["id"]): entry
            for entry, identity in zip(self.entries, ids, strict=True)
            if json.dumps(entry) in same
            and ids.count(identity) == 1
            and entry["image_id"] in self.images
        }
        self.same_names = json.dumps(document.get("categories")) == json.dumps(whole["categories"])

    def check(self, kept: Sequence[Kept]) -> None:
        """Everything that nobody spoiled is there as it was; the rest is what the file says."""
        assert len({mask.annotation_id for mask in kept}) == len(kept)
        assert self.masks.keys() <= {mask.annotation_id for mask in kept}, self.document
        for mask in kept:
            entry = self.masks.get(mask.annotation_id) or self._entry(mask)
            expected = painted(entry["segmentation"], mask.code.size)
            assert expected is not None, entry
            inside, sure = expected
            assert np.array_equal(rle.decode(mask.code)[sure], inside[sure]), entry
            assert inside.any() or not sure.all()
            assert mask.is_crowd == (entry.get("iscrowd", 0) == 1)
            if self.same_names:
                names = {1: "cell", 2: "Zelle ü"}
                of_id = entry.get("category_id")
                assert mask.category == (names.get(of_id) if type(of_id) is int else None)

    def _entry(self, mask: Kept) -> dict[str, Any]:
        """The annotation that a mask was, of an image of that name and size."""
        (entry,) = [
            entry
            for entry in self.entries
            if str(entry.get("id")) == mask.annotation_id
            and painted(entry.get("segmentation"), mask.code.size) is not None
        ][:1]
        (image,) = [
            image
            for image in self.document["images"]
            if isinstance(image, dict)
            and image.get("file_name") == mask.file_name
            and json.dumps(image.get("id")) == json.dumps(entry["image_id"])
        ][:1]
        assert (image["height"], image["width"]) == mask.code.size
        return entry


Painted = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


def painted(segmentation: Any, hw: tuple[int, int]) -> Painted | None:
    """(H, W) bool of what a segmentation means, and where that is sure; None for nonsense.

    At an outline, pixels are a matter of taste.
    """
    if isinstance(segmentation, dict):
        if segmentation.get("size") != list(hw):
            return None
        counts = segmentation.get("counts")
        runs = _runs(counts) if isinstance(counts, str) else counts
        if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
            return None
        if sum(runs) != math.prod(hw):
            return None
        flat = [number % 2 == 1 for number, run in enumerate(runs) for _ in range(run)]
        return np.reshape(flat, (hw[1], hw[0])).T, np.ones(hw, dtype=bool)
    if not isinstance(segmentation, list) or not all(map(_is_polygon, segmentation)):
        return None
    inside, sure = np.zeros(hw, dtype=bool), np.ones(hw, dtype=bool)
    for polygon in segmentation:
        x, y = np.meshgrid(np.arange(hw[1]) + 0.5, np.arange(hw[0]) + 0.5)
        crossed = np.zeros(hw, dtype=bool)
        corners = np.reshape(np.array(polygon, dtype=float), (-1, 2))
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y0 != y1:
                crossed ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
            length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-12)
            along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
            sure &= np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)) > 1.2
        inside |= crossed
    return inside, sure


def _is_polygon(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(type(number) in (int, float) and abs(number) < 1e6 for number in value)
    )


def _runs(counts: str) -> list[int] | None:
    runs: list[int] = []
    number = letters = 0
    for letter in counts:
        group = ord(letter) - 48
        if not 0 <= group < 64:
            return None
        number |= (group & 31) << (5 * letters)
        letters += 1
        if group & 32:
            continue
        number -= (1 << (5 * letters)) if group & 16 else 0
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = letters = 0
    return None if letters else runs


def check_said(said: Sequence[str], *places: Path) -> None:
    """Each is one line that can be printed, names a place and what to do."""
    for line in said:
        assert line.isprintable(), line
        assert len(line) < 6_000
        assert any(str(place) in line for place in places), line
        assert REMEDY.search(line), line


@dataclass(frozen=True)
class Workshop:
    """A workspace to import into, and what there is to import."""

    workspace: Workspace
    root: Path
    whole: Callable[[], dict[str, Any]]
    put_images: Callable[[Path, int], Path]
    spoiler: Callable[[int], Callable[[Path], None]]

    def bring(self, path: Path, folder: Path) -> IntakeReport:
        options = ImportOptions(gold=0.0)
        return import_coco(self.workspace, path, folder, options, lambda _done, _total: None)

    def right(self, path: Path) -> Right | None:
        """What of a file is right, None for no COCO file."""
        document = parsed(path)
        return None if document is None else Right(document, self.whole())

    def outcome(self, path: Path, folder: Path) -> IntakeReport | None:
        """What an import of a spoiled file says, None where it says that it cannot."""
        right = self.right(path)
        try:
            report = self.bring(path, folder)
        except UsageError as error:
            check_said([str(error)], path)
            report = None
        if report is None:
            # Only where there is nothing that could come in.
            assert right is None or not right.images
            return None
        assert right is not None
        check_said(report.problems, path, folder)
        if report.num_new + report.num_known < len(right.document["images"]):
            assert report.problems
        return report


def stored(workspace: Workspace, path: Path) -> list[Kept]:
    """The masks in the store that came of a file; boxes and areas are those of their codes."""
    found = []
    for row in workspace.lake.rows(
        "SELECT file_name, source_annotation_id, category, is_crowd, segmentation, bbox, area "
        "FROM masks JOIN images USING (image_id) LEFT JOIN mask_labels USING (mask_id) "
        "WHERE images.source = ?",
        (path.name,),
    ):
        code = Rle(tuple(row["segmentation"]["size"]), row["segmentation"]["counts"])
        ys, xs = np.nonzero(rle.decode(code))
        assert row["area"] == len(xs)
        x, y, width, height = row["bbox"]
        assert (x, y) == (xs.min(), ys.min())
        assert (x + width, y + height) == (xs.max() + 1, ys.max() + 1)
        named = re.sub(r"^pictures-\d+/", "", row["file_name"])
        found.append(
            Kept(named, row["source_annotation_id"], row["category"], row["is_crowd"], code)
        )
    return found


def read(path: Path) -> list[Kept]:
    """The masks that an import of a file would bring, were all images right."""
    dataset = coco.read(path)
    names = {image.id: image.file_name for image in dataset.images}
    return [
        Kept(names[mask.image_id], str(mask.id), mask.category, mask.is_crowd, mask.rle)
        for mask in dataset.masks
    ]


def check_files(shop: Workshop, seed: int, number: int) -> None:
    """Import spoiled files, and those of which something spoiled is taken into the store."""
    sound = shop.root / "whole.json"
    sound.write_text(json.dumps(shop.whole()))
    folder = shop.put_images(shop.root / "pictures", seed)
    assert shop.bring(sound, folder).problems == ()
    Right(shop.whole(), shop.whole()).check(stored(shop.workspace, sound))
    spoil = shop.spoiler(seed)
    num_taken = 0
    for count in range(number):
        path = shop.root / f"labels-{seed}-{count}.json"
        spoil(path)
        # These images have their masks: nothing comes in, but everything is looked at.
        if shop.outcome(path, folder) is None or (right := shop.right(path)) is None:
            continue
        kept = read(path)
        right.check(kept)
        if not {mask.annotation_id for mask in kept} - right.masks.keys():
            continue
        num_taken += 1
        anew = shop.put_images(shop.root / f"pictures-{count}", 1_000 * (seed + 1) + count)
        if shop.outcome(path, anew) is not None:
            right.check(stored(shop.workspace, path))
        shutil.rmtree(anew)
    assert num_taken


@pytest.fixture
def shop(
    workspace: Workspace, tmp_path: Path, whole: Any, put_images: Any, spoiler: Any
) -> Workshop:
    return Workshop(workspace, tmp_path, whole, put_images, spoiler)


def test_a_spoiled_file_brings_in_what_is_right(shop: Workshop) -> None:
    check_files(shop, 0, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 17))
def test_a_thousand_spoiled_files_bring_in_what_is_right(shop: Workshop, seed: int) -> None:
    check_files(shop, seed, MANY)


def test_no_file_and_a_folder_are_none(shop: Workshop) -> None:
    folder = shop.put_images(shop.root / "pictures", 0)
    assert shop.outcome(shop.root / "gone.json", folder) is None
    assert shop.outcome(folder, folder) is None


def test_a_file_whose_name_cannot_be_written_down_is_refused(shop: Workshop) -> None:
    folder = shop.put_images(shop.root / "pictures", 0)
    path = shop.root / "labels-\udcff.json"
    path.write_text(json.dumps(shop.whole()))
    with pytest.raises(UsageError, match=r"^'labels-\\udcff\.json': .*; rename the file$"):
        shop.bring(path, folder)
