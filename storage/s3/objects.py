"""Objects in a bucket of S3, or of a server that speaks its protocol with conditional writes."""

import base64
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from botocore import exceptions

from storage.errors import ChecksumMismatchError, NotFoundError, TransientStorageError
from storage.objects import FoundObject, StoredObject, checked, gone, parts_of
from storage.s3 import client as s3
from storage.s3.config import S3Config

T = TypeVar("T")
_CHUNK = 1 << 20
_LONGEST_WAIT_S = 2.0
# boto3 tries a request again, but not the reading of its answer.
_CUT_OFF = (
    exceptions.IncompleteReadError,
    exceptions.ResponseStreamingError,
    exceptions.ReadTimeoutError,
    exceptions.ConnectionClosedError,
)


@dataclass(frozen=True, kw_only=True)
class S3Objects:
    """Objects below `prefix` in `bucket`; see `storage.objects.Objects`."""

    bucket: str
    prefix: str
    config: S3Config = field(default_factory=S3Config)

    def put(self, uri: str, data: bytes) -> StoredObject:
        """Store `data` under `uri`; storing the same again changes nothing."""
        digest = hashlib.sha256(data)
        stored = StoredObject(uri=uri, sha256=digest.hexdigest(), bytes=len(data))
        request = {
            "Bucket": self.bucket,
            "Key": self._key(uri),
            "Body": data,
            "ChecksumSHA256": base64.b64encode(digest.digest()).decode(),
            "Metadata": {"sha256": stored.sha256},
        }
        # Its own earlier try, whose answer was lost, may be what is there: that is no error.
        if not self._is_new(uri, request) and self._sha256_now(uri) != stored.sha256:
            with self._translated(uri):
                s3.client(self.config).put_object(**request)
        return stored

    def get(self, uri: str, *, sha256: str) -> bytes:
        """The bytes at `uri`; raises NotFoundError, ChecksumMismatchError."""
        data: bytes = self._reading(uri, lambda body: body.read())
        return checked(uri, data, sha256)

    def find(self, uri: str) -> FoundObject | None:
        """What the server says of `uri`; None when there is none."""
        try:
            with self._translated(uri):
                head = s3.client(self.config).head_object(Bucket=self.bucket, Key=self._key(uri))
        except NotFoundError:
            return None
        age_s = _age_s(head, head["LastModified"])
        return FoundObject(uri=uri, bytes=head["ContentLength"], age_s=age_s)

    def sha256(self, uri: str) -> str:
        """The SHA-256 of the object, read piece by piece; raises NotFoundError."""
        return self._reading(uri, _sha256)

    def below(self, folder: str) -> Iterator[FoundObject]:
        """All objects of a folder and the folders in it; uploads that never ended are none."""
        root = f"{self.prefix}/" if self.prefix else ""
        pages = s3.client(self.config).get_paginator("list_objects_v2")
        with self._translated(folder):
            for page in pages.paginate(Bucket=self.bucket, Prefix=f"{self._key(folder)}/"):
                for item in page.get("Contents", ()):
                    yield FoundObject(
                        uri=item["Key"].removeprefix(root),
                        bytes=item["Size"],
                        age_s=_age_s(page, item["LastModified"]),
                    )

    def copy(self, uri: str, to: str) -> None:
        """The same object under another name as well, copied by the server."""
        source = {"Bucket": self.bucket, "Key": self._key(uri)}
        with self._translated(uri):
            s3.client(self.config).copy_object(
                Bucket=self.bucket, Key=self._key(to), CopySource=source
            )

    def remove(self, uri: str) -> None:
        """Remove the object, if there is one."""
        with self._translated(uri):
            s3.client(self.config).delete_object(Bucket=self.bucket, Key=self._key(uri))

    def address(self, uri: str) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self._key(uri)}"

    def _key(self, uri: str) -> str:
        return "/".join((*filter(None, [self.prefix]), *parts_of(uri)))

    def _translated(self, uri: str) -> Any:
        return s3.translated(self.address(uri))

    def _is_new(self, uri: str, request: Mapping[str, Any]) -> bool:
        """Whether nothing was there, and `request` is now."""
        with self._translated(uri):
            try:
                s3.client(self.config).put_object(**request, IfNoneMatch="*")
            except exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                    raise
                return False
        return True

    def _sha256_now(self, uri: str) -> str | None:
        """The SHA-256 of what is there; None for what is gone, or not even whole for the server."""
        try:
            return self.sha256(uri)
        except (NotFoundError, ChecksumMismatchError):
            return None

    def _reading(self, uri: str, read: Callable[[Any], T]) -> T:
        """What `read` makes of the object's bytes, begun again where they are cut off."""
        for number in range(1, s3.ATTEMPTS + 1):
            try:
                with self._translated(uri):
                    return self._read_once(uri, read)
            except TransientStorageError as error:
                if not isinstance(error.__cause__, _CUT_OFF) or number == s3.ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, min(0.1 * 2**number, _LONGEST_WAIT_S)))
        raise AssertionError("the last attempt returns or raises")

    def _read_once(self, uri: str, read: Callable[[Any], T]) -> T:
        try:
            answer = s3.client(self.config).get_object(Bucket=self.bucket, Key=self._key(uri))
            with closing(answer["Body"]) as body:
                return read(body)
        except s3.client(self.config).exceptions.NoSuchKey as error:
            raise gone(uri) from error
        except exceptions.FlexibleChecksumError as error:
            raise ChecksumMismatchError(
                f"{uri}: is not what was stored ({error}); restore it from a backup"
            ) from error


def _sha256(body: Any) -> str:
    digest = hashlib.sha256()
    for chunk in body.iter_chunks(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _age_s(answer: Mapping[str, Any], modified: datetime) -> float:
    """By the server's own clock, which wrote both times."""
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    now = parsedate_to_datetime(headers["date"])
    return max(0.0, (now - modified).total_seconds())
