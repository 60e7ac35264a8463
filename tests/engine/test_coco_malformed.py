"""Whatever is wrong in a COCO file is named, the rest is read, nothing crashes."""

import copy
import json
import math
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import coco, rle
from engine.coco import CocoError
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


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


DROP = object()


def steps(place: str) -> list[Any]:
    """`images[0].id` -> ["images", 0, "id"]."""
    return [int(step) if step.isdecimal() else step for step in re.findall(r"\w+", place)]


def case(
    name: str, place: str, value: Any, words: str, left: tuple[int, int], where: str | None = None
) -> Any:
    """Put `value` at `place`: the problem is at `where`, says `words`; images and masks left."""
    # What is wrong inside a segmentation is a problem of the whole.
    where = where or re.sub(r"(segmentation)\..*", r"\1", place)
    return pytest.param(place, value, where, words, left, id=name)


MALFORMED = [
    case("image is a number", "images[0]", 7, "an object", (1, 1)),
    case("image without id", "images[0].id", DROP, "whole number", (1, 1)),
    case("image id is true", "images[0].id", True, "whole number", (1, 1)),
    case("image id is a fraction", "images[0].id", 1.5, "whole", (1, 1)),
    case("image id twice", "images[1].id", 1, "id of its own", (0, 0)),
    case("image id twice, once a text", "images[1].id", "1", "id of its own", (0, 0)),
    case("image id with a line's end", "images[0].id", "1\n", "control", (1, 1)),
    case("image id with half a character", "images[0].id", "\ud800", "control", (1, 1)),
    case("image id of many digits", "images[0].id", 10**4000, "200 letters", (1, 1)),
    case("group a list", "images[1].group", ["a"], "without a group", (2, 3)),
    case("group not a number", "images[1].group", math.nan, "without a group", (2, 3)),
    case("group with half a character", "images[1].group", "\ud800", "without a group", (2, 3)),
    case("no height", "images[0].height", DROP, "pixels", (1, 1)),
    case("height zero", "images[0].height", 0, "pixels", (1, 1)),
    case("height a text", "images[0].height", "10", "pixels", (1, 1)),
    case("height a fraction", "images[0].height", 9.5, "pixels", (1, 1)),
    case("width negative", "images[0].width", -12, "pixels", (1, 1)),
    case("sides of many digits", "images[0].height", 10**4000, "pixels from 1", (1, 1)),
    case("file name too long", "images[0].file_name", "a" * 5000, "4096 letters", (1, 1)),
    case("too wide", "images[0].width", 2**24 + 1, "from 1 to 16777216", (1, 1)),
    case(
        "enormous",
        "images[0]",
        {"id": 1, "height": 2**15, "width": 2**15 + 1},
        "2^30",
        (1, 1),
        where="images[0].height",
    ),
    case("no file name", "images[0].file_name", DROP, "name", (1, 1)),
    case("file name empty", "images[0].file_name", "", "name", (1, 1)),
    case("file name a dot", "images[0].file_name", ".", "inside", (1, 1)),
    case("file name with a zero byte", "images[0].file_name", "a\x00.png", "name", (1, 1)),
    case("file name with half a character", "images[0].file_name", "\ud800.png", "name", (1, 1)),
    case("file above", "images[0].file_name", "../a.png", "inside", (1, 1)),
    case("file above, later", "images[0].file_name", "sub/../../a.png", "inside", (1, 1)),
    case("file above, Windows", "images[0].file_name", "..\\a.png", "inside", (1, 1)),
    case("absolute", "images[0].file_name", "/etc/passwd", "inside", (1, 1)),
    case("absolute, Windows", "images[0].file_name", "C:\\a.png", "inside", (1, 1)),
    case("annotation is a list", "annotations[0]", [], "an object", (2, 2)),
    case("no mask id", "annotations[0].id", DROP, "whole number", (2, 2)),
    case("mask id twice", "annotations[1].id", 1, "twice", (2, 2)),
    case("mask id twice, once a text", "annotations[1].id", "1", "twice", (2, 2)),
    case("mask id with a zero byte", "annotations[0].id", "\x00", "control", (2, 2)),
    case("category true", "annotations[0].category_id", True, "without a category", (2, 3)),
    case("unknown image", "annotations[0].image_id", 99, "id of an image", (2, 2)),
    case("image id as text", "annotations[0].image_id", "1", "id of an image", (2, 2)),
    case("no image id", "annotations[0].image_id", None, "whole number", (2, 2)),
    case("crowd is two", "annotations[0].iscrowd", 2, "0 or 1", (2, 2)),
    case("crowd a list", "annotations[0].iscrowd", [], "0 or 1", (2, 2)),
    case("unknown category", "annotations[0].category_id", 8, "without a category", (2, 3)),
    case("category a list", "annotations[0].category_id", [3], "without a category", (2, 3)),
    case(
        "category twice",
        "categories",
        [{"id": 3, "name": "cell"}, {"id": 3, "name": "other"}],
        "twice with different names",
        (2, 3),
        where="categories[1].id",
    ),
    case(
        "category of half a character",
        "categories[0].name",
        "\ud800",
        "control characters",
        (2, 3),
    ),
    case(
        "category without name",
        "categories",
        [{"id": 3, "name": "cell"}, {"id": 4}],
        "a name",
        (2, 3),
        where="categories[1].name",
    ),
    case("no segmentation", "annotations[0].segmentation", DROP, "polygons", (2, 2)),
    case("segmentation a text", "annotations[0].segmentation", "abc", "polygons", (2, 2)),
    case("no polygon", "annotations[0].segmentation", [], "at least one", (2, 2)),
    case("empty polygon", "annotations[0].segmentation", [[]], "3 points", (2, 2)),
    case("a flat polygon", "annotations[0].segmentation", SQUARE, "each a list", (2, 2)),
    case("two points", "annotations[0].segmentation", [[1, 1, 5, 5]], "3 points", (2, 2)),
    case("an odd polygon", "annotations[0].segmentation", [[*SQUARE, 3]], "3 points", (2, 2)),
    case(
        "points in pairs",
        "annotations[0].segmentation",
        [[[1, 1], [5, 5], [1, 5]]],
        "list of numbers",
        (2, 2),
    ),
    case("NaN", "annotations[0].segmentation", [[*SQUARE[:-1], float("nan")]], "finite", (2, 2)),
    case(
        "infinity", "annotations[0].segmentation", [[*SQUARE[:-1], float("inf")]], "finite", (2, 2)
    ),
    case(
        "huge whole number",
        "annotations[0].segmentation",
        [[*SQUARE[:-1], 10**400]],
        "huge",
        (2, 2),
    ),
    case(
        "far outside",
        "annotations[0].segmentation",
        [[*SQUARE[:-1], 1000000.0]],
        "near the image",
        (2, 2),
    ),
    case(
        "outside",
        "annotations[0].segmentation",
        [[13, 2, 18, 2, 18, 6]],
        "at least one pixel",
        (2, 2),
    ),
    case(
        "another size", "annotations[1].segmentation.size", [12, 10], "the image's [10, 12]", (2, 2)
    ),
    case("size true", "annotations[1].segmentation.size", [True, 12], "the image's", (2, 2)),
    case("no size", "annotations[1].segmentation.size", DROP, "size", (2, 2)),
    case("no counts", "annotations[1].segmentation.counts", None, "counts", (2, 2)),
    case("counts too short", "annotations[1].segmentation.counts", [11, 2], "120", (2, 2)),
    case(
        "counts negative", "annotations[1].segmentation.counts", [-1, 121], "whole numbers", (2, 2)
    ),
    case(
        "counts of fractions",
        "annotations[1].segmentation.counts",
        [60.0, 60.0],
        "whole numbers",
        (2, 2),
    ),
    case("no pixel", "annotations[1].segmentation.counts", [120], "at least one pixel", (2, 2)),
    case("a broken code", "annotations[1].segmentation.counts", "PPPPP", "cut off", (2, 2)),
    case("a code of another language", "annotations[1].segmentation.counts", "ü", "ASCII", (2, 2)),
]


