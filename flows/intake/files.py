"""Image files as a user names them: found, read, and told apart from what is no image."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from threading import Semaphore

from engine import images
from flows.errors import StageError, UsageError
from flows.images.sources import ImageReader, Place
from storage.errors import StorageError, TransientStorageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
Progress = Callable[[int, int], None]
# So many images in a row whose server is away: the others' is, too.
_MOST_AWAY = 32


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One readable image with what its bytes say."""

    place: Place
    image_id: str
    dhash: int
    height: int
    width: int
    format: str
    mode: str
    bit_depth: int
    had_alpha: bool
    num_frames: int


@dataclass(frozen=True)
class Unread:
    """Why an image stays out; `passes` where only its server was away."""

    line: str
    passes: bool = False


def read_images(
    places: Sequence[Place],
    reader: ImageReader,
    progress: Progress,
    *,
    stored: Mapping[Place, FoundImage] | None = None,
    note: Callable[[FoundImage], None] = lambda _image: None,
) -> tuple[list[FoundImage], list[str]]:
    """The readable ones of `places`, in their order, and a line for each of the others.

    `stored` ones are not read again; the others are given to `note`, by several threads, as soon
    as they are read. Raises StageError when a server stays away.
    """
    stored = stored or {}
    remote = any(isinstance(place, str) for place in places)
    num_threads = reader.remote.num_threads if remote and reader.remote else os.cpu_count() or 1
    # However many are fetched, so many are decoded and lie in memory as pixels.
    decoding = Semaphore(os.cpu_count() or 1)
    found: list[FoundImage] = []
    problems: list[str] = []
    away = 0
    pool = ThreadPoolExecutor(num_threads)
    try:
        results = pool.map(
            lambda place: stored.get(place) or _look(place, reader, decoding, note), places
        )
        for done, result in enumerate(results, start=1):
            if isinstance(result, FoundImage):
                found.append(result)
            else:
                problems.append(result.line)
            away = away + 1 if isinstance(result, Unread) and result.passes else 0
            if away >= _MOST_AWAY:
                raise StageError(f"{problems[-1]} ({away} images in a row)")
            progress(done, len(places))
    finally:
        pool.shutdown(cancel_futures=True)
    return found, problems


def _look(
    place: Place,
    reader: ImageReader,
    decoding: Semaphore,
    note: Callable[[FoundImage], None],
) -> FoundImage | Unread:
    data = read_place(place, reader)
    if isinstance(data, Unread):
        return data
    try:
        with decoding:
            found = _found(place, data, reader)
    except images.ImageError as error:
        return Unread(f"{place}: {error}")
    note(found)
    return found


def read_place(place: Place, reader: ImageReader) -> bytes | Unread:
    """What lies at a place, whatever it is, or why it cannot be read."""
    if (problem := unwritable(place)) is not None:
        return Unread(problem)
    try:
        return reader.unchecked(place)
    except FileNotFoundError:
        return Unread(f"{place}: no such file; copy it there or correct the file name")
    except OSError as error:
        return Unread(f"{place}: {error.strerror}; correct the file name or make it readable")
    except StorageError as error:
        return Unread(str(error), passes=isinstance(error, TransientStorageError))


def _found(place: Place, data: bytes, reader: ImageReader) -> FoundImage:
    decoded = images.decode(data, reader.limits)
    height, width = decoded.pixels.shape[:2]
    identity = images.image_id(data)
    if isinstance(place, str) and reader.remote is not None:
        # It will be wanted again soon.
        reader.remote.keep(identity, data)
    return FoundImage(
        place=place,
        image_id=identity,
        dhash=images.difference_hash(decoded.pixels),
        height=height,
        width=width,
        format=decoded.format,
        mode=decoded.mode,
        bit_depth=decoded.bit_depth,
        had_alpha=decoded.had_alpha,
        num_frames=decoded.num_frames,
    )


def unwritable(place: Place) -> str | None:
    """Why the name of a file cannot be written down, if so."""
    if str(place).isprintable():
        return None
    # Among these are halves of surrogate pairs, which Python puts where a name is not UTF-8.
    return f"{str(place)!a}: a file name that cannot be written down; rename the file"


def expand(patterns: Sequence[str]) -> list[Path]:
    """The image files that files, folders (all below them) and globs name, each once.

    Raises UsageError for a name under which there is none.
    """
    found = (path.resolve() for pattern in patterns for path in _matches(pattern))
    return list(dict.fromkeys(found))


def named(patterns: Sequence[str]) -> dict[str, Path]:
    """The same by names that hang on no other image: the path below the folder that was named.

    Raises UsageError for two files of one name.
    """
    paths: dict[str, Path] = {}
    for pattern in patterns:
        start = start_of(pattern)
        folder = start if start.is_dir() else start.parent
        for path in _matches(pattern):
            name = path.relative_to(folder).as_posix()
            if not paths.setdefault(name, path).samefile(path):
                raise UsageError(
                    f"{paths[name]} and {path}: would both be {name}; name the folder above both"
                )
    return paths


def left_out(patterns: Sequence[str]) -> list[str]:
    """A line for each folder among `patterns` in which there are files of other endings.

    Hidden files and folders are not counted.
    """
    lines = []
    for folder in filter(Path.is_dir, map(Path, patterns)):
        endings = Counter(
            path.suffix.lower() or "none"
            for path in folder.rglob("*")
            if path.suffix.lower() not in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        )
        if endings:
            most = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(5))
            lines.append(
                f"{folder}: files left out by their endings: {most}"
                f"{', ...' if len(endings) > 5 else ''}"
            )
    return lines


def pages_left_out(found: Sequence[FoundImage]) -> list[str]:
    """A line, if there are images of which only the first page or frame is read."""
    many = [image for image in found if image.num_frames > 1]
    if not many:
        return []
    return [
        "images of which only the first page or frame is read: "
        f"{len(many)}, such as {many[0].place}"
    ]


def start_of(pattern: str) -> Path:
    """What a pattern names, and of a glob the part before the first wildcard."""
    path = Path(pattern)
    if path.exists():
        return path
    return Path(*takewhile(lambda part: not set(part) & set("*?["), path.parts))


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        below = (p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        matches = sorted(p for p in below if p.is_file())
    elif path.is_file():
        matches = [path]
    else:
        matches = sorted(_glob(path))
    if not matches:
        raise UsageError(
            f"{pattern}: no image file there; expected files, folders or globs of "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return matches


def _glob(pattern: Path) -> list[Path]:
    anchor = Path(pattern.anchor)
    try:
        return [path for path in anchor.glob(str(pattern.relative_to(anchor))) if path.is_file()]
    except ValueError as error:
        raise UsageError(f"{pattern}: {error}; write a glob such as scans/**/*.tif") from error
