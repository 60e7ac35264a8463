"""Where the store of a workspace lies: the table `[store]` of `maskloop.toml`."""

from dataclasses import dataclass
from pathlib import Path

from storage.catalog.place import Place
from storage.s3.config import S3Config

_SQLITE = "sqlite:///"
_POSTGRES = "postgresql://"


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where the store lies; empty: in the workspace.

    data: a folder, from the workspace if it is not whole, or `s3://bucket/prefix`; catalog:
    `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`; endpoint, region and profile: of S3.
    """

    data: str = ""
    catalog: str = ""
    endpoint: str = ""
    region: str = ""
    profile: str = ""

    @property
    def shared_database(self) -> str:
        """The url of the catalog where that is a Postgres; else empty."""
        return self.catalog if self.catalog.startswith(_POSTGRES) else ""

    def place(self, root: Path) -> Place:
        """The place of the store of the workspace at `root`; raises ValueError."""
        here = Place.folder(root)
        data = self.data or here.data
        catalog = self.catalog or here.catalog
        if "://" not in data:
            data = str((root.absolute() / Path(data).expanduser()).resolve())
        if catalog.startswith(_SQLITE):
            catalog = f"{_SQLITE}{root.absolute() / catalog.removeprefix(_SQLITE)}"
        config = S3Config(endpoint_url=self.endpoint, region=self.region, profile=self.profile)
        return Place(data=data, catalog=catalog, s3=config)
