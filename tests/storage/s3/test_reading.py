"""Objects read where they lie: listed to the last page, capped, and missed by name."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storage.errors import NotFoundError, TerminalStorageError, TransientStorageError
from storage.s3.client import client
from storage.s3.config import S3Config
from storage.s3.reading import S3Reader

pytestmark = pytest.mark.s3


@pytest.fixture
def reader(s3_server: Any) -> S3Reader:
    return S3Reader(config=S3Config(endpoint_url=s3_server.endpoint_url), max_bytes=1000)


def put(reader: S3Reader, bucket: str, *keys: str, data: bytes = b"x") -> None:
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda key: client(reader.config).put_object(Bucket=bucket, Key=key, Body=data),
                keys,
            )
        )


def test_a_prefix_is_a_folder(reader: S3Reader) -> None:
    put(reader, "folders", "photos/b.png", "photos/deep/a b.png", "photos-old/c.png", "photos.png")
    assert list(reader.below("s3://folders/photos")) == [
        "s3://folders/photos/b.png",
        "s3://folders/photos/deep/a b.png",
    ]
    assert list(reader.below("s3://folders/photos.png")) == ["s3://folders/photos.png"]
    assert len(list(reader.below("s3://folders"))) == 4
    assert list(reader.below("s3://folders/nothing")) == []


def test_all_pages_are_listed(reader: S3Reader) -> None:
    keys = [f"many/{number:04d}.png" for number in range(1050)]  # a page has 1000
    put(reader, "pages", *keys)
    assert list(reader.below("s3://pages/many")) == [f"s3://pages/{key}" for key in keys]


def test_bytes_come_up_to_the_cap(reader: S3Reader) -> None:
    put(reader, "caps", "fits.png", data=bytes(1000))
    put(reader, "caps", "large.png", data=bytes(1001))
    assert reader.read("s3://caps/fits.png") == bytes(1000)
    with pytest.raises(TerminalStorageError, match=r"large\.png: has 1001 bytes.*images\.max_mb"):
        reader.read("s3://caps/large.png")


def test_what_is_not_there_is_named(reader: S3Reader) -> None:
    put(reader, "there", "a.png")
    with pytest.raises(NotFoundError, match=r"^s3://there/b\.png: no such object; put it back"):
        reader.read("s3://there/b.png")
    with pytest.raises(NotFoundError, match="s3://not-there: there is no such bucket; make it"):
        list(reader.below("s3://not-there/photos"))
    with pytest.raises(TerminalStorageError, match="must be s3://BUCKET/PREFIX"):
        list(reader.below("s3://Not A Bucket/photos"))


@pytest.mark.usefixtures("s3_server")
def test_a_server_that_is_away_may_come_back() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        away = S3Config(endpoint_url=f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(TransientStorageError, match="does not answer"):
            list(S3Reader(config=away, max_bytes=1000).below("s3://there/photos"))
