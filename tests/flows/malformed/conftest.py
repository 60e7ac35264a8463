"""An annotation file that is right, its images, and hands that spoil such files."""

import codecs
import copy
import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.images import encode_png

HW = (12, 16)
NAMES = ("a.png", "b.png", "sub/c.png")
TRIANGLE = [2.0, 1.5, 13.0, 3.0, 6.5, 10.0]
SQUARE = [8, 6, 14, 6, 14, 10, 8, 10]


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
    )  # fmt: skip


def names() -> tuple[str, ...]:
    """What may stand for the name of an image."""
    return (
        "../a.png", "sub/../../b.png", "..\\a.png", "C:\\a.png", "b.png", "gone.png",
        "/dev/null", "empty.png", "text.png", "cut.png", "folder.png", "larger.png", "twin.png",
        "loop.png", "é\u0301.png", "x" * 300 + ".png", "b.png\n", "~/b.png",
        "b.png/", "./b.png", "sub/./c.png", "file:///b.png", "https://localhost/b.png",
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
        # No two alike: the second of two would be known.
        document = base() | {"name": path.name}
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
        # The many numbers of the masks, but not more often than the fields of entries.
        deep = self.random.random() < 0.5
        places = [
            (inside, key)
            for inside in _containers(document)
            if deep or isinstance(inside, dict)
            for key in _keys(inside)
        ]
        inside, key = self.random.choice(places)
        other, other_key = self.random.choice(places)
        value = copy.deepcopy(self.random.choice(names() if key == "file_name" else junk()))
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


@pytest.fixture(scope="session")
def whole() -> Callable[[], dict[str, Any]]:
    """Makes an annotation file that is right, as JSON values."""
    return base


@pytest.fixture(scope="session")
def put_images() -> Callable[[Path, int], Path]:
    """Puts images of its own into a folder for each seed: a.png, b.png, sub/c.png and bad ones."""
    return fill_images


@pytest.fixture(scope="session")
def spoiler() -> Callable[[int], Callable[[Path], None]]:
    """For each seed, what writes one spoiled file after the other."""
    return lambda seed: BadHands(seed).spoil
