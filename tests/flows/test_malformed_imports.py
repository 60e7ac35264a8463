"""Annotation files that went through bad hands: an import takes what is right, and names the rest.

What is right is said here once more, slowly: runs are painted, polygons are where a ray crosses
their outline an odd number of times.
"""

import codecs
import copy
import json
import math
import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import coco, rle
from engine.images import encode_png
from engine.rle import Rle
from flows.coco_import import ImportOptions, import_coco
from flows.errors import UsageError
from flows.image_rows import IntakeReport
from flows.workspace import Workspace

HW = (12, 16)
FEW, MANY = 60, 260
NAMES = ("a.png", "b.png", "sub/c.png")
TRIANGLE = [2.0, 1.5, 13.0, 3.0, 6.5, 10.0]
SQUARE = [8, 6, 14, 6, 14, 10, 8, 10]
REMEDY = re.compile(r"must|expected|correct|copy|rename|put|make|save|only the first|keep")


def base() -> dict[str, Any]:
    """Three images; masks in each of the ways that COCO, and SA-1B, write them."""
    plain = {"size": [12, 16], "counts": [20, 5, 7, 6, 154]}
    code = {"size": [12, 16], "counts": "a05700N]4"}
    full = {"size": [12, 16], "counts": [0, 192]}
    document = {
        "info": {"description": "drawn", "nested": [[1, [2]], {"a": None}]},
        "images": [
            {"id": 1, "file_name": NAMES[0], "height": 12, "width": 16},
            {"id": 2, "file_name": NAMES[1], "height": 12, "width": 16, "group": "slide"},
            {"id": "three", "file_name": NAMES[2], "height": 12, "width": 16},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [TRIANGLE], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [SQUARE, TRIANGLE]},
            {"id": 3, "image_id": 2, "category_id": 1, "segmentation": plain, "iscrowd": 1},
            {"id": 4, "image_id": 2, "segmentation": code, "bbox": [1, 2, 3, 4], "area": 9},
            {"id": "five", "image_id": "three", "category_id": 2, "segmentation": full},
            {"id": 6, "image_id": "three", "category_id": 1, "segmentation": [SQUARE]},
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "Zelle ü"}],
    }
    return copy.deepcopy(document)


def junk() -> tuple[Any, ...]:
    """What may stand where something else should."""
    return (
        None, True, False, 0, -1, 1, 2, 1.0, 1.5, -0.0, 12, 16, 2**31, 2**53, -(2**63), 10**30,
        10**400, math.nan, math.inf, -math.inf, 1e308, "", "1", "2", "three", "\x00", "\ud800",
        "a\nb", "\u202e", "é", "x" * 5_000, [], [[]], {}, [1], {"id": 1}, [[1, 1, 5, 5]],
        [[1, 1, 5, 5, 2]], [[math.nan] * 6], [[1e9, 0, 1e9, 5, 0, 5]], [[-9, -9, -1, -9, -1, -1]],
        [SQUARE], [SQUARE, [1]], [[[1, 1], [5, 5], [1, 5]]], "0", "P", "P" * 50, "~", "`5",
        {"size": [12, 16], "counts": [191]}, {"size": [12, 16], "counts": [192]},
        {"size": [16, 12], "counts": [0, 192]}, {"size": [12, 16], "counts": "0`6"},
        {"size": [12.0, 16], "counts": [3, 4, 185]}, {"size": [12, 16], "counts": [-1, 193]},
        {"size": [12, 16], "counts": [2**64, 192]}, [12, 16], [16, 12], [12, 16, 1],
        "../a.png", "sub/../../b.png", "..\\a.png", "C:\\a.png", "b.png", "gone.png",
        "/dev/null", "empty.png", "text.png", "cut.png", "folder.png", "larger.png", "twin.png",
        "loop.png", "é\u0301.png", "x" * 300 + ".png", "1" * 50,
    )  # fmt: skip


def fill_images(folder: Path, seed: int) -> Path:
    """The three images, and files that are none of them."""
    noise = np.random.default_rng(seed)

    def picture(hw: tuple[int, int]) -> bytes:
        return encode_png(noise.integers(0, 256, (*hw, 3), dtype=np.uint8))

    (folder / "sub").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(picture(HW))
    whole = (folder / NAMES[0]).read_bytes()
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("<html>")
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.png").mkdir()
    (folder / "larger.png").write_bytes(picture((13, 16)))
    (folder / "twin.png").write_bytes(whole)
    (folder / "loop.png").symlink_to("loop.png")
    return folder


