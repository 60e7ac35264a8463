"""Objects in a bucket of S3, or of a server that speaks its protocol with conditional writes."""

import base64
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
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
# boto3 tries a request again, but not the reading of its answer: that is begun again up to here.
_GIVE_UP_S = 60.0
# What has changed on its way is read once more; what lies there damaged is so for the second time.
_READS_OF_DAMAGED = 2


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
        for number in range(1, s3.ATTEMPTS + 1):
            try:
                self._put_once(uri, request, stored.sha256)
            except TransientStorageError as error:
                if number == s3.ATTEMPTS or not s3.is_worth_repeating(error):
                    raise
                _wait(number)
            else:
                break
        return stored

    def get(self, uri: str, *, sha256: str) -> bytes:
        """The bytes at `uri`; raises NotFoundError, ChecksumMismatchError."""
        return self._reading(uri, lambda body: checked(uri, body.read(), sha256))

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
        with suppress(NotFoundError), self._translated(uri):
            s3.client(self.config).delete_object(Bucket=self.bucket, Key=self._key(uri))

    def address(self, uri: str) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self._key(uri)}"

    def _key(self, uri: str) -> str:
        return "/".join((*filter(None, [self.prefix]), *parts_of(uri)))

    def _translated(self, uri: str) -> Any:
        return s3.translated(self.address(uri), self.config)

    def _put_once(self, uri: str, request: Mapping[str, Any], sha256: str) -> None:
        # Its own earlier try, whose answer was lost, may be what is there: that is no error.
        if not self._is_new(uri, request) and self._sha256_now(uri) != sha256:
            with self._translated(uri):
                s3.client(self.config).put_object(**request)

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
        deadline = time.monotonic() + _GIVE_UP_S
        for number in range(1, s3.ATTEMPTS + 1):
            answer = self._asked(uri)
            try:
                return self._received(uri, answer, read)
            except (TransientStorageError, ChecksumMismatchError) as error:
                damaged = isinstance(error, ChecksumMismatchError)
                if (
                    number == (_READS_OF_DAMAGED if damaged else s3.ATTEMPTS)
                    or time.monotonic() > deadline
                ):
                    raise
                _wait(number)
        raise AssertionError("the last attempt returns or raises")

    def _asked(self, uri: str) -> Any:
        client = s3.client(self.config)
        try:
            with self._translated(uri):
                return client.get_object(Bucket=self.bucket, Key=self._key(uri))
        except NotFoundError as error:
            if isinstance(error.__cause__, client.exceptions.NoSuchKey):
                raise gone(uri) from error
            raise

    def _received(self, uri: str, answer: Any, read: Callable[[Any], T]) -> T:
        with self._translated(uri), closing(answer["Body"]) as body:
            try:
                return read(body)
            except exceptions.FlexibleChecksumError as error:
                raise ChecksumMismatchError(
                    f"{uri}: is not what was stored ({error}); restore it from a backup"
                ) from error


def _wait(number: int) -> None:
    time.sleep(random.uniform(0, min(0.1 * 2**number, _LONGEST_WAIT_S)))


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
