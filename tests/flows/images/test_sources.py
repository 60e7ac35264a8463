"""Names for folders of images: no absolute path enters the store, and bytes are checked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.images import ImageLimits, encode_png, image_id
from flows.errors import StageError, UsageError
from flows.images.sources import ImageReader, Sources, read_sources, write_sources


def test_a_file_is_named_within_its_folder(tmp_path: Path) -> None:
    known = Sources({"photos": tmp_path})
    same, uri = known.uri(tmp_path / "deep" / "one.png")
    assert (same, uri) == (known, "source:photos/deep/one.png")
    assert known.path(uri) == tmp_path / "deep" / "one.png"


def test_a_new_folder_gets_a_free_and_plain_name(tmp_path: Path) -> None:
    first, one = Sources().uri(tmp_path / "my photos" / "1.png")
    second, two = first.uri(tmp_path / "other" / "my photos" / "1.png")
    assert (one, two) == ("source:my-photos/1.png", "source:my-photos-2/1.png")
    assert second.path(two) == tmp_path / "other" / "my photos" / "1.png"
    assert second.with_place(tmp_path / "my photos" / "deep") == second


def test_an_unknown_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"sources\.toml: no folder named 'gone'"):
        Sources({"photos": tmp_path}).path("source:gone/1.png")


@pytest.mark.parametrize("name", ["photos", 'with "quotes"', "émile"])
def test_sources_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    folders = {name: tmp_path / name, "outside": Path("/somewhere/else").resolve()}
    write_sources(tmp_path, Sources(folders))
    assert read_sources(tmp_path).folders == folders
    # What lies inside moves with the workspace.
    assert str(tmp_path) not in (tmp_path / "sources.toml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "not a TOML file"),
        ("a = 3", "a: must be a folder, s3:.* got 3"),
    ],
    ids=["broken", "no folder"],
)
def test_broken_sources_are_a_mistake_of_the_users(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sources.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_sources(tmp_path)


class TestReader:
    @pytest.fixture
    def picture(self, tmp_path: Path) -> Any:
        path = tmp_path / "one.png"
        path.write_bytes(encode_png(np.full((6, 8, 3), 7, np.uint8)))
        return path

    def reader(self, picture: Path, max_pixels: int = 100) -> ImageReader:
        return ImageReader(Sources({"photos": picture.parent}), ImageLimits(max_pixels=max_pixels))

    def test_reads_pixels(self, picture: Path) -> None:
        name = image_id(picture.read_bytes())
        pixels = self.reader(picture).pixels("source:photos/one.png", name)
        assert np.array_equal(pixels, np.full((6, 8, 3), 7))

    def test_a_file_that_is_gone(self, picture: Path) -> None:
        with pytest.raises(StageError, match=r"two\.png: No such file.*put it back"):
            self.reader(picture).pixels("source:photos/two.png", "0" * 32)

    def test_other_bytes(self, picture: Path) -> None:
        with pytest.raises(StageError, match="no longer those of image 000"):
            self.reader(picture).pixels("source:photos/one.png", "0" * 32)

    def test_a_limit_that_was_lowered(self, picture: Path) -> None:
        name = image_id(picture.read_bytes())
        with pytest.raises(StageError, match=r"over the limit of 10.*check images in maskloop"):
            self.reader(picture, 10).pixels("source:photos/one.png", name)