class BadHands:
    """Spoils an annotation file; the same way from the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def spoil(self, path: Path) -> None:
        """Write a spoiled file, or something else, to `path`."""
        document = base()
        if self.random.random() < 0.7:
            for _ in range(self.random.choice((1, 1, 2, 3))):
                self._change(document)
            text = json.dumps(document, ensure_ascii=self.random.random() < 0.8)
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
        elif self.random.random() < 0.7:
            path.write_bytes(self._wrong_bytes(json.dumps(document, ensure_ascii=False)))
        else:
            path.write_bytes(self._wrong_text(json.dumps(document)).encode())

    def _change(self, document: dict[str, Any]) -> None:
        """Change anything, at any depth."""
        places = [(inside, key) for inside in _containers(document) for key in _keys(inside)]
        inside, key = self.random.choice(places)
        other, other_key = self.random.choice(places)
        value = copy.deepcopy(self.random.choice(junk()))
        match self.random.randrange(7):
            case 0 | 1 | 2:
                inside[key] = value
            case 3:
                del inside[key]
            case 4:
                inside[key] = copy.deepcopy(other[other_key])
            case 5 if isinstance(inside, list):
                inside.insert(key, copy.deepcopy(inside[key]))
            case 5:
                inside[f"{key}s"] = inside.pop(key)
            case 6:
                depth = self.random.choice((1, 2, 200))
                for _ in range(depth):
                    value = [value]
                inside[key] = value

    def _wrong_bytes(self, text: str) -> bytes:
        data = text.encode()
        place = self.random.randrange(len(data))
        match self.random.randrange(9):
            case 0:
                return data[:place]
            case 1:
                return data[: data.index("ü".encode()) + 1]
            case 2:
                return (
                    data[:place]
                    + bytes([data[place] ^ 1 << self.random.randrange(8)])
                    + data[place + 1 :]
                )
            case 3:
                return (
                    data[:place] + self.random.randbytes(self.random.randint(1, 4)) + data[place:]
                )
            case 4:
                return text.encode(self.random.choice(("latin-1", "utf-16", "utf-32-be", "cp037")))
            case 5:
                return codecs.BOM_UTF8 * self.random.randint(1, 2) + data
            case 6:
                return self.random.choice(
                    (b"", b"\n", b"\x00" * 50, b"\x89PNG\r\n\x1a\n", b"PK\x03\x04")
                )
            case 7:
                return data + self.random.choice((b"\n", b",", b"}")) + data
            case _:
                lines = [json.dumps(entry) for entry in json.loads(text)["annotations"]]
                return "\n".join(lines).encode()

    def _wrong_text(self, text: str) -> str:
        numbers = list(re.finditer(r"\b\d+\b", text))
        keys = list(re.finditer(r'"(\w+)": ("?\w+"?)(?=[,}])', text))
        number, key = self.random.choice(numbers), self.random.choice(keys)
        match self.random.randrange(4):
            case 0:
                value = self.random.choice(("9" * 5_000, "NaN", "-Infinity", "1e999", "0x1", "01"))
                return text[: number.start()] + value + text[number.end() :]
            case 1:
                again = f'"{key[1]}": {self.random.choice((key[2], "1", "null"))}, '
                return text[: key.start()] + again + text[key.start() :]
            case 2:
                depth = self.random.choice((50, 100_000))
                return (
                    text[: number.start()] + "[" * depth + "1" + "]" * depth + text[number.end() :]
                )
            case _:
                return self.random.choice(
                    (text.replace('"', "'"), text.replace("]", ",]"), f"[{text}]")
                )


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)


def _keys(inside: Any) -> Sequence[Any]:
    return list(inside) if isinstance(inside, dict) else range(len(inside))


def parsed(path: Path) -> dict[str, Any] | None:
    """What a file says, None for no COCO file; what says a thing twice says nothing."""

    def once(pairs: list[tuple[str, Any]]) -> Any:
        return dict(pairs) if len({key for key, _ in pairs}) == len(pairs) else "twice"

    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=once, parse_int=_number)
    except (ValueError, RecursionError):
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

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        whole = base()
        same = {json.dumps(entry) for entry in [*whole["images"], *whole["annotations"]]}
        images = [entry for entry in document["images"] if isinstance(entry, dict)]
        named = [str(entry.get("file_name")) for entry in images]
        # The same bytes, which are kept once.
        named = [NAMES[0] if name == "twin.png" else name for name in named]
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
        self.same_names = document.get("categories") == whole["categories"]

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
            and json.dumps(image["id"]) == json.dumps(entry["image_id"])
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


Bring = Callable[[Path, Path], IntakeReport]


def bring_into(workspace: Workspace) -> Bring:
    def bring(path: Path, folder: Path) -> IntakeReport:
        options = ImportOptions(gold=0.0)
        return import_coco(workspace, path, folder, options, lambda _done, _total: None)

    return bring


def outcome(bring: Bring, path: Path, folder: Path) -> IntakeReport | None:
    """What an import of a spoiled file says, None where it says that it cannot."""
    document = parsed(path)
    try:
        report = bring(path, folder)
    except UsageError as error:
        check_said([str(error)], path)
        report = None
    if report is None:
        # Only where there is nothing that could come in.
        assert document is None or not Right(document).images
        return None
    assert document is not None
    check_said(report.problems, path, folder)
    if report.num_new + report.num_known < len(document["images"]):
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


def check_files(workspace: Workspace, root: Path, seed: int, number: int) -> None:
    """Import spoiled files, and those of which something spoiled is taken into the store."""
    bring = bring_into(workspace)
    whole = root / "whole.json"
    whole.write_text(json.dumps(base()))
    folder = fill_images(root / "pictures", seed)
    assert bring(whole, folder).problems == ()
    Right(base()).check(stored(workspace, whole))
    hands = BadHands(seed)
    num_taken = 0
    for count in range(number):
        path = root / f"labels-{seed}-{count}.json"
        hands.spoil(path)
        # These images have their masks: nothing comes in, but everything is looked at.
        if outcome(bring, path, folder) is None:
            continue
        right = Right(parsed(path) or {})
        kept = read(path)
        right.check(kept)
        if not {mask.annotation_id for mask in kept} - right.masks.keys():
            continue
        num_taken += 1
        anew = fill_images(root / f"pictures-{count}", 1_000 * (seed + 1) + count)
        if outcome(bring, path, anew) is not None:
            right.check(stored(workspace, path))
        shutil.rmtree(anew)
    assert num_taken > number / 50


def test_a_spoiled_file_brings_in_what_is_right(workspace: Workspace, tmp_path: Path) -> None:
    check_files(workspace, tmp_path, 0, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_thousand_spoiled_files_bring_in_what_is_right(
    workspace: Workspace, tmp_path: Path, seed: int
) -> None:
    check_files(workspace, tmp_path, seed, MANY)
