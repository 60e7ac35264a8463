"""COCO files from anywhere: what is right is read, what is wrong is named, nothing crashes."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from engine import coco, coco_file, rle
from engine.coco import CocoError, CocoImage, CocoMask
from engine.rle import Rle

HW = (10, 12)
SQUARE = [2, 2, 8, 2, 8, 7, 2, 7]


def mask_of(*cells: tuple[int, int]) -> Rle:
    mask = np.zeros(HW, dtype=bool)
    for cell in cells:
        mask[cell] = True
    return rle.encode_one(mask)


def good() -> dict[str, Any]:
    """Two images, three masks in the three ways that COCO writes them."""
    compressed = mask_of((1, 1), (2, 1))
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 10, "width": 12},
            {"id": "two", "file_name": "sub/b.jpg", "height": 10.0, "width": 12, "group": 7},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [SQUARE], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 3,
                "segmentation": {"size": list(HW), "counts": [11, 2, 107]},
                "iscrowd": 1,
            },
            {
                "id": "x",
                "image_id": "two",
                "segmentation": {"size": list(HW), "counts": compressed.counts},
            },
        ],
        "categories": [{"id": 3, "name": "cell"}],
    }


def write(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_the_three_ways_to_write_a_mask(tmp_path: Path) -> None:
    found = coco.read(write(tmp_path, good()))
    assert found.problems == []
    assert found.categories == {3: "cell"}
    assert found.images == [
        CocoImage(id=1, file_name="a.png", height=10, width=12),
        CocoImage(id="two", file_name="sub/b.jpg", height=10, width=12, group="7"),
    ]
    assert [mask.id for mask in found.masks] == [1, 2, "x"]
    assert [mask.category for mask in found.masks] == ["cell", "cell", None]
    assert [mask.is_crowd for mask in found.masks] == [False, True, False]
    square = np.zeros(HW, dtype=bool)
    square[2:7, 2:8] = True
    np.testing.assert_array_equal(rle.decode(found.masks[0].rle), square)
    assert found.masks[1].rle == found.masks[2].rle == mask_of((1, 1), (2, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "not JSON", id="empty"),
        pytest.param("{", "line 1: not JSON", id="cut off"),
        pytest.param("[]", "a list, such as a file of results", id="results"),
        pytest.param("3", "expected a COCO file", id="a number"),
        pytest.param("{}", "images: missing", id="nothing in it"),
        pytest.param('{"images": []}', "annotations: missing", id="no annotations"),
        pytest.param('{"images": {}, "annotations": []}', "images: must be a list", id="object"),
        pytest.param(
            '{"images": [], "annotations": null}', "annotations: must be a list", id="null"
        ),
        pytest.param(
            '{"images": [], "annotations": [], "categories": 5}',
            "categories: must be a list",
            id="categories a number",
        ),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        pytest.param('{"images": ' + "9" * 5000 + "}", "got inf", id="a number of 5000 digits"),
        pytest.param(
            '{"images": [], "annotations": [], "images": []}', "'images' twice", id="lists twice"
        ),
        pytest.param('{"images": []}\n{"annotations": []}', "line 2: not JSON", id="JSON lines"),
    ],
)
def test_what_is_no_coco_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CocoError, match=words) as caught:
        coco.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "expected a COCO file" in message
    assert "\n" not in message


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CocoError, match=r"no\.json: no such file; name a COCO annotation file"):
        coco.read(tmp_path / "no.json")
    with pytest.raises(CocoError, match="directory"):
        coco.read(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"images": "\xe4"}')
    with pytest.raises(CocoError, match="not JSON"):
        coco.read(tmp_path / "latin.json")
    monkeypatch.setattr(coco_file, "MAX_BYTES", 5)
    with pytest.raises(CocoError, match="over the limit of 5; split the file"):
        coco.read(tmp_path / "latin.json")


def test_windows_bytes_at_the_start_are_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(good()).encode())
    assert len(coco.read(path).masks) == 3
    path.write_text(json.dumps(good()), encoding="utf-16")
    assert len(coco.read(path).masks) == 3


def test_a_file_without_categories_is_complete(tmp_path: Path) -> None:
    document = good()
    del document["categories"]
    found = coco.read(write(tmp_path, document))
    assert found.problems == []
    assert {mask.category for mask in found.masks} == {None}


@pytest.mark.parametrize(
    ("keys", "group"),
    [
        ({}, None),
        ({"group": "slide 4"}, "slide 4"),
        ({"group_id": 4}, "4"),
        ({"group": 4.0}, "4"),
        ({"group": ["a"]}, None),
        ({"source": "camera"}, None),
    ],
)
def test_groups(tmp_path: Path, keys: dict[str, Any], group: str | None) -> None:
    document = good()
    document["images"][0] |= keys
    assert coco.read(write(tmp_path, document)).images[0].group == group


def dataset() -> tuple[list[CocoImage], list[CocoMask]]:
    random = np.random.default_rng(0)
    images = [
        CocoImage(id=number, file_name=f"{number}.png", height=HW[0], width=HW[1], group=None)
        for number in (1, 2)
    ]
    masks = [
        CocoMask(
            id=number,
            image_id=1 + number % 2,
            category=("cell", "other")[number % 2],
            rle=rle.encode_one(random.random(HW) < 0.3),
            is_crowd=number == 3,
        )
        for number in range(1, 6)
    ]
    return images, masks


# pycocotools' decode does not know numpy 2's `copy`.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_what_is_written_reads_back_in_pycocotools(tmp_path: Path) -> None:
    images, masks = dataset()
    written = coco.document(images, masks, {1: "cell", 2: "other"}, {"description": "a test"})
    path = write(tmp_path, written)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(path))
    assert theirs.dataset["info"] == {"description": "a test"}
    for mask in masks:
        entry = theirs.anns[mask.id]
        np.testing.assert_array_equal(theirs.annToMask(entry).astype(bool), rle.decode(mask.rle))
        assert entry["area"] == rle.area(mask.rle)
        x, y, width, height = entry["bbox"]
        np.testing.assert_array_equal([x, y, x + width, y + height], rle.box(mask.rle))
        assert theirs.cats[entry["category_id"]]["name"] == mask.category
    ours = coco.read(path)
    assert (ours.images, ours.masks, ours.problems) == (images, masks, [])


def test_a_category_that_nobody_declared_is_a_mistake() -> None:
    images, masks = dataset()
    with pytest.raises(ValueError, match=r"^category: must be one of \['cell'\]"):
        coco.document(images, masks, {1: "cell"}, {})


@pytest.mark.data
def test_the_real_files_have_no_problem(data_dir: Path) -> None:
    found = coco.read(data_dir / "segments" / "annotations.json")
    assert found.problems == []
    assert (len(found.images), len(found.masks)) == (40, 539)
