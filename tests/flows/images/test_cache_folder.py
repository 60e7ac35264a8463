"""A cache on disk: whole files or none, no more than it may hold, the unused ones go first."""

import os
import time
from pathlib import Path

import pytest

from flows.images.cache_folder import CacheFolder


def keep(cache: CacheFolder, name: str, size: int = 10) -> Path:
    return cache.keep(name, lambda stream: stream.write(bytes(size)))


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 100)
    assert cache.find("a") is None
    path = cache.keep("a", lambda stream: stream.write(b"content"))
    assert cache.find("a") == path
    assert path.read_bytes() == b"content"
    assert names(tmp_path) == {"a"}


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 30)
    for position, name in enumerate("abc"):
        age(keep(cache, name), 100 - position)
    assert cache.find("a") is not None, "used now"
    keep(cache, "d")
    assert names(tmp_path) == {"a", "c", "d"}


def test_the_newest_stays_even_when_it_is_too_large(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 30)
    keep(cache, "a")
    keep(cache, "large", 50)
    assert names(tmp_path) == {"large"}


def test_what_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 30)

    def fail(_: object) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        cache.keep("a", fail)
    assert names(tmp_path) == set()


def test_what_a_dead_process_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 30)
    for name, seconds in (("old.1.tmp", 7200), ("new.2.tmp", 60)):
        (tmp_path / name).write_bytes(bytes(10))
        age(tmp_path / name, seconds)
    keep(cache, "a")
    assert names(tmp_path) == {"a", "new.2.tmp"}
