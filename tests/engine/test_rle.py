"""Masks as run-length codes: exact, and safe with codes from anywhere."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from engine import rle
from engine.geometry import Mask, mask_to_box
from engine.rle import Rle
from engine.run_codes import read_runs, write_runs

# pycocotools' decode, the oracle here, does not know numpy 2's `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALPHABET = "".join(map(chr, range(48, 112)))


def masks(max_side: int = 12, hw: tuple[int, int] | None = None) -> st.SearchStrategy[Mask]:
    side = st.integers(1, max_side)
    sides = st.tuples(side, side) if hw is None else st.just(hw)
    return sides.flatmap(
        lambda hw: st.lists(st.booleans(), min_size=hw[0] * hw[1], max_size=hw[0] * hw[1]).map(
            lambda cells: np.array(cells, dtype=bool).reshape(hw)
        )
    )


def by_coco(mask: Rle) -> dict[str, object]:
    return {"size": list(mask.size), "counts": mask.counts.encode()}


def test_every_mask_of_three_by_three_comes_back() -> None:
    for cells in itertools.product([False, True], repeat=9):
        mask = np.array(cells).reshape(3, 3)
        code = rle.encode_one(mask)
        np.testing.assert_array_equal(rle.decode(code), mask)
        np.testing.assert_array_equal(rle.box(code), mask_to_box(mask))
        assert rle.area(code) == mask.sum()


@given(mask=masks())
@settings(max_examples=100, deadline=None)
def test_a_code_is_pycocotools_code(mask: Mask) -> None:
    code = rle.encode_one(mask)
    np.testing.assert_array_equal(coco_mask.decode(by_coco(code)).astype(bool), mask)
    np.testing.assert_array_equal(rle.decode(code), mask)
    assert rle.area(code) == coco_mask.area(by_coco(code))
    np.testing.assert_array_equal(rle.box(code), mask_to_box(mask))


@pytest.mark.parametrize("hw", [(1, 5000), (5000, 1), (700, 900)])
def test_long_runs_come_back(hw: tuple[int, int]) -> None:
    mask = np.zeros(hw, dtype=bool)
    mask[hw[0] // 3 :, hw[1] // 5 : hw[1] // 2 + 1] = True
    code = rle.encode_one(mask)
    np.testing.assert_array_equal(rle.decode(code), mask)
    np.testing.assert_array_equal(rle.box(code), mask_to_box(mask))


def test_many_masks_at_once() -> None:
    stack = np.random.default_rng(0).random((5, 7, 9)) < 0.5
    codes = rle.encode(stack)
    assert codes == rle.encode(list(stack))
    np.testing.assert_array_equal(rle.decode(codes), stack)
    assert rle.encode(stack[:0]) == []
    assert rle.decode([]).shape == (0, 0, 0)


def test_views_and_other_memory_orders_encode_the_same() -> None:
    mask = np.random.default_rng(1).random((8, 6)) < 0.5
    expected = rle.encode_one(mask.copy())
    assert rle.encode_one(np.asfortranarray(mask)) == expected
    assert rle.encode_one(np.repeat(mask, 2, axis=0)[::2]) == expected


@pytest.mark.parametrize(
    ("mask", "field"),
    [
        pytest.param(np.zeros((2, 2, 2), bool), "mask", id="three dimensions"),
        pytest.param(np.zeros((0, 4), bool), "mask", id="no rows"),
        pytest.param(np.zeros((4, 4), np.uint8), "mask", id="not bool"),
    ],
)
def test_what_is_no_mask_is_refused(mask: Mask, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        rle.encode_one(mask)


@pytest.mark.parametrize(
    ("size", "counts", "field"),
    [
        pytest.param((2, 2), "", "counts", id="empty"),
        pytest.param((2, 2), "3", "counts", id="too few pixels"),
        pytest.param((2, 2), "5", "counts", id="too many pixels"),
        pytest.param((2, 2), "0 4", "counts", id="space"),
        pytest.param((2, 2), "p4", "counts", id="character after o"),
        pytest.param((2, 2), "/4", "counts", id="character before 0"),
        pytest.param((2, 2), "4\x00", "counts", id="a zero byte"),
        pytest.param((2, 2), "4é", "counts", id="not ASCII"),
        pytest.param((2, 2), "P", "counts", id="cut off"),
        pytest.param((2, 2), "0N6", "counts", id="negative run"),
        pytest.param((2, 2), "o" * 30 + "0", "counts", id="a number of 150 bits"),
        pytest.param((2, 2), "PPPPPP0" * 2 + "5", "counts", id="long zeros, too many pixels"),
        pytest.param((0, 2), "0", "size", id="no rows"),
        pytest.param((-2, -2), "4", "size", id="negative size"),
        pytest.param((2**20, 2**20), "4", "size", id="enormous"),
    ],
)
def test_a_malformed_code_is_refused_everywhere(
    size: tuple[int, int], counts: str, field: str
) -> None:
    mask = Rle(size, counts)
    calls = (rle.validate, rle.decode, rle.area, rle.box, lambda m: rle.iou_matrix([m], [m]))
    for call in calls:
        with pytest.raises(ValueError, match=f"^{field}: "):
            call(mask)


def test_a_code_of_another_size_is_refused() -> None:
    mask = rle.encode_one(np.ones((2, 3), dtype=bool))
    rle.validate(mask, (2, 3))
    with pytest.raises(ValueError, match=r"^size: must be \[3, 2\], but got \[2, 3\]"):
        rle.validate(mask, (3, 2))
    with pytest.raises(ValueError, match=r"^masks: must be of one size"):
        rle.iou_matrix([mask], [rle.encode_one(np.ones((3, 2), dtype=bool))])
    with pytest.raises(ValueError, match=r"^masks: must be of one size"):
        rle.decode([mask, rle.encode_one(np.ones((3, 2), dtype=bool))])


def judge_like_coco(size: tuple[int, int], counts: str) -> bool:
    """Whether a string is accepted; what is accepted means to us what it means to pycocotools."""
    mask = Rle(size, counts)
    try:
        rle.validate(mask)
    except ValueError:
        return False
    decoded = coco_mask.decode(by_coco(mask)).astype(bool)
    np.testing.assert_array_equal(rle.decode(mask), decoded)
    np.testing.assert_array_equal(rle.box(mask), mask_to_box(decoded))
    assert rle.area(mask) == decoded.sum()
    # The area again, since pycocotools counts 0 for the union of two empty masks.
    assert rle.iou_matrix([mask], [mask])[0, 0] == (1.0 if decoded.any() else 0.0)
    return True


SIDES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(size=SIDES, counts=st.text(st.sampled_from(ALPHABET), max_size=8))
@settings(max_examples=200, deadline=None)
def test_no_text_crashes(size: tuple[int, int], counts: str) -> None:
    judge_like_coco(size, counts)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[tuple[int, int], str]:
    code = rle.encode_one(draw(masks(8)))
    counts = list(code.counts)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(counts)))
        counts[place : place + draw(st.integers(0, 2))] = draw(st.text(ALPHABET, max_size=2))
    return code.size, "".join(counts)


@given(code=damaged())
@settings(max_examples=200, deadline=None)
def test_no_damage_crashes(code: tuple[tuple[int, int], str]) -> None:
    judge_like_coco(*code)


@pytest.mark.slow
@given(code=damaged(), noise=st.text(max_size=30), size=SIDES)
@settings(max_examples=3_000, deadline=None)
def test_no_damage_crashes_in_many_tries(
    code: tuple[tuple[int, int], str], noise: str, size: tuple[int, int]
) -> None:
    judge_like_coco(*code)
    judge_like_coco(size, code[1])
    judge_like_coco(size, noise)


def test_iou_is_the_ratio_of_pixels() -> None:
    random = np.random.default_rng(2)
    a, b = random.random((4, 9, 11)) < 0.4, random.random((3, 9, 11)) < 0.7
    a[0] = False
    expected = [[(x & y).sum() / max(1, (x | y).sum()) for y in b] for x in a]
    both = [[(x & y).sum() for y in b] for x in a]
    np.testing.assert_allclose(rle.iou_matrix(rle.encode(a), rle.encode(b)), expected)
    np.testing.assert_array_equal(rle.intersections(rle.encode(a), rle.encode(b)), both)


def test_iou_of_many_ragged_masks_is_the_ratio_of_pixels() -> None:
    """So many and so ragged that they are compared as bitmaps; some rows are no whole bytes."""
    random = np.random.default_rng(3)
    a, b = random.random((20, 97, 103)) < 0.5, random.random((18, 97, 103)) < 0.3
    a[3], b[5] = False, False
    shared = (a[:, None] & b).sum(axis=(2, 3))
    either = (a[:, None] | b).sum(axis=(2, 3))
    expected = shared / np.maximum(1, either)
    np.testing.assert_allclose(rle.iou_matrix(rle.encode(a), rle.encode(b)), expected, atol=1e-15)


def test_iou_with_nothing_is_empty() -> None:
    one = rle.encode(np.ones((1, 4, 4), dtype=bool))
    assert rle.iou_matrix([], one).shape == (0, 1)
    assert rle.iou_matrix(one, []).shape == (1, 0)
    empty = rle.encode(np.zeros((1, 4, 4), dtype=bool))
    assert rle.iou_matrix(empty, empty)[0, 0] == 0


@given(runs=st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 40), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_runs_of_any_length_are_written_as_they_are_read(runs: list[int]) -> None:
    text = write_runs(np.array(runs, dtype=np.int64))
    if 0 < sum(runs) < 2**31:
        assert read_runs(text, (1, sum(runs))).tolist() == runs
    if sum(runs) < 2**24 and all(runs[1:]):
        expected = coco_mask.frPyObjects({"counts": runs, "size": [1, sum(runs)]}, 1, sum(runs))
        assert text.encode() == expected["counts"]


@pytest.mark.parametrize("kind", ["empty", "full", "ragged", "striped"])
def test_a_mask_larger_than_pycocotools_is_trusted_with(kind: str) -> None:
    hw = (4099, 4111)
    mask = np.zeros(hw, dtype=bool)
    match kind:
        case "full":
            mask[:] = True
        case "ragged":
            mask[:50, 7:99] = np.random.default_rng(0).random((50, 92)) < 0.5
            mask[0, 0] = mask[-1, -1] = True
        case "striped":
            mask[:, 1000:2000] = True
    code = rle.encode_one(mask)
    assert code.counts.encode() == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    np.testing.assert_array_equal(rle.decode(code), mask)


def test_runs_for_which_pycocotools_reserves_too_little_are_written() -> None:
    """Four numbers of six letters, for which it has 24 bytes and writes 25."""
    runs, hw = [20_000_000, 17_000_000, 17_000_000, 34_000_100], (88_000_100, 1)
    pixels = np.repeat([False, True, False, True], runs).reshape(hw)
    for code in (rle.from_uncompressed(runs, hw), rle.encode_one(pixels)):
        assert len(code.counts) == 24
        assert read_runs(code.counts, hw).tolist() == runs


@given(mask=masks())
@settings(max_examples=50, deadline=None)
def test_plain_runs_give_the_same_code(mask: Mask) -> None:
    flat = mask.ravel(order="F")
    runs, value = [], False
    for key, group in itertools.groupby(flat):
        if not runs and key:
            runs.append(0)
        runs.append(len(list(group)))
        value = bool(key)
    assert value == flat[-1]
    assert rle.from_uncompressed(runs, mask.shape) == rle.encode_one(mask)


@pytest.mark.parametrize(
    "counts", [[], [3], [-1, 5], [2, 3], [4.0], [True, 3], ["4"], [2**70], [2**31, 2**32]]
)
def test_plain_runs_that_do_not_fill_the_image_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^counts: "):
        rle.from_uncompressed(counts, (2, 2))


def test_empty_runs_change_nothing() -> None:
    assert rle.from_uncompressed([0, 0, 5, 1, 2, 0, 8], (4, 4)) == rle.from_uncompressed(
        [5, 1, 10], (4, 4)
    )
    # The same pixels, written by a careless tool.
    careless = Rle((4, 4), "00515")
    np.testing.assert_array_equal(rle.box(careless), [1, 1, 2, 2])
    assert rle.iou_matrix([careless], [rle.from_uncompressed([5, 1, 10], (4, 4))])[0, 0] == 1


def test_empty_runs_do_not_hide_a_mask_from_pycocotools() -> None:
    # Its own boxes, and with them its IoU, are wrong for such a code.
    careless = Rle((1, 2), "0011")
    np.testing.assert_array_equal(rle.decode(careless), [[False, True]])
    assert rle.iou_matrix([careless], [careless])[0, 0] == 1


@given(masks=st.lists(masks(hw=(6, 7)), max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_union_is_where_any_mask_is(masks: list[Mask]) -> None:
    expected = np.any(np.reshape(masks, (-1, 6, 7)), axis=0)
    assert np.array_equal(rle.union(rle.encode(masks), (6, 7)), expected)
