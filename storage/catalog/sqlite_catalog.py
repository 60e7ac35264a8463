"""A catalog in a file of SQLite: for one machine, any number of whose processes share it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from storage.catalog.commit_lock import TIMEOUT_S, StillHeld, commit_lock


@dataclass(frozen=True)
class SqliteCatalog:
    """The file at `path`, with its lock beside it; see `storage.catalog.place.Catalog`."""

    path: Path

    # Write-ahead logging, once and for all: a long read then never keeps a commit waiting.
    options = ("META_JOURNAL_MODE 'WAL'",)
    direct = ("TYPE sqlite",)
    extension = "sqlite_scanner"
    # DuckDB opens the file once more for each table that it reads. What DuckLake replaces in place,
    # such as a list of deleted rows, may then be missed both as it was and as it is.
    reads_one_state = False

    @property
    def target(self) -> str:
        """What DuckLake attaches."""
        return f"sqlite:{self.path}"

    def secret(self) -> None:
        """A file needs none."""

    def is_there(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file()

    def prepare(self) -> None:
        """Make the folder of the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def lock(self, timeout_s: float = TIMEOUT_S) -> AbstractContextManager[StillHeld]:
        """The lock of the file `catalog.lock` beside `catalog.sqlite`."""
        return commit_lock(self.path.with_suffix(".lock"), timeout_s=timeout_s)

    def __str__(self) -> str:
        return str(self.path)

    def settle(self) -> None:
        """A file is written by this process alone, while it has the lock."""
