"""Short codes read letter by letter give what arrays give, and never take a wrong one for right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine import rle
from engine.rle import Rle
from engine.short_codes import short_area

LETTERS = "".join(map(chr, range(48, 112)))


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_the_area_of_any_mask(mask: np.ndarray) -> None:
    assert short_area(rle.encode_one(mask)) == mask.sum()


@given(
    st.text(LETTERS, max_size=12) | st.text(max_size=6),
    st.tuples(st.integers(-1, 9), st.integers(-1, 9)),
)
def test_what_it_takes_is_right_and_what_it_leaves_is_wrong(counts: str, size: tuple) -> None:
    mask = Rle(size, counts)
    try:
        expected = rle.area(mask)
    except ValueError:
        expected = None
    assert short_area(mask) == expected


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        pytest.param((4, 6), "", id="empty"),
        pytest.param((4, 6), "4220", id="a letter short"),
        pytest.param((4, 6), "P", id="cut off"),
        pytest.param((4, 6), "o" * 600, id="a run without an end"),
        pytest.param((4, 7), "4220<", id="another size"),
        pytest.param((2**16, 2**16), "4220<", id="too large"),
    ],
)
def test_a_wrong_code_is_left_to_others(size: tuple[int, int], counts: str) -> None:
    assert short_area(Rle(size, counts)) is None


def test_a_long_code_is_left_to_others() -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[::2, ::2] = True
    code = rle.encode_one(mask)
    assert len(code.counts) > 512
    assert short_area(code) is None


def test_runs_of_no_pixels_count_nothing() -> None:
    code = rle.from_uncompressed([0, 0, 4, 2, 18], (4, 6))
    assert short_area(code) == rle.area(code) == 2
