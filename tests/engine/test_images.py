"""Image files of every kind become the RGB that a person would see; the rest is refused."""

import contextlib
import struct
import threading
import warnings
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.images import (
    DecodedImage,
    ImageError,
    ImageLimits,
    decode,
    difference_hash,
    encode_png,
    image_id,
)

HW = (16, 24)


def picture(grey: bool = False) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Four flat quarters, so that turning shows and JPEG's blocks stay flat."""
    pixels = np.zeros((*HW, 3), dtype=np.uint8)
    for index, colour in enumerate([(250, 10, 20), (30, 200, 60), (40, 80, 220), (240, 240, 90)]):
        rows, columns = (
            slice(8 * (index // 2), 8 * (index // 2) + 8),
            slice(*((0, 16) if index % 2 == 0 else (16, 24))),
        )
        pixels[rows, columns] = (50 + 60 * index,) * 3 if grey else colour
    return pixels


def of_mode(mode: str) -> tuple[Image.Image, np.ndarray[Any, Any]]:
    """A file's picture in a mode, and the RGB that it shows."""
    grey, colour = picture(grey=True), picture()
    if mode == "1":
        black_white = np.where(grey > 120, 255, 0).astype(np.uint8)
        return Image.fromarray(black_white[..., 0]).convert("1"), black_white
    if mode in ("L", "LA"):
        return Image.fromarray(grey).convert(mode), grey
    if mode == "I;16":
        return Image.fromarray(grey[..., 0].astype(np.uint16) * 257), grey
    if mode == "F":
        return Image.fromarray(grey[..., 0].astype(np.float32) / 255), grey
    if mode in ("P", "P transparent"):
        indexed = Image.fromarray(colour).quantize(4)
        if mode == "P":
            return indexed, colour
        indexed.info["transparency"] = indexed.getpixel((0, 0))
        colour[:8, :16] = 255
        return indexed, colour
    if mode == "RGBA":
        alpha = np.full((*HW, 1), 255, dtype=np.uint8)
        alpha[:8, :16] = 0
        image = Image.fromarray(np.concatenate([colour, alpha], axis=2))
        colour[:8, :16] = 255
        return image, colour
    return Image.fromarray(colour).convert(mode), colour


MODES = [
    ("PNG", "1", 1),
    ("PNG", "L", 8),
    ("PNG", "LA", 8),
    ("PNG", "P", 2),
    ("PNG", "P transparent", 2),
    ("PNG", "RGB", 8),
    ("PNG", "RGBA", 8),
    ("PNG", "I;16", 16),
    ("TIFF", "F", 32),
    ("TIFF", "I;16", 16),
    ("TIFF", "CMYK", 8),
    ("TIFF", "RGBA", 8),
    ("JPEG", "L", 8),
    ("JPEG", "RGB", 8),
    ("JPEG", "CMYK", 8),
    ("WEBP", "RGB", 8),
    ("WEBP", "RGBA", 8),
    ("BMP", "RGB", 8),
]
QUALITY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}


def to_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **QUALITY.get(kind, {}), **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "bit_depth"), MODES, ids=[f"{kind} {mode}" for kind, mode, _ in MODES]
)
def test_a_mode_becomes_what_it_shows(kind: str, mode: str, bit_depth: int) -> None:
    image, expected = of_mode(mode)
    found = decode(to_file(image, kind))
    assert isinstance(found, DecodedImage)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.flags.c_contiguous
    assert found.pixels.flags.writeable
    assert (found.format, found.bit_depth, found.num_frames) == (kind, bit_depth, 1)
    assert found.had_alpha == ("A" in mode or "transparent" in mode)
    tolerance = 4 if kind == "JPEG" or mode == "CMYK" else 0
    np.testing.assert_allclose(found.pixels.astype(int), expected.astype(int), atol=tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind, mode, _ in MODES if kind != "BMP"],
    ids=[f"{kind} {mode}" for kind, mode, _ in MODES if kind != "BMP"],
)
def test_a_turned_picture_stands_upright(kind: str, mode: str, orientation: int) -> None:
    image, shown = of_mode(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    oracle = Image.fromarray(shown)
    oracle.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(oracle))
    found = decode(to_file(image, kind, exif=exif.tobytes())).pixels
    assert found.shape == expected.shape
    tolerance = 4 if kind == "JPEG" or mode == "CMYK" else 0
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=tolerance)


