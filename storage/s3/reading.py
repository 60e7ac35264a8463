"""The bytes of objects in S3, and their addresses: for images, which are read where they lie."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from storage.errors import NotFoundError, TerminalStorageError, TransientStorageError
from storage.s3.client import client, translated
from storage.s3.config import S3Config, parse

_SCHEME = "s3://"
# Of a body; boto3 itself asks again when the answer does not even begin.
_ATTEMPTS = 3
_PAUSE_S = 0.5
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class S3Reader:
    """Reads objects by `s3://bucket/key`; picklable, and threads may share one."""

    config: S3Config
    max_bytes: int

    def read(self, address: str) -> bytes:
        """The bytes of an object.

        Raises NotFoundError, TransientStorageError when the server stays away, and otherwise
        TerminalStorageError, also for more bytes than allowed.
        """
        bucket, key = _parts(address)
        for attempt in range(1, _ATTEMPTS + 1):
            answer = self._asked(address, bucket, key)
            try:
                return self._received(address, answer)
            except TransientStorageError:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S * attempt)
        raise AssertionError("at least one attempt")

    def below(self, address: str) -> Iterator[str]:
        """The addresses of all objects at or below `s3://bucket/prefix`, in the order of keys.

        Raises what `read` raises, NotFoundError where there is no such bucket.
        """
        bucket, prefix = _parts(address)
        pages = client(self.config).get_paginator("list_objects_v2")
        with translated(f"{_SCHEME}{bucket}", self.config):
            for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    key = str(entry["Key"])
                    # A prefix is a folder to people: `photos` is not `photos-old/a.png`.
                    if not prefix or key == prefix or key.startswith(f"{prefix}/"):
                        yield f"{_SCHEME}{bucket}/{key}"

    def _asked(self, address: str, bucket: str, key: str) -> Any:
        with translated(address, self.config):
            try:
                return client(self.config).get_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                    raise NotFoundError(
                        f"{address}: no such object; put it back, or correct the address"
                    ) from error
                raise

    def _received(self, address: str, answer: Any) -> bytes:
        received = bytearray()
        with closing(answer["Body"]) as body, translated(address, self.config):
            if answer["ContentLength"] > self.max_bytes:
                raise _too_large(address, answer["ContentLength"], self.max_bytes)
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                received += chunk
                if len(received) > self.max_bytes:
                    raise _too_large(address, len(received), self.max_bytes)
        return bytes(received)


def _parts(address: str) -> tuple[str, str]:
    try:
        return parse(address)
    except ValueError as error:
        raise TerminalStorageError(f"{address!a}: {error}; correct it") from error


def _too_large(address: str, size: int, most: int) -> TerminalStorageError:
    return TerminalStorageError(
        f"{address}: has {size} bytes, more than {most}; make it smaller or raise images.max_mb"
    )
