"""Image files as a user names them: found, read, and told apart from what is no image."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from engine import images
from flows.errors import UsageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One readable image file with what its bytes say."""

    path: Path
    image_id: str
    dhash: int
    height: int
    width: int
    format: str
    mode: str
    bit_depth: int
    had_alpha: bool
    num_frames: int


def read_images(
    paths: Sequence[Path], limits: images.ImageLimits, progress: Progress
) -> tuple[list[FoundImage], list[str]]:
    """The readable ones of `paths`, in their order, and a line for each of the others."""
    found: list[FoundImage] = []
    problems: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda path: _look(path, limits), paths)
        for done, result in enumerate(results, start=1):
            if isinstance(result, FoundImage):
                found.append(result)
            else:
                problems.append(result)
            progress(done, len(paths))
    return found, problems


def _look(path: Path, limits: images.ImageLimits) -> FoundImage | str:
    if (problem := unwritable(path)) is not None:
        return problem
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return f"{path}: no such file; copy it there or correct the file name"
    except OSError as error:
        return f"{path}: {error.strerror}"
    try:
        decoded = images.decode(data, limits)
    except images.ImageError as error:
        return f"{path}: {error}"
    height, width = decoded.pixels.shape[:2]
    return FoundImage(
        path=path,
        image_id=images.image_id(data),
        dhash=images.difference_hash(decoded.pixels),
        height=height,
        width=width,
        format=decoded.format,
        mode=decoded.mode,
        bit_depth=decoded.bit_depth,
        had_alpha=decoded.had_alpha,
        num_frames=decoded.num_frames,
    )


def unwritable(path: Path) -> str | None:
    """Why the name of a file cannot be written down, if so."""
    if str(path).isprintable():
        return None
    # Among these are halves of surrogate pairs, which Python puts where a name is not UTF-8.
    return f"{str(path)!a}: a file name that cannot be written down; rename the file"


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
