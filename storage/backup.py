"""A copy of a whole store in a folder, and a store out of such a copy.

What is copied lies under its SHA-256, so a file that is there already is never copied again, and a
backup that is cut short leaves the one before it whole: `manifest.json`, written last, says which
files make up the store and where they belong.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from storage.catalog import moving, seals
from storage.catalog.files import known_sums, lake_files, named_by_rows
from storage.catalog.lake import Lake
from storage.catalog.place import CATALOG_FILE, Place
from storage.catalog.sqlite_catalog import SqliteCatalog
from storage.durable import write_durably
from storage.errors import ChecksumMismatchError, NotFoundError, TerminalStorageError
from storage.failpoints import failpoint
from storage.folder_objects import FolderObjects
from storage.queue import copying
from storage.queue.database import Database
from storage.row import utcnow

MANIFEST = "manifest.json"
QUEUE_FILE = "queue.sqlite"
_FILES = "files"
_VERSION = 1
# In a process of its own: Python's SQLite beside DuckDB's, on one file, corrupts it.
_COPY = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1], timeout=60)) as source:
    with contextlib.closing(sqlite3.connect(sys.argv[2])) as target:
        source.backup(target)
"""


@dataclass(frozen=True, kw_only=True)
class BackedUp:
    """A file of the store: where it belongs, below its folder, and what it is."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What a backup holds, and how many of its files were not there before."""

    snapshot: int
    made_at: str
    files: tuple[BackedUp, ...]
    num_copied: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of the store, whole."""
        return sum(file.bytes for file in self.files)


def back_up(lake: Lake, queue: Database, to: Path, *, files: Mapping[str, Path]) -> Backup:
    """Copy the store of `lake`, its review queue and other `files` (path -> file) to `to`.

    Wherever they lie, the backup is of a store in a folder, with SQLite. Raises
    ChecksumMismatchError or NotFoundError for a damaged store: a backup of that would look like
    one of a sound store.
    """
    kept = FolderObjects(to)
    copier = _Copier(lake, kept)
    # Most is copied while others commit; under the lock only what came in meanwhile.
    copier.copy_what_is_there()
    with lake.lock():
        objects = copier.copy_objects()
        snapshot = lake.snapshot()
        keep_catalog = copier.take_catalog()
    catalog = keep_catalog()
    # The queue after the lake: what was merged is then in the copy of the queue as well.
    others = [copier.copy_queue(queue)]
    others += [copier.copy_bytes(path, file.read_bytes()) for path, file in files.items()]
    backup = Backup(
        snapshot=snapshot,
        made_at=utcnow().isoformat(timespec="seconds"),
        files=tuple(sorted([catalog, *objects, *others], key=lambda file: file.path)),
        num_copied=copier.num_copied,
    )
    manifest = asdict(backup) | {"version": _VERSION}
    write_durably(to / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    _drop_others(kept, backup)
    return backup


def read(folder: Path) -> Backup:
    """What the backup in `folder` holds; raises NotFoundError, TerminalStorageError."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != _VERSION:
            raise TerminalStorageError(f"{path}: of another maskloop; use the one that wrote it")
        return Backup(
            snapshot=found["snapshot"],
            made_at=found["made_at"],
            files=tuple(BackedUp(**file) for file in found["files"]),
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: not there; a backup that was finished has one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TerminalStorageError(f"{path}: damaged ({error}); use another backup") from error


def restore(
    folder: Path, root: Path, *, last: str, change: Callable[[bytes], bytes] = bytes
) -> Backup:
    """Bring the backup in `folder` back into `root`, which must be empty or not there.

    Every file is checked against its SHA-256 on the way; the one named `last` comes last, so that
    what was cut short is no workspace, and is what `change` makes of it.
    """
    backup = read(folder)
    if root.exists() and any(root.iterdir()):
        raise TerminalStorageError(f"{root}: not empty; restore into an empty folder")
    kept, target = FolderObjects(folder), FolderObjects(root)
    for file in sorted(backup.files, key=lambda file: file.path == last):
        data = kept.get(_name(file.sha256), sha256=file.sha256)
        target.put(file.path, change(data) if file.path == last else data)
    return backup


class _Copier:
    """Copies what is not there yet, and counts it."""

    def __init__(self, lake: Lake, kept: FolderObjects) -> None:
        self._lake = lake
        self._kept = kept
        self._done: dict[str, BackedUp] = {}
        self.num_copied = 0

    def copy_what_is_there(self) -> None:
        """Copy objects without the lock: what goes or changes meanwhile is the next look's."""
        for uri, sha256 in self._wanted().items():
            with suppress(NotFoundError, ChecksumMismatchError):
                self._done[uri] = self._copy_object(uri, sha256)

    def copy_objects(self) -> list[BackedUp]:
        """Copy all objects, but those that were copied before; under the lock."""
        objects = []
        for uri, sha256 in self._wanted().items():
            done = self._done.get(uri)
            is_same = done is not None and sha256 in (done.sha256, None)
            objects.append(done if done and is_same else self._copy_object(uri, sha256))
        return objects

    def _wanted(self) -> dict[str, str | None]:
        """Uri -> SHA-256, as far as it is known, of what makes up the store now."""
        lake = self._lake
        # A note is named by its own.
        notes = {
            each.uri: PurePosixPath(each.uri).stem
            for each in lake.objects.below(seals.FOLDER)
            if not each.uri.endswith(".tmp")
        }
        sums = known_sums(lake) | notes
        names = lake_files(lake) | named_by_rows(lake) | notes.keys()
        return {uri: sums.get(uri) for uri in sorted(names)}

    def _copy_object(self, uri: str, sha256: str | None) -> BackedUp:
        objects = self._lake.objects
        found = objects.find(uri)
        if found is None:
            raise NotFoundError(f"{uri}: gone, so there is no backup; run: maskloop fsck")
        sha256 = sha256 or objects.sha256(uri)
        if self._has(sha256, found.bytes):
            return BackedUp(path=uri, sha256=sha256, bytes=found.bytes)
        return self.copy_bytes(uri, objects.get(uri, sha256=sha256))

    def take_catalog(self) -> Callable[[], BackedUp]:
        """Take the catalog as of now, under the lock; what is given keeps it, without."""
        database = self._lake.place.database
        if isinstance(database, SqliteCatalog):
            done = self._copy_database(database.path, CATALOG_FILE)
            return lambda: done
        tables = moving.read_catalog(self._lake.place)

        def keep() -> BackedUp:
            with self._unfinished() as folder:
                moving.write_catalog(tables, Place.folder(folder))
                return self._copy_database(folder / CATALOG_FILE, CATALOG_FILE)

        return keep

    def copy_queue(self, queue: Database) -> BackedUp:
        """Keep the queue as of now."""
        if queue.file is not None:
            return self._copy_database(queue.file, QUEUE_FILE)
        with self._unfinished() as folder:
            file = folder / QUEUE_FILE
            target = Database.open(f"sqlite:///{file}")
            try:
                copying.snapshot(queue, target)
            finally:
                target.close()
            return self._copy_database(file, QUEUE_FILE)

    def copy_bytes(self, path: str, data: bytes) -> BackedUp:
        """Keep `data`, read back, as the file at `path`."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._has(sha256, len(data)):
            self._kept.put(_name(sha256), data)
            if self._kept.sha256(_name(sha256)) != sha256:
                raise ChecksumMismatchError(f"{_name(sha256)}: was not written as it is; try again")
            self.num_copied += 1
            failpoint("backup.after_file")
        return BackedUp(path=path, sha256=sha256, bytes=len(data))

    def _copy_database(self, path: Path, name: str) -> BackedUp:
        """Keep a SQLite database as of now, with what is still in its log."""
        part = self._folder() / f"{name}.part"
        part.unlink(missing_ok=True)
        command = [sys.executable, "-I", "-c", _COPY, str(path), str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise TerminalStorageError(f"{path}: cannot be copied: {' '.join(last)}")
        try:
            return self.copy_bytes(name, part.read_bytes())
        finally:
            part.unlink()

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        """An empty folder beside what is kept, whatever a try that was cut short has left."""
        folder = self._folder() / "part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self) -> Path:
        self._kept.root.mkdir(parents=True, exist_ok=True)
        return self._kept.root

    def _has(self, sha256: str, num_bytes: int) -> bool:
        found = self._kept.find(_name(sha256))
        return found is not None and found.bytes == num_bytes


def _drop_others(kept: FolderObjects, backup: Backup) -> None:
    """Remove what only earlier backups needed."""
    wanted = {_name(file.sha256) for file in backup.files}
    for found in list(kept.below(_FILES)):
        if found.uri not in wanted:
            kept.remove(found.uri)


def _name(sha256: str) -> str:
    return f"{_FILES}/{sha256[:2]}/{sha256}"
