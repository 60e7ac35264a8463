"""Images that lie elsewhere, at `s3://` and `https://` addresses: fetched, and kept for a while."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.image_settings import ImageSettings
from flows.images.cache import ImageCache, image_cache
from flows.store_settings import StoreSettings
from storage.errors import TerminalStorageError
from storage.https.addresses import SCHEME as HTTPS
from storage.https.reading import HttpsReader
from storage.s3.config import S3Config

if TYPE_CHECKING:
    from storage.s3.reading import S3Reader

S3 = "s3://"
_MB, _GB = 10**6, 10**9
HTTPS_IS_OFF = (
    "images are read from https addresses only where images.allow_https = true stands in "
    "maskloop.toml"
)


def is_remote(place: str) -> bool:
    """Whether this is an address, and no file or folder."""
    return place.startswith((S3, HTTPS))


@dataclass(frozen=True, kw_only=True)
class RemoteImages:
    """How images at addresses are reached; picklable.

    https: None where that is not allowed; max_bytes: of one image; cache_bytes: of the folder
    `cache`; num_threads: how many are fetched at once.
    """

    s3: S3Config
    https: HttpsReader | None
    max_bytes: int
    cache: Path
    cache_bytes: int
    num_threads: int

    def fetch(self, address: str) -> bytes:
        """The bytes at an address, whatever they are; raises StorageError."""
        if address.startswith(HTTPS):
            if self.https is None:
                raise TerminalStorageError(f"{address}: {HTTPS_IS_OFF}")
            return self.https.read(address)
        return self._s3.read(address)

    def cached(self, address: str, image_id: str) -> bytes:
        """The same through the cache; not those of the image where they have changed."""
        return self._cache.get(image_id, lambda: self.fetch(address))

    def keep(self, image_id: str, data: bytes) -> None:
        """Have the bytes of an image at hand that was just fetched."""
        self._cache.keep(image_id, data)

    def below(self, address: str) -> Iterator[str]:
        """The addresses of all objects at or below `s3://bucket/prefix`; raises StorageError."""
        return self._s3.below(address)

    @property
    def _s3(self) -> "S3Reader":
        # boto3 takes a third of a second, which most commands need not wait for.
        from storage.s3.reading import S3Reader

        return S3Reader(config=self.s3, max_bytes=self.max_bytes)

    @property
    def _cache(self) -> ImageCache:
        return image_cache(self.cache, self.cache_bytes)


def remote_images(settings: ImageSettings, store: StoreSettings, cache: Path) -> RemoteImages:
    """How the settings say that images are reached, with a folder to keep them in."""
    max_bytes = settings.max_mb * _MB
    https = HttpsReader(
        max_bytes=max_bytes,
        private_hosts=settings.private_hosts,
        ca_file=Path(settings.ca_file).expanduser() if settings.ca_file else None,
    )
    as_store = S3Config(
        endpoint_url=store.endpoint,
        region=store.region,
        profile=store.profile,
        setting="images.endpoint (where it is empty, store.endpoint)",
    )
    return RemoteImages(
        s3=settings.s3 or as_store,
        https=https if settings.allow_https else None,
        max_bytes=max_bytes,
        cache=cache,
        cache_bytes=int(settings.cache_gb * _GB),
        num_threads=settings.fetch_threads,
    )
