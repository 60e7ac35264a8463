"""Objects come back as they went in, or not at all, and never leave their folder."""

import os
from pathlib import Path

import pytest

from storage.errors import ChecksumMismatchError, NotFoundError, TerminalStorageError
from storage.folder_objects import FolderObjects


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "store")


def test_an_object_comes_back(objects: FolderObjects) -> None:
    stored = objects.put("models/a.safetensors", b"weights")
    assert stored.uri == "models/a.safetensors"
    assert stored.bytes == 7
    assert objects.get(stored.uri, sha256=stored.sha256) == b"weights"
    assert objects.path(stored.uri) == objects.root / "models" / "a.safetensors"


def test_the_same_object_again_is_not_written_again(objects: FolderObjects) -> None:
    first = objects.put("models/a", b"weights")
    before = objects.path("models/a").stat().st_ino
    assert objects.put("models/a", b"weights") == first
    assert objects.path("models/a").stat().st_ino == before


def test_a_damaged_object_is_replaced_by_putting_it_again(objects: FolderObjects) -> None:
    stored = objects.put("models/a", b"weights")
    objects.path("models/a").write_bytes(b"weighty")
    assert objects.put("models/a", b"weights") == stored
    assert objects.get("models/a", sha256=stored.sha256) == b"weights"


@pytest.mark.parametrize("damage", [b"", b"weight", b"weightz", b"weightss"])
def test_a_damaged_object_is_refused(objects: FolderObjects, damage: bytes) -> None:
    stored = objects.put("models/a", b"weights")
    objects.path("models/a").write_bytes(damage)
    with pytest.raises(ChecksumMismatchError, match=r"models/a: its SHA-256 is .* restore it"):
        objects.get("models/a", sha256=stored.sha256)


def test_a_missing_object_is_a_terminal_error(objects: FolderObjects) -> None:
    with pytest.raises(NotFoundError, match="models/a: no such object"):
        objects.get("models/a", sha256="0" * 64)
    assert issubclass(NotFoundError, TerminalStorageError)


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\\..\\x", "a\0b", "link/x"],
)
def test_a_key_cannot_leave_the_folder(objects: FolderObjects, tmp_path: Path, key: str) -> None:
    objects.root.mkdir()
    (objects.root / "link").symlink_to(tmp_path)
    for call in (lambda: objects.put(key, b"x"), lambda: objects.get(key, sha256="")):
        with pytest.raises(ValueError, match="key: must be a path below the store"):
            call()
    assert not (tmp_path / "x").exists()


def test_a_write_that_fails_leaves_nothing(
    objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        objects.put("models/a", b"weights")
    assert list((objects.root / "models").iterdir()) == []