def test_broken_exif_costs_nothing_but_the_turn() -> None:
    image, shown = of_mode("RGB")
    for exif in (b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b""):
        np.testing.assert_array_equal(decode(to_file(image, "PNG", exif=exif)).pixels, shown)


def test_half_transparent_is_laid_on_white() -> None:
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[..., 3] = [[0, 51], [255, 102]]
    found = decode(to_file(Image.fromarray(pixels), "PNG")).pixels
    np.testing.assert_array_equal(found[..., 0], [[255, 204], [0, 153]])


def test_sixteen_bits_are_stretched_only_when_asked() -> None:
    dark = np.linspace(100, 1100, 1000).reshape(20, 50).astype(np.uint16)
    data = to_file(Image.fromarray(dark), "PNG")
    whole = decode(data, ImageLimits(intensity="range")).pixels
    np.testing.assert_array_equal(whole[..., 0], np.rint(dark / 257))
    stretched = decode(data, ImageLimits(intensity="percentile")).pixels
    assert stretched.min() == 0
    assert stretched.max() == 255


def test_twelve_bits_use_their_whole_range() -> None:
    data = to_file(Image.fromarray(np.array([[0, 4095]], dtype=np.uint16)), "TIFF")
    # The file as a 12-bit camera writes it: two pixels in three bytes.
    tagged = data.replace(struct.pack("<HHII", 258, 3, 1, 16), struct.pack("<HHII", 258, 3, 1, 12))
    assert tagged != data
    offset = struct.unpack("<I", tagged[tagged.index(struct.pack("<HHI", 273, 4, 1)) + 8 :][:4])[0]
    tagged = tagged[:offset] + b"\x00\x0f\xff" + tagged[offset + 3 :]
    assert decode(tagged).pixels[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([0.0, 0.5, 1.0], [0, 128, 255], id="unit range is kept"),
        pytest.param([0.2, 0.2, 0.2], [51, 51, 51], id="constant in the unit range"),
        pytest.param([-100.0, 0.0, 100.0], [0, 128, 255], id="another range is stretched"),
        pytest.param([7.0, 7.0, 7.0], [0, 0, 0], id="constant elsewhere"),
        pytest.param([np.nan, 0.0, 1.0], [0, 0, 255], id="not a number is black"),
        pytest.param([np.inf, 0.0, 1.0], [255, 0, 255], id="infinite is white"),
        pytest.param([np.nan, np.nan, np.nan], [0, 0, 0], id="nothing but that"),
    ],
)
def test_floats(values: list[float], expected: list[int]) -> None:
    data = to_file(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    assert decode(data).pixels[0, :, 0].tolist() == expected


def test_signed_numbers_are_stretched() -> None:
    data = to_file(Image.fromarray(np.array([[-5, 0, 5]], dtype=np.int32)), "TIFF")
    assert decode(data).pixels[0, :, 0].tolist() == [0, pytest.approx(128, abs=1), 255]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_of_many_pictures_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "lime", "blue")]
    found = decode(to_file(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert found.num_frames == 3
    assert (found.pixels == [255, 0, 0]).all()


def test_a_cameras_mpo_is_a_jpeg() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    stream = BytesIO()
    frames[0].save(stream, "MPO", save_all=True, append_images=frames[1:])
    found = decode(stream.getvalue())
    assert (found.format, found.num_frames) == ("JPEG", 2)


GOOD = to_file(of_mode("RGB")[0], "PNG")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def webp_header(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello", "not an image", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image", id="SVG"),
        pytest.param(to_file(of_mode("P")[0], "GIF"), "not an image", id="GIF"),
        pytest.param(to_file(of_mode("RGB")[0], "PDF"), "not an image", id="PDF"),
        pytest.param(GOOD[:20], "not an image|broken", id="PNG header cut off"),
        pytest.param(GOOD[: len(GOOD) // 2], "broken or cut off PNG", id="PNG cut off"),
        pytest.param(
            to_file(of_mode("RGB")[0], "JPEG")[:-40], "broken or cut off JPEG", id="JPEG cut off"
        ),
        pytest.param(
            to_file(of_mode("RGB")[0], "TIFF")[:-40],
            "not an image|broken",
            id="TIFF cut off",
        ),
        pytest.param(to_file(of_mode("RGB")[0], "BMP")[:-40], "cut off BMP", id="BMP cut off"),
        pytest.param(png_header(60_000, 60_000), "over the limit of 200000000", id="PNG bomb"),
        pytest.param(webp_header(16_000, 16_000), "over the limit of 200000000", id="WebP bomb"),
        pytest.param(png_header(0, 5), "not an image|broken|without", id="no width"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_the_limit_counts_pixels(kind: str) -> None:
    data = to_file(of_mode("RGB")[0], kind)
    assert decode(data, ImageLimits(max_pixels=HW[0] * HW[1])).pixels.shape == (*HW, 3)
    with pytest.raises(ImageError, match="24 x 16 pixels are over the limit of 383"):
        decode(data, ImageLimits(max_pixels=HW[0] * HW[1] - 1))


def test_the_limit_of_pillow_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for kind in ("PNG", "TIFF", "WEBP"):
        assert decode(to_file(of_mode("RGB")[0], kind)).pixels.shape == (*HW, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"max_pixels": 0}, "max_pixels"), ({"intensity": "log"}, "intensity")],
)
def test_limits_that_make_no_sense_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        ImageLimits(**changes)


def test_pillow_stays_silent_and_nobody_else_does() -> None:
    indexed = of_mode("P")[0]
    indexed.info["transparency"] = bytes([0, 128, 255, 255])
    assert decode(to_file(indexed, "PNG")).had_alpha
    with pytest.warns(UserWarning, match="loud"):
        warnings.warn("loud", stacklevel=1)


def test_threads_leave_the_filters_as_they_were() -> None:
    before, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    threads = [threading.Thread(target=lambda: [decode(GOOD) for _ in range(30)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    assert limit == Image.MAX_IMAGE_PIXELS


def survives(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        assert decode(data, ImageLimits(max_pixels=10_000)).pixels.shape[2] == 3


FILES = [
    to_file(of_mode(mode)[0], kind)
    for kind, mode in (("PNG", "P"), ("JPEG", "RGB"), ("TIFF", "I;16"), ("WEBP", "RGB"))
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(1, len(data)))] if draw(st.booleans()) else data)


@given(data=damaged())
@settings(max_examples=150, deadline=None)
def test_no_damage_gets_past(data: bytes) -> None:
    survives(data)


@pytest.mark.slow
@given(data=damaged())
@settings(max_examples=5_000, deadline=None)
def test_no_damage_gets_past_in_many_tries(data: bytes) -> None:
    survives(data)


def test_png_gives_the_pixels_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode_png(pixels)).pixels, pixels)
    np.testing.assert_array_equal(decode(encode_png(pixels[:, ::-1])).pixels, pixels[:, ::-1])
    for wrong in (pixels[..., 0], pixels.astype(float), pixels[:0]):
        with pytest.raises(ValueError, match=r"^pixels: "):
            encode_png(wrong)


def test_an_id_is_the_hash_of_the_bytes() -> None:
    assert image_id(b"") == "e3b0c44298fc1c149afbf4c8996fb924"
    assert image_id(GOOD) != image_id(GOOD + b"\x00")


def smooth(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC))


def test_near_duplicates_have_near_hashes_and_others_do_not() -> None:
    original = smooth(0)
    reference = difference_hash(original)
    assert 0 <= reference < 2**64
    smaller = np.asarray(Image.fromarray(original).resize((80, 60), Image.Resampling.BICUBIC))
    lossy = decode(to_file(Image.fromarray(original), "JPEG")).pixels
    for near in (smaller, lossy, np.clip(original.astype(int) + 3, 0, 255).astype(np.uint8)):
        assert (reference ^ difference_hash(near)).bit_count() <= 3
    others = [difference_hash(smooth(seed)) for seed in range(1, 20)]
    assert min((reference ^ other).bit_count() for other in others) > 8
