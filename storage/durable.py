"""Files that hold all of what was written, or what they held before, whatever crashes."""

import hashlib
import os
import uuid
from pathlib import Path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_durably(target: Path, data: bytes) -> None:
    """Write beside, flush, rename: after a crash `target` holds all of `data`, or what it held."""
    part = part_of(target)
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        put_in_place(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def part_of(target: Path) -> Path:
    """A fresh name beside `target`, which no reader takes for a finished file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")


def put_in_place(part: Path, target: Path) -> None:
    """Rename a finished, flushed file and flush the folder that names it."""
    part.replace(target)
    _flush_folder(target.parent)


def put_same(source: Path, target: Path) -> None:
    """Give a finished file that nobody writes to a second name; raises FileNotFoundError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        # Not every file system knows of second names.
        write_durably(target, source.read_bytes())
    else:
        _flush_folder(target.parent)


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
