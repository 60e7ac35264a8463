"""Image files as a user names them: found, read, and told apart from what is no image."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    if not str(path).isprintable():
        # Among these are halves of surrogate pairs, which Python puts where a name is not UTF-8.
        return f"{str(path)!a}: a file name that cannot be written down; rename the file"
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


def expand(patterns: Sequence[str]) -> list[Path]:
    """The image files that files, folders (all below them) and globs name, each once.

    Raises UsageError for a name under which there is none.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
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
        paths.update(dict.fromkeys(path.resolve() for path in matches))
    return list(paths)


def _glob(pattern: Path) -> list[Path]:
    anchor = Path(pattern.anchor)
    try:
        return [path for path in anchor.glob(str(pattern.relative_to(anchor))) if path.is_file()]
    except ValueError as error:
        raise UsageError(f"{pattern}: {error}; write a glob such as scans/**/*.tif") from error
