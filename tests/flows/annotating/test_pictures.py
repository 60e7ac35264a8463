"""Pictures for a page: small ones from memory, large ones decoded once and cut on disk."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine import tiles
from flows.annotating.pictures import Pictures
from flows.intake.adding import add_images
from flows.workspace import Workspace

LARGE_HW = (1100, 700)


@pytest.fixture
def small(filled: Workspace) -> str:
    return str(filled.lake.rows("SELECT image_id FROM images ORDER BY 1 LIMIT 1")[0]["image_id"])


@pytest.fixture
def large(filled: Workspace, tmp_path: Path) -> tuple[str, str]:
    """Two pictures over 1024 pixels high."""
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(2):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 256, size=(*LARGE_HW, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    add_images(filled, [str(folder)], strict=True, progress=lambda _done, _total: None)
    rows = filled.lake.rows("SELECT image_id FROM images WHERE height = 1100 ORDER BY 1")
    first, second = (str(row["image_id"]) for row in rows)
    return first, second


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the pictures that are decoded from now on."""
    decoded: list[str] = []
    original = Workspace.pixels

    def pixels(self: Workspace, image_id: str) -> Any:
        decoded.append(image_id)
        return original(self, image_id)

    monkeypatch.setattr(Workspace, "pixels", pixels)
    return decoded


def kept(workspace: Workspace) -> set[str]:
    return {path.name for path in (workspace.root / "cache" / "pictures").iterdir()}


def test_a_small_picture_needs_no_disk(filled: Workspace, small: str) -> None:
    pictures = Pictures(filled)
    pixels = filled.pixels(small)
    np.testing.assert_array_equal(pictures.pixels(small), pixels)
    np.testing.assert_array_equal(pictures.part(small, 0, (3, 5, 40, 30)), pixels[5:30, 3:40])
    assert kept(filled) == set()


def test_a_large_picture_is_decoded_once(
    filled: Workspace, large: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(tiles.levels(filled.pixels(large[0])))
    decoded = watched(monkeypatch)
    for _ in range(2):
        pictures = Pictures(filled)  # a second server finds what the first kept
        for level, pixels in enumerate(expected):
            height, width = pixels.shape[:2]
            part = pictures.part(large[0], level, (0, 0, width, height))
            np.testing.assert_array_equal(part, pixels)
        np.testing.assert_array_equal(pictures.pixels(large[0]), expected[0])
    assert decoded == [large[0]]
    assert kept(filled) == {f"{large[0]}.levels"}


def test_many_who_ask_at_once_wait_for_one(
    filled: Workspace, large: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = watched(monkeypatch)
    pictures, found = Pictures(filled), []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(pictures.part(large[0], 1, (0, 0, 350, 512)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert decoded == [large[0]]


def test_the_folder_holds_no_more_than_it_may(filled: Workspace, large: tuple[str, str]) -> None:
    annotator = replace(filled.settings.annotator, cache_gb=0.004)
    tight = replace(filled, settings=replace(filled.settings, annotator=annotator))
    pictures = Pictures(tight)
    for image_id in large:
        pictures.part(image_id, 0, (0, 0, 1, 1))
    assert kept(tight) == {f"{large[1]}.levels"}


def test_a_full_disk_makes_it_slow_and_not_blind(
    filled: Workspace, large: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiles, "write_levels", full)
    pictures, pixels = Pictures(filled), filled.pixels(large[0])
    np.testing.assert_array_equal(pictures.part(large[0], 0, (0, 0, 9, 7)), pixels[:7, :9])
    np.testing.assert_array_equal(pictures.pixels(large[0]), pixels)
    assert kept(filled) == set()


def test_a_damaged_file_is_made_again(filled: Workspace, large: tuple[str, str]) -> None:
    pictures = Pictures(filled)
    expected = pictures.part(large[0], 0, (0, 0, 9, 7))
    [path] = (filled.root / "cache" / "pictures").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    np.testing.assert_array_equal(pictures.part(large[0], 0, (0, 0, 9, 7)), expected)
    assert path.read_bytes() == whole


def test_what_there_is_not(filled: Workspace, small: str) -> None:
    pictures = Pictures(filled)
    with pytest.raises(LookupError):
        pictures.pixels("f" * 32)
    with pytest.raises(LookupError):
        pictures.part("f" * 32, 0, (0, 0, 1, 1))
    with pytest.raises(ValueError, match="window: must be in"):
        pictures.part(small, 0, (0, 0, 500, 1))
