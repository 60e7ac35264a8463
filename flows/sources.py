"""Where image bytes come from: named folders, so that no absolute path enters the store.

An image's uri is `source:NAME/relative/path`; `sources.toml` says which folder NAME is. Moving the
images means editing one line. Bytes are trusted only after their SHA-256 gives the image id.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine import images
from flows.errors import StageError, UsageError
from storage.durable import write_durably

FILE_NAME = "sources.toml"
SCHEME = "source:"


@dataclass(frozen=True)
class Sources:
    """Named folders of images."""

    folders: Mapping[str, Path] = field(default_factory=dict)

    def uri(self, path: Path) -> tuple["Sources", str]:
        """These sources with `path`'s folder among them, and the uri of `path`."""
        path = path.resolve()
        for name, folder in self.folders.items():
            if path.is_relative_to(folder):
                return self, f"{SCHEME}{name}/{path.relative_to(folder).as_posix()}"
        name = _free_name(path.parent.name, self.folders)
        return Sources({**self.folders, name: path.parent}), f"{SCHEME}{name}/{path.name}"

    def with_folder(self, folder: Path) -> "Sources":
        """These sources with `folder` among them, unless one of them holds it already."""
        folder = folder.resolve()
        if any(folder.is_relative_to(known) for known in self.folders.values()):
            return self
        return Sources({**self.folders, _free_name(folder.name, self.folders): folder})

    def path(self, uri: str) -> Path:
        """The file that `uri` names; raises StageError for a source that nobody has told us of."""
        name, _, relative = uri.removeprefix(SCHEME).partition("/")
        if name not in self.folders:
            raise StageError(f"{FILE_NAME}: no folder named {name!r}, which {uri} needs; add it")
        return self.folders[name] / relative


def _free_name(wish: str, taken: Mapping[str, Path]) -> str:
    base = "".join(c if c.isalnum() or c in "-_" else "-" for c in wish) or "images"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def read_sources(root: Path) -> Sources:
    """The sources of the workspace at `root`; relative folders are relative to it."""
    path = root / FILE_NAME
    if not path.is_file():
        return Sources()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error}); correct it") from error
    for name, folder in table.items():
        if not isinstance(folder, str):
            raise UsageError(f"{path}: {name}: must be a folder, but got {folder!r}")
    return Sources({name: (root / folder).resolve() for name, folder in table.items()})


def write_sources(root: Path, sources: Sources) -> None:
    """Write `sources.toml`; folders inside the workspace are written relative to it."""
    lines = ["# Folders of images. Moved one? Correct its line."]
    for name, folder in sources.folders.items():
        shown = folder.relative_to(root) if folder.is_relative_to(root) else folder
        lines.append(f"{json.dumps(name)} = {json.dumps(shown.as_posix())}")
    # Whole or not at all: with half of it, no image could be found again.
    write_durably(root / FILE_NAME, ("\n".join(lines) + "\n").encode())


@dataclass(frozen=True)
class ImageReader:
    """Reads and checks images by uri; picklable, so that workers can have one."""

    sources: Sources
    limits: images.ImageLimits

    def pixels(self, uri: str, image_id: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; raises StageError when the file is gone or no longer the same."""
        path = self.sources.path(uri)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StageError(
                f"{path}: {error.strerror}; put it back or correct {FILE_NAME}"
            ) from error
        if images.image_id(data) != image_id:
            raise StageError(
                f"{path}: its bytes are no longer those of image {image_id}; put them back"
            )
        try:
            return images.decode(data, self.limits).pixels
        except images.ImageError as error:
            raise StageError(f"{path}: {error}; check images in maskloop.toml") from error