def changed(place: str, value: Any) -> dict[str, Any]:
    document = good()
    *path, last = steps(place)
    target: Any = document
    for step in path:
        target = target[step]
    if value is DROP:
        del target[last]
    else:
        target[last] = copy.deepcopy(value)
    return document


@pytest.mark.parametrize(("place", "value", "where", "words", "left"), MALFORMED)
def test_what_is_wrong_is_named_and_the_rest_is_read(
    tmp_path: Path, place: str, value: Any, where: str, words: str, left: tuple[int, int]
) -> None:
    path = write(tmp_path / "labels.json", changed(place, value))
    found = coco.read(path)
    first = found.problems[0]
    assert first.where == where
    assert words in first.message
    assert "\n" not in first.message
    assert len(first.message) < 250
    assert (len(found.images), len(found.masks)) == left
    if where.endswith("segmentation"):
        assert "; correct " in first.message or "; draw " in first.message


def test_the_masks_of_a_refused_image_go_without_a_word_each(tmp_path: Path) -> None:
    document = changed("images[0].height", 0)
    assert len(coco.read(write(tmp_path / "labels.json", document)).problems) == 1


def categories_of(path: Path) -> list[str | None]:
    return [mask.category for mask in coco.read(path).masks]


def test_a_category_of_two_names_is_none(tmp_path: Path) -> None:
    names = [{"id": 3, "name": "cell"}, {"id": 3, "name": "other"}, {"id": 3, "name": "cell"}]
    path = write(tmp_path / "labels.json", changed("categories", names))
    assert categories_of(path) == [None, None, None]
    assert [problem.where for problem in coco.read(path).problems] == [
        "categories[1].id",
        "categories[2].id",
    ]


