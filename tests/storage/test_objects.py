"""Objects come back as they went in, or not at all, and never leave their place."""

import hashlib
import os
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.errors import ChecksumMismatchError, NotFoundError, TerminalStorageError
from storage.folder_objects import FolderObjects
from storage.objects import Objects
from storage.s3 import client as s3
from storage.s3.client import S3Config
from storage.s3.objects import S3Objects

BUCKET = "objects"


@pytest.fixture
def folder(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "store")


@pytest.fixture(scope="module")
def s3_config(s3_server: Any) -> S3Config:
    config = S3Config(endpoint_url=s3_server.endpoint_url)
    s3.client(config).create_bucket(Bucket=BUCKET)
    return config


@pytest.fixture
def in_s3(s3_config: S3Config) -> S3Objects:
    return S3Objects(bucket=BUCKET, prefix=f"a/{uuid.uuid4().hex}", config=s3_config)


@pytest.fixture(params=["folder", pytest.param("in_s3", marks=pytest.mark.s3)])
def objects(request: pytest.FixtureRequest) -> Objects:
    found: Objects = request.getfixturevalue(request.param)
    return found


def overwrite(objects: Objects, uri: str, data: bytes) -> None:
    """Change what lies there behind the store's back."""
    if isinstance(objects, S3Objects):
        key = objects.address(uri).removeprefix(f"s3://{BUCKET}/")
        s3.client(objects.config).put_object(Bucket=BUCKET, Key=key, Body=data)
    else:
        Path(objects.address(uri)).write_bytes(data)


def test_an_object_comes_back(objects: Objects) -> None:
    stored = objects.put("models/a.safetensors", b"weights")
    assert stored.uri == "models/a.safetensors"
    assert stored.bytes == 7
    assert stored.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert objects.get(stored.uri, sha256=stored.sha256) == b"weights"
    assert objects.sha256(stored.uri) == stored.sha256
    assert objects.address(stored.uri).endswith("/models/a.safetensors")


def test_an_empty_object_is_one(objects: Objects) -> None:
    stored = objects.put("models/empty", b"")
    assert objects.get("models/empty", sha256=stored.sha256) == b""
    assert objects.sha256("models/empty") == stored.sha256


def test_a_large_object_comes_back(objects: Objects) -> None:
    data = os.urandom(1 << 20) * 9
    stored = objects.put("models/large", data)
    assert objects.sha256("models/large") == stored.sha256
    assert objects.get("models/large", sha256=stored.sha256) == data


def test_what_is_there_is_found(objects: Objects) -> None:
    assert objects.find("models/a") is None
    objects.put("models/a", b"weights")
    found = objects.find("models/a")
    assert found is not None
    assert (found.uri, found.bytes) == ("models/a", 7)
    assert 0 <= found.age_s < 600
    assert objects.find("models") is None


def test_the_same_object_again_changes_nothing(objects: Objects) -> None:
    first = objects.put("models/a", b"weights")
    assert objects.put("models/a", b"weights") == first
    assert [each.uri for each in objects.below("models")] == ["models/a"]


def test_a_damaged_object_is_replaced_by_putting_it_again(objects: Objects) -> None:
    stored = objects.put("models/a", b"weights")
    overwrite(objects, "models/a", b"weighty")
    assert objects.put("models/a", b"weights") == stored
    assert objects.get("models/a", sha256=stored.sha256) == b"weights"


@pytest.mark.parametrize("damage", [b"", b"weight", b"weightz", b"weightss"])
def test_a_damaged_object_is_refused(objects: Objects, damage: bytes) -> None:
    stored = objects.put("models/a", b"weights")
    overwrite(objects, "models/a", damage)
    with pytest.raises(ChecksumMismatchError, match=r"models/a: its SHA-256 is .* restore it"):
        objects.get("models/a", sha256=stored.sha256)
    assert objects.sha256("models/a") == hashlib.sha256(damage).hexdigest()


