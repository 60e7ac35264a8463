"""Images fetched once: kept by what their bytes say, checked at every use, never too many."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.images import image_id
from flows.images.cache import ImageCache

CONTENT = b"an image"
NAME = image_id(CONTENT)


def never() -> bytes:
    raise AssertionError("fetched again")


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    assert ImageCache(tmp_path, 1000).get(NAME, lambda: CONTENT) == CONTENT
    assert ImageCache(tmp_path, 1000).get(NAME, never) == CONTENT


def test_other_bytes_are_given_back_but_not_kept(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 1000)
    assert cache.get(NAME, lambda: b"another") == b"another"
    assert list(tmp_path.iterdir()) == []


def test_a_cache_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    assert ImageCache(tmp_path, 0).get(NAME, lambda: CONTENT) == CONTENT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damaged", [b"", b"an imagf", CONTENT[:3]])
def test_damaged_bytes_are_fetched_again(tmp_path: Path, damaged: bytes) -> None:
    cache = ImageCache(tmp_path, 1000)
    cache.keep(NAME, CONTENT)
    (tmp_path / NAME).write_bytes(damaged)
    assert cache.get(NAME, lambda: CONTENT) == CONTENT
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_without_a_place_to_keep_them_images_are_fetched(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert ImageCache(tmp_path / "file" / "cache", 1000).get(NAME, lambda: CONTENT) == CONTENT


def test_threads_that_want_the_same_image_fetch_it_once(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 1000)
    fetched = []
    everybody = threading.Barrier(8)

    def want(_number: int) -> bytes:
        everybody.wait()
        return cache.get(NAME, lambda: fetched.append(1) or CONTENT)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(want, range(8))) == {CONTENT}
    assert len(fetched) == 1


def fill(folder: Path, seed: int) -> None:
    cache = ImageCache(folder, 32_000)
    for number in range(200):
        data = bytes([seed, number]) * 250
        assert cache.get(image_id(data), lambda data=data: data) == data
        # Used again, while others drop what they can.
        assert cache.get(image_id(data), lambda data=data: data) == data


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_it_is_never_too_large(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 32_000)
    for number in range(200):
        data = bytes([number]) * 500
        cache.keep(image_id(data), data)
        assert size(tmp_path) <= 32_000
    # And not much smaller than it may be, the newest among what is there.
    assert size(tmp_path) >= 30_000
    assert cache.get(image_id(data), never) == data


def test_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=fill, args=(tmp_path, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    # Each may be a 32nd too far.
    assert 20_000 <= size(tmp_path) <= 32_000 * (1 + 3 / 32)