def test_a_category_that_is_there_twice_is_one(tmp_path: Path) -> None:
    names = [{"id": 3, "name": "cell"}, {"id": 3, "name": "cell"}]
    assert categories_of(write(tmp_path / "labels.json", changed("categories", names))) == [
        "cell",
        "cell",
        None,
    ]


def test_the_same_image_twice_is_one(tmp_path: Path) -> None:
    document = good()
    document["images"].append(document["images"][0])
    found = coco.read(write(tmp_path / "labels.json", document))
    assert (len(found.images), len(found.masks)) == (2, 3)
    assert [problem.where for problem in found.problems] == ["images[2].id"]


def test_an_id_that_was_refused_is_not_taken_by_another_image(tmp_path: Path) -> None:
    document = changed("images[0].height", 0)
    document["images"].append({"id": 1, "file_name": "c.png", "height": 10, "width": 12})
    found = coco.read(write(tmp_path / "labels.json", document))
    assert [image.id for image in found.images] == ["two"]
    assert [mask.image_id for mask in found.masks] == ["two"]


def test_an_entry_that_says_something_twice_is_refused_and_the_rest_is_read(tmp_path: Path) -> None:
    text = json.dumps(good())
    text = text.replace('"iscrowd": 0', '"iscrowd": 0, "image_id": "two"')
    path = tmp_path / "labels.json"
    path.write_text(text.replace('"counts": [11, 2, 107]', '"counts": [11, 2, 107], "counts": []'))
    found = coco.read(path)
    assert [problem.where for problem in found.problems] == [
        "annotations[0]",
        "annotations[1].segmentation",
    ]
    assert "'image_id' twice" in found.problems[0].message
    assert "'counts' twice" in found.problems[1].message
    assert [mask.id for mask in found.masks] == ["x"]


def test_a_number_of_too_many_digits_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(good()).replace("[11, 2, 107]", f"[11, 2, {'1' * 5000}]"))
    found = coco.read(path)
    assert [problem.where for problem in found.problems] == ["annotations[1].segmentation"]
    assert len(found.masks) == 2


def test_a_claimed_size_takes_no_memory(tmp_path: Path) -> None:
    document = good()
    document["images"][0] |= {"height": 2**15, "width": 2**15}
    document["annotations"][1]["segmentation"] = {
        "size": [2**15, 2**15],
        "counts": [0, 2**29, 2**29],
    }
    tracemalloc.start()
    found = coco.read(write(tmp_path / "labels.json", document))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24
    assert rle.area(found.masks[0].rle) == 2**29


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "size", "counts"]), inner, max_size=3)
    ),
    max_leaves=6,
)
PLACES = [
    "images[0]",
    *(f"images[1].{field}" for field in ("id", "file_name", "height", "width", "group")),
    "annotations[1]",
    *(f"annotations[0].{field}" for field in ("id", "image_id", "category_id", "iscrowd")),
    "annotations[0].segmentation",
    "annotations[0].segmentation[0]",
    "annotations[1].segmentation.size",
    "annotations[1].segmentation.counts",
    "categories[0]",
    "categories",
]


def check_fuzzed(path: Path, place: str, value: Any) -> None:
    path.write_text(json.dumps(changed(place, value)))
    try:
        found = coco.read(path)
    except CocoError:
        assert place == "categories"
        return
    known = {image.id for image in found.images}
    assert all(mask.image_id in known and rle.area(mask.rle) for mask in found.masks)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coco") / "fuzzed.json"


@given(place=st.sampled_from(PLACES), value=ANYTHING)
@settings(max_examples=150, deadline=None)
def test_no_value_crashes(fuzzed: Path, place: str, value: Any) -> None:
    check_fuzzed(fuzzed, place, value)


@pytest.mark.slow
@given(place=st.sampled_from(PLACES), value=ANYTHING)
@settings(max_examples=1_500, deadline=None)
def test_no_value_crashes_in_many_tries(fuzzed: Path, place: str, value: Any) -> None:
    check_fuzzed(fuzzed, place, value)
