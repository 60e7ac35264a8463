"""Columns of codes give what each code gives by itself."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import mask_functions, outlines, rle, rle_columns
from engine.geometry import Mask
from engine.rle import Rle
from engine.rle_columns import Codes, comparable
from engine.run_codes import read_runs

ALPHABET = "".join(map(chr, range(48, 112)))


def column(masks: Sequence[Rle]) -> Codes:
    letters = [mask.counts.encode("latin-1", errors="replace") for mask in masks]
    offsets = np.cumsum([0, *map(len, letters)], dtype=np.int64)
    sizes = np.array([mask.size for mask in masks], dtype=np.int64).reshape(-1, 2)
    return Codes(np.frombuffer(b"".join(letters), dtype=np.uint8), offsets, sizes)


def random_masks(seed: int, count: int, hw: tuple[int, int]) -> list[Mask]:
    """Noise, blots, rectangles, empty ones, full ones and single pixels."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        mask = np.zeros(hw, dtype=bool)
        match random.integers(6):
            case 0:
                mask = random.random(hw) < random.random()
            case 1:
                mask[:] = True
            case 2:
                mask[random.integers(hw[0]), random.integers(hw[1])] = True
            case 3:
                y, x = random.integers(hw[0]), random.integers(hw[1])
                mask[y : y + 1 + random.integers(hw[0]), x : x + 1 + random.integers(hw[1])] = True
            case 4:
                y, x = np.ogrid[: hw[0], : hw[1]]
                cy, cx = random.random(2) * hw
                mask = (y - cy) ** 2 + (x - cx) ** 2 < (random.random() * max(hw)) ** 2
        found.append(mask)
    return found


def check(masks: Sequence[Rle]) -> None:
    """Areas, boxes and all pairs, as `engine.rle` has them."""
    codes = column(masks)
    assert rle_columns.areas(codes).tolist() == [rle.area(mask) for mask in masks]
    assert rle_columns.boxes(codes).tolist() == [rle.box(mask).tolist() for mask in masks]
    left, right = np.divmod(np.arange(len(masks) ** 2), len(masks))
    found = rle_columns.ious(comparable(codes), left, comparable(codes), right).reshape(
        len(masks), len(masks)
    )
    np.testing.assert_array_equal(found, rle.iou_matrix(masks, masks))


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_random_masks(seed: int, height: int, width: int) -> None:
    check(rle.encode(random_masks(seed, 8, (height, width))))


def test_masks_of_large_images() -> None:
    check(rle.encode(random_masks(0, 12, (700, 900))))


def test_a_crowd_that_is_more_than_one_piece() -> None:
    noise = np.random.default_rng(0).random((3, 500, 700)) < 0.5
    masks = rle.encode(noise)
    assert len(masks[0].counts) > rle_columns._AT_ONCE
    check(masks)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_runs_of_no_pixels(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = [_uncompressed(random, 48) for _ in range(6)]
    dense = [rle.encode_one(rle.decode(mask)) for mask in masks]
    codes = column(masks)
    assert rle_columns.areas(codes).tolist() == [rle.area(mask) for mask in dense]
    assert rle_columns.boxes(codes).tolist() == [rle.box(mask).tolist() for mask in dense]
    left, right = np.divmod(np.arange(36), 6)
    found = rle_columns.ious(comparable(codes), left, comparable(codes), right).reshape(6, 6)
    np.testing.assert_array_equal(found, rle.iou_matrix(dense, dense))


def _uncompressed(random: np.random.Generator, pixels: int) -> Rle:
    """A code of 6 x 8 whose runs may be empty, which pycocotools would not write."""
    cuts = np.sort(random.integers(0, pixels + 1, random.integers(0, 9)))
    runs = np.diff([0, *cuts, pixels]).tolist()
    return Rle((6, 8), _written(runs))


def _written(runs: Sequence[int]) -> str:
    text = ""
    for index, run in enumerate(runs):
        value, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + (group | (32 if more else 0)))
    return text


@pytest.mark.parametrize("seed", range(20))
def test_numbers_of_one_letter_to_seven(seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = 2**31 - 2
    codes = []
    for _ in range(8):
        runs = (2.0 ** (27 * random.random(random.integers(0, 30)))).astype(np.int64).tolist()
        codes.append(Rle((2, pixels // 2), _written([*runs, pixels - sum(runs)])))
    assert 7 in {len(part) for code in codes for part in re.findall("[P-o]*[0-O]", code.counts)}
    areas = [int(read_runs(code.counts, code.size)[1::2].sum()) for code in codes]
    assert rle_columns.areas(column(codes)).tolist() == areas


def test_no_masks() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert rle_columns.areas(column([])).shape == (0,)
    assert rle_columns.boxes(column([])).shape == (0, 4)
    assert rle_columns.ious(comparable(column([])), none, comparable(column([])), none).shape == (
        0,
    )
    assert mask_functions.rings(column([])) == mask_functions.pictures(column([])) == []


def test_two_empty_masks_share_nothing() -> None:
    empty = column(rle.encode(np.zeros((1, 3, 3), dtype=bool)))
    assert rle_columns.ious(
        comparable(empty), np.array([0]), comparable(empty), np.array([0])
    ).tolist() == [0.0]


@given(
    before=st.integers(0, 3),
    text=st.one_of(
        st.text(ALPHABET, max_size=12), st.text(max_size=6), st.text("PPPPo0", max_size=12)
    ),
    height=st.integers(-1, 6),
    width=st.sampled_from([-6, 0, 1, 2, 6, 2**16, 2**31]),
)
@settings(max_examples=500, deadline=None)
def test_it_refuses_what_the_slow_reading_does_and_nothing_else(
    before: int, text: str, height: int, width: int
) -> None:
    sound = rle.encode(random_masks(before, 3, (6, 6)))
    code = Rle((height, width), text.encode("latin-1", errors="replace").decode("latin-1"))
    codes = column([*sound[:before], code, *sound[before:]])
    try:
        expected = int(read_runs(code.counts, code.size)[1::2].sum())
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error).partition(":")[0]):
            rle_columns.areas(codes)
    else:
        assert rle_columns.areas(codes)[before] == expected


def test_masks_of_two_sizes_cannot_be_compared() -> None:
    codes = column([Rle((2, 2), "04"), Rle((4, 1), "04")])
    with pytest.raises(ValueError, match=r"size: .* got \[2, 2\] and \[4, 1\]"):
        rle_columns.ious(comparable(codes), np.array([0]), comparable(codes), np.array([1]))


def test_rings_and_pictures_of_a_column() -> None:
    masks = random_masks(3, 8, (17, 23))
    codes = column(rle.encode(masks))
    assert mask_functions.rings(codes) == [outlines.rings(mask) for mask in masks]
    assert mask_functions.pictures(codes) == [outlines.png(mask) for mask in masks]
