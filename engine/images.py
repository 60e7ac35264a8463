"""Image files to RGB arrays: what a file may be, and how each kind of pixel becomes 8-bit RGB.

Rotation by EXIF is applied. Transparent pixels are laid on white, as a page would show them. Of an
animation or a file of several pages the first picture counts. 16-bit grey is scaled by
`ImageLimits.intensity`; 16-bit colour is read by its high bytes, which is all that Pillow gives.
"""

import hashlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_EXPECTED = "expected a JPEG, PNG, WebP, BMP or TIFF image"
_PERCENTILES = (0.1, 99.9)
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_WIDE_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_HASH_COLUMNS, _HASH_ROWS = 9, 8


class ImageError(ValueError):
    """A file that is no usable image; the message says why."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What an image file may be, and how 16-bit grey becomes 8-bit.

    `intensity` "range" maps the whole range of the file's bit depth to 0..255; "percentile"
    stretches each image from its 0.1th to its 99.9th percentile.
    """

    max_pixels: int = 200_000_000
    intensity: Literal["range", "percentile"] = "range"

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels: must be at least 1, but got {self.max_pixels}")
        if self.intensity not in ("range", "percentile"):
            raise ValueError(f"intensity: must be range or percentile, but got {self.intensity!r}")


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """(H, W, 3) uint8 RGB, and what the file was: Pillow's format and mode, bits per channel."""

    pixels: Pixels
    format: str
    mode: str
    bit_depth: int
    had_alpha: bool
    num_frames: int


def decode(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> DecodedImage:
    """The image in `data`; raises ImageError for what is empty, broken, too large or no image.

    Only the header is read before the size is checked, so a bomb costs nothing. Safe in threads.
    """
    if not data:
        raise ImageError(f"the file is empty; {_EXPECTED}")
    _check_pixels(_webp_size(data), limits)
    with _our_own_limits():
        picture = _open(data)
        _check_pixels(picture.size, limits)
        try:
            return _read(picture, data, limits)
        except MemoryError as error:
            raise ImageError(
                f"{picture.width} x {picture.height} does not fit in memory; make the image smaller"
            ) from error
        # Pillow's decoders answer broken files with a dozen kinds of exceptions, among them
        # SyntaxError, struct.error and IndexError.
        except Exception as error:
            raise ImageError(
                f"a broken or cut off {_format(picture)} file ({error}); save or copy it anew"
            ) from error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image that can be read; {_EXPECTED}") from error
    except Exception as error:
        raise ImageError(f"a broken header ({error}); {_EXPECTED}") from error


def _check_pixels(size: tuple[int, int] | None, limits: ImageLimits) -> None:
    if size is None:
        return
    width, height = size
    if width * height == 0:
        raise ImageError(f"{width} x {height}: an image without pixels; save it anew")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{width} x {height} pixels are over the limit of {limits.max_pixels}; "
            "make the image smaller or raise max_pixels"
        )


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in a WebP header. Pillow cannot open one without decoding it."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = (int.from_bytes(data[start : start + 2], "little") for start in (26, 28))
    return width & 0x3FFF, height & 0x3FFF


_quiet_lock = threading.Lock()
_quiet_depth = 0
_saved: list[Any] = []


@contextmanager
def _our_own_limits() -> Iterator[None]:
    """Without Pillow's warnings and its own pixel limit, both global to the process.

    The first thread to enter switches them off, the last to leave restores them: plain
    `catch_warnings` in several threads can leave them off for ever.
    """
    global _quiet_depth
    with _quiet_lock:
        if _quiet_depth == 0:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
            _saved[:] = [catcher, Image.MAX_IMAGE_PIXELS]
            Image.MAX_IMAGE_PIXELS = None
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                catcher, Image.MAX_IMAGE_PIXELS = _saved
                catcher.__exit__(None, None, None)


def _format(picture: Image.Image) -> str:
    # MPO is a JPEG with more pictures behind it, as many cameras write them.
    return "JPEG" if picture.format == "MPO" else str(picture.format)


def _read(picture: Image.Image, data: bytes, limits: ImageLimits) -> DecodedImage:
    mode, bit_depth = picture.mode, _bit_depth(picture, data)
    num_frames = int(getattr(picture, "n_frames", 1))
    picture.load()
    had_alpha = picture.mode in _ALPHA_MODES or "transparency" in picture.info
    # Asked after loading: Pillow has turned TIFF files itself by then, and forgets that it did.
    turned = _turn(_to_rgb(picture, had_alpha, bit_depth, limits), _orientation(picture))
    return DecodedImage(
        # A copy: Pillow's own memory is read-only, which torch warns of.
        pixels=np.array(turned, order="C"),
        format=_format(picture),
        mode=mode,
        bit_depth=bit_depth,
        had_alpha=had_alpha,
        num_frames=num_frames,
    )


def _bit_depth(picture: Image.Image, data: bytes) -> int:
    if picture.format == "PNG":
        return data[24]
    if picture.format == "TIFF":
        bits = getattr(picture, "tag_v2", {}).get(258, 1)
        return int(bits[0] if isinstance(bits, tuple) else bits)
    return 1 if picture.mode == "1" else 8


def _to_rgb(picture: Image.Image, had_alpha: bool, bit_depth: int, limits: ImageLimits) -> Pixels:
    if picture.mode in _WIDE_MODES:
        grey = _to_8_bit(np.asarray(picture), bit_depth, limits)
        return np.repeat(grey[..., None], 3, axis=-1)
    if had_alpha:
        rgba = picture.convert("RGBA")
        page = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(page, rgba).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def _to_8_bit(values: npt.NDArray[Any], bit_depth: int, limits: ImageLimits) -> Pixels:
    """(H, W) of any number -> uint8. Floats in [0, 1] and unsigned integers have a known range.

    Other floats and signed integers are stretched by percentiles whatever the limits say: nothing
    in the file tells what is white.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    if limits.intensity == "range":
        if values.dtype.kind == "u":
            return _stretch(values, 0.0, float(2**bit_depth - 1))
        if values.dtype.kind == "f" and finite.min() >= 0 and finite.max() <= 1:
            return _stretch(values, 0.0, 1.0)
    low, high = np.percentile(finite, _PERCENTILES)
    return _stretch(values, float(low), float(high))


def _stretch(values: npt.NDArray[Any], low: float, high: float) -> Pixels:
    scaled = (values.astype(np.float32) - low) * (255.0 / (high - low) if high > low else 0.0)
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return np.asarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    # Broken EXIF data: the pixels are still good.
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Upright pixels, by the meaning of EXIF's orientation 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def image_id(data: bytes) -> str:
    """The name of an image: the first 32 hex digits of the SHA-256 of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def encode_png(pixels: Pixels) -> bytes:
    """(H, W, 3) uint8 RGB -> a PNG file; raises ValueError for another array."""
    _check_array(pixels)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def difference_hash(pixels: Pixels) -> int:
    """(H, W, 3) uint8 -> 64 bits that hardly change when a picture is resized or compressed.

    Each bit says whether a cell of a 9 x 8 grid is brighter than its left neighbour (dHash,
    N. Krawetz, "Kind of Like That", 2013). Raises ValueError for another array.
    """
    _check_array(pixels)
    small = (
        Image.fromarray(pixels)
        .convert("L")
        .resize((_HASH_COLUMNS, _HASH_ROWS), Image.Resampling.LANCZOS)
    )
    cells = np.asarray(small)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _check_array(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"pixels: must be (H, W, 3) uint8, but got {pixels.shape} {pixels.dtype}")
