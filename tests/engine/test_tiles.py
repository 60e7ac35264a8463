"""Levels and tiles of a picture: each level the mean of the one before, any part read alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import tiles
from engine.images import Pixels
from engine.tiles import (
    TILE,
    LevelsError,
    halved,
    level_sizes,
    levels,
    part_of,
    read_part,
    tile_window,
    write_levels,
)


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def stored(pixels: Pixels, path: Path) -> Path:
    with path.open("wb") as stream:
        write_levels(pixels, stream)
    return path


@pytest.mark.parametrize(
    ("hw", "expected"),
    [
        pytest.param((1, 1), [(1, 1)], id="a pixel"),
        pytest.param((512, 512), [(512, 512)], id="one tile"),
        pytest.param((512, 513), [(512, 513), (256, 257)], id="one pixel too wide"),
        pytest.param((700, 1100), [(700, 1100), (350, 550), (175, 275)], id="three levels"),
        pytest.param((1, 1025), [(1, 1025), (1, 513), (1, 257)], id="a line"),
    ],
)
def test_the_last_level_fits_into_one_tile(
    hw: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    assert level_sizes(hw) == expected


def test_a_level_is_the_mean_of_pairs_of_rows_and_columns() -> None:
    pixels = noise(2050, 6)
    means = pixels.reshape(1025, 2, 3, 2, 3).astype(float).mean(axis=(1, 3))
    half = halved(pixels)
    assert half.shape == (1025, 3, 3)
    np.testing.assert_allclose(half, means, atol=0.5)


def test_an_odd_edge_is_the_mean_of_what_there_is() -> None:
    pixels = noise(5, 3)
    half = halved(pixels)
    assert half.shape == (3, 2, 3)
    np.testing.assert_array_equal(half[2, 1], pixels[4, 2])
    np.testing.assert_allclose(half[2, 0], pixels[4, :2].mean(axis=0), atol=0.5)


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(101, 64)
    whole = halved(pixels)
    monkeypatch.setattr(tiles, "_ROWS_AT_ONCE", 8)
    np.testing.assert_array_equal(halved(pixels), whole)


def test_tiles_cover_each_level_once() -> None:
    hw = (700, 1100)
    for level, (height, width) in enumerate(level_sizes(hw)):
        seen = np.zeros((height, width), dtype=int)
        for column in range(-(-width // TILE)):
            for row in range(-(-height // TILE)):
                x0, y0, x1, y1 = tile_window(hw, level, column, row)
                seen[y0:y1, x0:x1] += 1
        assert (seen == 1).all()


@pytest.mark.parametrize(
    ("place", "field"),
    [
        pytest.param((3, 0, 0), "level", id="level"),
        pytest.param((-1, 0, 0), "level", id="negative level"),
        pytest.param((0, 3, 0), "column", id="column"),
        pytest.param((1, 2, 0), "column", id="column of a smaller level"),
        pytest.param((0, 0, 2), "row", id="row"),
        pytest.param((0, 0, -1), "row", id="negative row"),
    ],
)
def test_a_tile_that_there_is_not(place: tuple[int, int, int], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be from 0 to"):
        tile_window((700, 1100), *place)


def test_a_file_gives_each_part_of_each_level(tmp_path: Path) -> None:
    pixels = noise(700, 1100)
    path = stored(pixels, tmp_path / "one.levels")
    for level, shown in enumerate(levels(pixels)):
        height, width = shown.shape[:2]
        for window in (
            (0, 0, width, height),
            (3, 5, 100, 7),
            (width - 1, height - 1, width, height),
        ):
            x0, y0, x1, y1 = window
            expected = shown[y0:y1, x0:x1]
            np.testing.assert_array_equal(read_part(path, level, window), expected)
            np.testing.assert_array_equal(part_of(pixels, level, window), expected)
        np.testing.assert_array_equal(read_part(path, level, None), shown)


@pytest.mark.parametrize(
    ("level", "window"),
    [
        pytest.param(0, (0, 0, 7, 1), id="too wide"),
        pytest.param(0, (0, 0, 1, 5), id="too high"),
        pytest.param(0, (-1, 0, 1, 1), id="negative"),
        pytest.param(0, (2, 0, 2, 1), id="empty"),
        pytest.param(1, (0, 0, 1, 1), id="no such level"),
    ],
)
def test_a_part_that_there_is_not(
    tmp_path: Path, level: int, window: tuple[int, int, int, int]
) -> None:
    pixels = noise(4, 6)
    path = stored(pixels, tmp_path / "one.levels")
    with pytest.raises(ValueError, match="must be"):
        read_part(path, level, window)
    with pytest.raises(ValueError, match="must be"):
        part_of(pixels, level, window)


@pytest.mark.parametrize("content", [b"", b"MLLEVEL", b"something else altogether"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.levels"
    path.write_bytes(content)
    with pytest.raises(LevelsError, match="not a whole file of levels"):
        read_part(path, 0, (0, 0, 1, 1))


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = stored(noise(4, 6), tmp_path / "one.levels")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LevelsError):
        read_part(path, 0, (0, 0, 1, 1))


def test_a_level_looks_like_what_a_resize_gives() -> None:
    rows, columns = np.mgrid[:1024, :1024]
    picture = np.stack([rows // 4, columns // 4, (rows + columns) // 8], axis=-1).astype(np.uint8)
    *_, last = levels(picture)
    resized = Image.fromarray(picture).resize((512, 512), Image.Resampling.BOX)
    np.testing.assert_allclose(last.astype(int), np.asarray(resized).astype(int), atol=1)
