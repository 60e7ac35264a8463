"""Where a store lies: its files in a folder or in S3, its catalog in SQLite or in Postgres."""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from storage.catalog.commit_lock import TIMEOUT_S, StillHeld
from storage.catalog.postgres_catalog import PostgresCatalog
from storage.catalog.sqlite_catalog import SqliteCatalog
from storage.folder_objects import FolderObjects
from storage.objects import Objects
from storage.s3.config import S3Config, parse

CATALOG_FILE = "catalog.sqlite"
_SQLITE = "sqlite:///"
_S3 = "s3://"


class Catalog(Protocol):
    """The database that says which files make up which table at which snapshot."""

    @property
    def target(self) -> str:
        """What DuckLake attaches, after `ducklake:`; without secrets, for errors show it."""

    @property
    def options(self) -> tuple[str, ...]:
        """How DuckLake attaches it."""

    @property
    def direct(self) -> tuple[str, ...]:
        """How DuckDB attaches it without DuckLake."""

    @property
    def extension(self) -> str:
        """DuckDB's extension that knows it."""

    @property
    def reads_one_state(self) -> bool:
        """Whether DuckLake reads all it asks for as of one moment, whoever commits meanwhile."""

    def secret(self) -> str | None:
        """The password, empty for none; None where there can be none."""

    def is_there(self) -> bool:
        """Whether there is a catalog, if only an empty one."""

    def prepare(self) -> None:
        """Do what must be done before DuckLake makes its tables."""

    def lock(self, timeout_s: float = TIMEOUT_S) -> AbstractContextManager[StillHeld]:
        """The lock that every commit holds, over all processes that can reach the catalog."""

    def settle(self) -> None:
        """Wait until no commit is under way any more, whoever sent it and went away."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a store lies; picklable, and its repr holds no password. Raises ValueError.

    data: a folder, or `s3://bucket/prefix` on the server of `s3`; catalog: `sqlite:///FILE` or
    `postgresql://USER@HOST/DATABASE`. Folders and files are whole, not relative.
    """

    data: str
    catalog: str = field(repr=False)
    s3: S3Config = field(default_factory=S3Config)

    def __post_init__(self) -> None:
        if self.data.startswith(_S3):
            try:
                _, prefix = parse(self.data)
            except ValueError as error:
                raise ValueError(f"data: {error}") from error
            # DuckDB reads some others as patterns or as the end of a path.
            if not re.fullmatch(r"[\w.=/-]*", prefix, re.ASCII):
                raise ValueError(
                    "data: the prefix must be letters, digits and ._=/- alone, "
                    f"but got {self.data!r}"
                )
        elif "://" in self.data or not Path(self.data).is_absolute():
            raise ValueError(f"data: must be a folder or s3://BUCKET/PREFIX, but got {self.data!r}")
        self.database  # noqa: B018 -- raises for another kind of url

    @classmethod
    def folder(cls, root: Path) -> Self:
        """All in one folder."""
        # Whole, so that a change of folder does not lead a later connection astray.
        whole = root.absolute()
        return cls(data=str(whole), catalog=f"{_SQLITE}{whole / CATALOG_FILE}")

    @property
    def objects(self) -> Objects:
        """The files of the store, with those of the lake below `lake/`."""
        if not self.in_s3:
            return FolderObjects(Path(self.data))
        # boto3 takes most of a second to load, which a store in a folder does not pay.
        from storage.s3.objects import S3Objects

        bucket, prefix = parse(self.data)
        return S3Objects(bucket=bucket, prefix=prefix, config=self.s3)

    @property
    def in_s3(self) -> bool:
        """Whether the files are in S3."""
        return self.data.startswith(_S3)

    @property
    def database(self) -> Catalog:
        """The catalog."""
        if self.catalog.startswith(_SQLITE):
            path = Path(self.catalog.removeprefix(_SQLITE))
            if path.is_absolute():
                return SqliteCatalog(path)
        elif self.catalog.startswith("postgresql://"):
            return PostgresCatalog(self.catalog)
        # Not shown: it may hold a password.
        raise ValueError("catalog: must be sqlite:///FILE or postgresql://USER@HOST/DATABASE")

    def __str__(self) -> str:
        return f"{self.data} with the catalog {self.database}"
