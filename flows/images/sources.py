"""Where image bytes come from: named places, so that no absolute path enters the store.

An image's uri is `source:NAME/relative/path`; `sources.toml` says which folder NAME is, or which
`s3://bucket/prefix`, or which `https://host`. Moving the images means editing one line. Bytes are
trusted only after their SHA-256 gives the image id.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from engine import images
from flows.errors import StageError, UsageError
from flows.images.remote import RemoteImages, is_remote
from storage.durable import write_durably
from storage.errors import StorageError

FILE_NAME = "sources.toml"
SCHEME = "source:"

# An image's file, or its address elsewhere: `s3://bucket/key` or `https://host/path`.
Place = Path | str


@dataclass(frozen=True)
class Sources:
    """Named folders of images, and named addresses below which there are some."""

    folders: Mapping[str, Path] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    def uri(self, place: Place) -> tuple["Sources", str]:
        """These sources with the folder or address of `place` among them, and the uri of it."""
        place = place if isinstance(place, str) else place.resolve()
        if (known := self.known_uri(place)) is not None:
            return self, known
        known_with = self.with_place(_above(place))
        uri = known_with.known_uri(place)
        assert uri is not None, "its own source was added"
        return known_with, uri

    def known_uri(self, place: Place) -> str | None:
        """The uri of a place below one of these sources; None for another."""
        if isinstance(place, str):
            for name, address in self.addresses.items():
                if place.startswith(f"{address}/"):
                    return f"{SCHEME}{name}/{place[len(address) + 1 :]}"
            return None
        for name, folder in self.folders.items():
            if place.is_relative_to(folder):
                return f"{SCHEME}{name}/{place.relative_to(folder).as_posix()}"
        return None

    def with_place(self, place: Place) -> "Sources":
        """These sources with a folder or an address among them, unless one of them holds it."""
        if isinstance(place, str):
            address = place.rstrip("/")
            if any(f"{address}/".startswith(f"{known}/") for known in self.addresses.values()):
                return self
            # Of all of it: machines that share a store but no `sources.toml` choose the same name.
            name = self._free_name(address.partition("://")[2])
            return Sources(self.folders, {**self.addresses, name: address})
        folder = place.resolve()
        if any(folder.is_relative_to(known) for known in self.folders.values()):
            return self
        name = self._free_name(folder.name)
        return Sources({**self.folders, name: folder}, self.addresses)

    def is_elsewhere(self, uri: str) -> bool:
        """Whether `uri` names what must be fetched, and no file of this machine."""
        return uri.removeprefix(SCHEME).partition("/")[0] in self.addresses

    def place(self, uri: str) -> Place:
        """What `uri` names; raises StageError for a source that nobody has told us of."""
        name, _, relative = uri.removeprefix(SCHEME).partition("/")
        if name in self.addresses:
            return f"{self.addresses[name]}/{relative}"
        if name not in self.folders:
            raise StageError(
                f"{FILE_NAME}: no folder named {name!r}, which {uri} needs; add it, as it stands "
                "where the image was added"
            )
        return self.folders[name] / relative

    def path(self, uri: str) -> Path:
        """The file that `uri` names; raises StageError also where it names no file."""
        place = self.place(uri)
        if isinstance(place, str):
            raise StageError(f"{place}: is no file on this machine")
        return place

    def _free_name(self, wish: str) -> str:
        return _free_name(wish, {**self.folders, **self.addresses})


def holder(place: Place) -> str:
    """What a place is in, in a word: a folder, the last part of a prefix, a host."""
    above = _above(place)
    return above.rpartition("/")[2] if isinstance(above, str) else above.name


def _above(place: Place) -> Place:
    """The folder of a file, the prefix of an object, the host of an https address."""
    if isinstance(place, Path):
        return place.parent
    if place.startswith("https://"):
        return f"https://{urlsplit(place).netloc}"
    return place.rpartition("/")[0]


def _free_name(wish: str, taken: Mapping[str, object]) -> str:
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
    for name, place in table.items():
        if not isinstance(place, str):
            raise UsageError(
                f"{path}: {name}: must be a folder, s3://BUCKET/PREFIX or https://HOST, "
                f"but got {place!r}"
            )
    return Sources(
        {name: (root / place).resolve() for name, place in table.items() if not is_remote(place)},
        {name: place.rstrip("/") for name, place in table.items() if is_remote(place)},
    )


def write_sources(root: Path, sources: Sources) -> None:
    """Write `sources.toml`; folders inside the workspace are written relative to it."""
    lines = ["# Folders of images, s3://BUCKET/PREFIX, https://HOST. Moved one? Correct its line."]
    for name, folder in sources.folders.items():
        shown = folder.relative_to(root) if folder.is_relative_to(root) else folder
        lines.append(f"{json.dumps(name)} = {json.dumps(shown.as_posix())}")
    for name, address in sources.addresses.items():
        lines.append(f"{json.dumps(name)} = {json.dumps(address)}")
    # Whole or not at all: with half of it, no image could be found again.
    write_durably(root / FILE_NAME, ("\n".join(lines) + "\n").encode())


@dataclass(frozen=True)
class ImageReader:
    """Reads and checks images by uri; picklable, so that workers can have one.

    Without `remote` it reads files only.
    """

    sources: Sources
    limits: images.ImageLimits
    remote: RemoteImages | None = None

    def pixels(self, uri: str, image_id: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; raises StageError when the file is gone or no longer the same."""
        place = self.sources.place(uri)
        data = self._data(place, image_id)
        if images.image_id(data) != image_id:
            raise StageError(
                f"{place}: its bytes are no longer those of image {image_id}; put them back"
            )
        try:
            return images.decode(data, self.limits).pixels
        except images.ImageError as error:
            raise StageError(f"{place}: {error}; check images in maskloop.toml") from error

    def unchecked(self, place: Place) -> bytes:
        """What lies at a place, whatever it is; raises OSError, StorageError."""
        if isinstance(place, Path):
            return place.read_bytes()
        return self._remote(place).fetch(place)

    def bring(self, uri: str, image_id: str) -> int:
        """Have an image that lies elsewhere at hand; its bytes, 0 for one of this machine's."""
        place = self.sources.place(uri)
        return len(self._data(place, image_id)) if isinstance(place, str) else 0

    def _data(self, place: Place, image_id: str) -> bytes:
        try:
            if isinstance(place, Path):
                return place.read_bytes()
            return self._remote(place).cached(place, image_id)
        except StorageError as error:
            raise StageError(f"{error}; or correct {FILE_NAME}") from error
        except OSError as error:
            raise StageError(
                f"{place}: {error.strerror}; put it back or correct {FILE_NAME}"
            ) from error

    def _remote(self, place: str) -> RemoteImages:
        if self.remote is None:
            raise StageError(f"{place}: must be read with the settings of a workspace")
        return self.remote
