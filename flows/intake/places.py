"""What a user names for images: files, folders, globs, `s3://`, `https://` and lists of those."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from flows.errors import StageError, UsageError
from flows.images.remote import HTTPS_IS_OFF, S3, RemoteImages, is_remote
from flows.images.sources import Place, Sources
from flows.intake.files import IMAGE_SUFFIXES, expand, start_of
from storage.errors import StorageError, TransientStorageError

_WEB = ("https://", "http://")
# As much of a file as tells whether it lists addresses.
_HEAD_BYTES = 4096


def places_of(patterns: Sequence[str], remote: RemoteImages) -> list[Place]:
    """The images that patterns name, each once, those at addresses in the order of their names.

    Raises UsageError for a pattern under which there is none, StageError when a server is away.
    """
    return list(dict.fromkeys(place for pattern in patterns for place in _named(pattern, remote)))


def with_places(sources: Sources, patterns: Sequence[str]) -> Sources:
    """`sources` with the folders and prefixes among the patterns."""
    for pattern in patterns:
        if pattern.startswith(S3):
            # What names one object has no prefix to remember.
            if not _has_suffix(pattern):
                sources = sources.with_place(pattern)
        elif not pattern.startswith(_WEB) and (folder := start_of(pattern)).is_dir():
            sources = sources.with_place(folder)
    return sources


def place_in(base: Place, file_name: str) -> Place:
    """An image by its file name below a folder, a prefix or an address."""
    return f"{base.rstrip('/')}/{file_name}" if isinstance(base, str) else base / file_name


def check_base(base: str, remote: RemoteImages) -> None:
    """Raise UsageError unless images can be read below an address, StageError if not just now."""
    if base.startswith(S3):
        next(_asked(base, remote), None)
    else:
        _check_web(base, base, remote)


def _named(pattern: str, remote: RemoteImages) -> Sequence[Place]:
    if pattern.startswith(S3):
        return _objects(pattern, remote)
    if pattern.startswith(_WEB):
        _check_web(pattern, pattern, remote)
        return [pattern]
    path = Path(pattern)
    if path.suffix.lower() not in IMAGE_SUFFIXES and path.is_file() and _lists_addresses(path):
        return _listed(path, remote)
    return expand([pattern])


def _objects(pattern: str, remote: RemoteImages) -> Sequence[str]:
    found = [address for address in _asked(pattern, remote) if _has_suffix(address)]
    if not found:
        raise UsageError(
            f"{pattern}: no image there; expected s3://BUCKET/PREFIX with objects that end in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def _asked(pattern: str, remote: RemoteImages) -> Iterator[str]:
    try:
        yield from remote.below(pattern)
    except TransientStorageError as error:
        raise StageError(str(error)) from error
    except StorageError as error:
        raise UsageError(str(error)) from error


def _has_suffix(address: str) -> bool:
    return PurePosixPath(address).suffix.lower() in IMAGE_SUFFIXES


def _lists_addresses(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    lines = (line.strip() for line in head.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return first.startswith(_WEB)


def _listed(path: Path, remote: RemoteImages) -> Sequence[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text; list one address a line") from error
    found = []
    for number, line in enumerate(lines, start=1):
        address = line.strip()
        if address and not address.startswith("#"):
            _check_web(address, f"{path}:{number}", remote)
            found.append(address)
    return found


def _check_web(address: str, where: str, remote: RemoteImages) -> None:
    if remote.https is None:
        raise UsageError(f"{where}: {HTTPS_IS_OFF}")
    if not (is_remote(address) and not address.startswith(S3)):
        raise UsageError(f"{where}: must begin with https://, but got {address[:200]!a}")