def test_a_missing_object_is_a_terminal_error(objects: Objects) -> None:
    with pytest.raises(NotFoundError, match="models/a: no such object"):
        objects.get("models/a", sha256="0" * 64)
    with pytest.raises(NotFoundError, match="models/a: no such object"):
        objects.sha256("models/a")
    assert issubclass(NotFoundError, TerminalStorageError)


def test_all_below_a_folder_are_listed_and_no_others(objects: Objects) -> None:
    expected = {f"lake/main/t/{number}.parquet": number for number in range(5)}
    for uri, size in expected.items():
        objects.put(uri, b"x" * size)
    for uri in ("lake2/a", "lakes", "models/a"):
        objects.put(uri, b"other")
    found = list(objects.below("lake"))
    assert {each.uri: each.bytes for each in found} == expected
    assert all(0 <= each.age_s < 600 for each in found)
    assert list(objects.below("nothing")) == []


def test_a_removed_object_is_gone_and_may_be_removed_again(objects: Objects) -> None:
    objects.put("models/a", b"weights")
    objects.remove("models/a")
    objects.remove("models/a")
    assert objects.find("models/a") is None


def test_a_copy_stays_when_the_first_is_removed_or_replaced(objects: Objects) -> None:
    stored = objects.put("models/a", b"weights")
    for _ in range(2):
        objects.copy("models/a", "kept/b")
    objects.put("models/a", b"others")
    assert objects.get("kept/b", sha256=stored.sha256) == b"weights"
    objects.remove("models/a")
    assert objects.get("kept/b", sha256=stored.sha256) == b"weights"
    with pytest.raises(NotFoundError, match=r"models/a.*no such object"):
        objects.copy("models/a", "kept/c")


def test_a_place_can_be_sent_to_a_worker(objects: Objects) -> None:
    stored = objects.put("models/a", b"weights")
    there: Objects = pickle.loads(pickle.dumps(objects))
    assert there == objects
    assert there.get("models/a", sha256=stored.sha256) == b"weights"


KEYS = ["", "/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\\..\\x", "a\0b"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_cannot_leave_the_place(objects: Objects, tmp_path: Path, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: objects.put(key, b"x"),
        lambda: objects.get(key, sha256=""),
        lambda: objects.find(key),
        lambda: objects.sha256(key),
        lambda: list(objects.below(key)),
        lambda: objects.remove(key),
        lambda: objects.address(key),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="key: must be a path below the store"):
            call()
    assert not (tmp_path / "x").exists()


def test_a_link_does_not_lead_out_of_a_folder(folder: FolderObjects, tmp_path: Path) -> None:
    folder.root.mkdir()
    (folder.root / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="key: must be a path below the store"):
        folder.put("link/x", b"x")


def test_the_same_file_again_is_not_written_again(folder: FolderObjects) -> None:
    folder.put("models/a", b"weights")
    before = folder.path("models/a").stat().st_ino
    folder.put("models/a", b"weights")
    assert folder.path("models/a").stat().st_ino == before


def test_a_write_that_fails_leaves_nothing(
    folder: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        folder.put("models/a", b"weights")
    assert list((folder.root / "models").iterdir()) == []


@pytest.mark.s3
def test_more_objects_than_one_answer_lists(in_s3: S3Objects) -> None:
    expected = {f"many/{number:04}" for number in range(1_003)}
    for uri in expected:
        in_s3.put(uri, b"")
    assert {each.uri for each in in_s3.below("many")} == expected


@pytest.mark.s3
def test_a_bucket_without_a_prefix(in_s3: S3Objects) -> None:
    whole = S3Objects(bucket="whole", prefix="", config=in_s3.config)
    stored = whole.put("models/a", b"weights")
    assert whole.address("models/a") == "s3://whole/models/a"
    assert [each.uri for each in whole.below("models")] == ["models/a"]
    assert whole.get("models/a", sha256=stored.sha256) == b"weights"
