"""Which S3 server and which part of it, by the settings; without boto3, which is slow to load."""

import re
from dataclasses import dataclass, field

ATTEMPTS = 5
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 20
_SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, kw_only=True)
class S3Config:
    """Which server, and whose credentials; empty: what AWS's own settings say.

    read_timeout_s: how long a server may be silent; setting: what an error tells people to check.
    """

    endpoint_url: str = ""
    region: str = ""
    profile: str = ""
    read_timeout_s: float = READ_TIMEOUT_S
    setting: str = field(default="store.endpoint", compare=False)

    def __post_init__(self) -> None:
        if self.endpoint_url and not re.fullmatch(r"https?://[^/?#@\s]+/?", self.endpoint_url):
            raise ValueError(
                "endpoint: must be http://HOST:PORT or https://HOST, without credentials, but got "
                f"{re.sub(r'//[^/]*@', '//***@', self.endpoint_url)!r}"
            )


def parse(address: str) -> tuple[str, str]:
    """(bucket, prefix) of `s3://bucket/prefix`, the prefix without slashes around; ValueError."""
    bucket, _, prefix = address.removeprefix(_SCHEME).partition("/")
    parts = prefix.strip("/").split("/")
    clean = parts == [""] or not {"", ".", ".."} & set(parts)
    if not (address.startswith(_SCHEME) and _BUCKET.fullmatch(bucket) and clean):
        raise ValueError(f"must be s3://BUCKET/PREFIX, but got {address!r}")
    return bucket, prefix.strip("/")
