"""What image files may be, and how those are reached that lie elsewhere."""

import re
from dataclasses import dataclass
from typing import Literal

from storage.s3.config import S3Config


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """The table `images` of `maskloop.toml`.

    endpoint, region, profile: of S3, where one of them is not as for the store; private_hosts:
    hosts of https addresses that may lie in a private network; ca_file: certificates to trust
    besides the system's; max_mb: megabytes of one image that is fetched; cache_gb: gigabytes of
    fetched images, kept in the workspace's folder `cache`; fetch_threads: fetched at once.
    """

    max_pixels: int = 200_000_000
    intensity: Literal["range", "percentile"] = "range"
    endpoint: str = ""
    region: str = ""
    profile: str = ""
    allow_https: bool = False
    private_hosts: tuple[str, ...] = ()
    ca_file: str = ""
    max_mb: int = 1000
    cache_gb: float = 4.0
    fetch_threads: int = 16

    @property
    def s3(self) -> S3Config | None:
        """How images in S3 are reached, if otherwise than the store; raises ValueError."""
        if not (self.endpoint or self.region or self.profile):
            return None
        return S3Config(
            endpoint_url=self.endpoint,
            region=self.region,
            profile=self.profile,
            setting="images.endpoint",
        )

    def check(self) -> None:
        """Raise ValueError, which begins with the name of the setting, for what no one can mean."""
        for host in self.private_hosts:
            if not re.fullmatch(r"[0-9a-z._-]+|[0-9a-f:]+", host):
                raise ValueError(
                    "private_hosts: must be names in small letters, without port, such as "
                    f"images.lan, but got {host!a}"
                )
        _ = self.s3
