"""Images from elsewhere come several at once, before they are asked for, and only as files."""

import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.images import ImageLimits, image_id
from flows.errors import StageError
from flows.images.fetching import fetched_ahead
from flows.images.remote import RemoteImages
from flows.images.sources import ImageReader, Sources
from flows.intake import files as intake_files
from flows.intake.files import read_images
from storage.errors import NotFoundError, TransientStorageError
from storage.https.reading import HttpsReader
from storage.s3.config import S3Config

HOST = "https://images.example"
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Host:
    """In the place of `HttpsReader`: answers only when `together` ask at the same time."""

    files: dict[str, bytes]
    together: threading.Barrier
    asked: list[str] = field(default_factory=list)

    def read(self, address: str) -> bytes:
        self.asked.append(address)
        self.together.wait(PATIENCE_S)
        if address not in self.files:
            raise NotFoundError(f"{address}: gone")
        return self.files[address]


def reader_of(host: Any, cache: Path, **changes: Any) -> ImageReader:
    settings: dict[str, Any] = {
        "s3": S3Config(),
        "https": host,
        "max_bytes": 10**6,
        "cache": cache,
        "cache_bytes": 10**7,
        "num_threads": 4,
    }
    remote = RemoteImages(**{**settings, **changes})
    return ImageReader(Sources({}, {"there": HOST}), ImageLimits(), remote)


@pytest.fixture
def files(drawn: Any) -> dict[str, bytes]:
    paths = sorted(drawn.folder.iterdir())[:8]
    return {f"{HOST}/{path.name}": path.read_bytes() for path in paths}


def refs(files: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (f"source:there/{address.rpartition('/')[2]}", image_id(data))
        for address, data in files.items()
    ]


def test_several_are_fetched_at_once_and_kept_in_order(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    host = Host(files, threading.Barrier(4))
    reader = reader_of(host, tmp_path)
    found, problems = read_images(list(files), reader, lambda _done, _total: None)
    assert ([item.place for item in found], problems) == (list(files), [])
    # They are at hand from now on.
    for uri, name in refs(files):
        assert reader.pixels(uri, name).shape == (96, 128, 3)
    assert len(host.asked) == 8


def test_they_come_ahead_and_once(files: dict[str, bytes], tmp_path: Path) -> None:
    host = Host(files, threading.Barrier(4))
    reader = reader_of(host, tmp_path)
    with fetched_ahead(reader, refs(files)):
        # One thread alone would wait for three others for ever.
        for uri, name in refs(files):
            assert reader.pixels(uri, name).shape == (96, 128, 3)
    assert sorted(host.asked) == sorted(files)


def test_what_cannot_be_had_is_told_to_who_reads_it(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    host = Host(files, threading.Barrier(1))
    reader = reader_of(host, tmp_path)
    missing = ("source:there/gone.png", "0" * 32)
    with fetched_ahead(reader, [missing, *refs(files)]):
        with pytest.raises(StageError, match=r"gone\.png: gone; or correct sources\.toml"):
            reader.pixels(*missing)
        for uri, name in refs(files):
            reader.pixels(uri, name)


def test_no_more_come_ahead_than_half_the_cache_holds(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    host = Host(files, threading.Barrier(1))
    first = len(next(iter(files.values())))
    reader = reader_of(host, tmp_path, cache_bytes=2 * first, num_threads=1)
    before = set(threading.enumerate())
    with fetched_ahead(reader, refs(files)):
        for thread in set(threading.enumerate()) - before:
            thread.join(PATIENCE_S)
        assert len(host.asked) == 1


def test_no_more_are_decoded_at_once_than_there_are_cores(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, now, most = threading.Lock(), 0, 0
    real = intake_files.images.decode

    def decode(data: bytes, limits: ImageLimits) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        try:
            return real(data, limits)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(intake_files.images, "decode", decode)
    monkeypatch.setattr(intake_files.os, "cpu_count", lambda: 1)
    # All eight arrive at the same moment.
    reader = reader_of(Host(files, threading.Barrier(8)), tmp_path, num_threads=8)
    found, _ = read_images(list(files), reader, lambda _done, _total: None)
    assert (len(found), most) == (8, 1)


class Away:
    """A host that does not answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def read(self, address: str) -> bytes:
        self.asked.append(address)
        raise TransientStorageError(f"{address}: does not answer")


def test_files_of_this_machine_need_no_boto3() -> None:
    program = (
        "import sys, flows.workspace, flows.intake.adding, flows.intake.coco_import\n"
        "sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_reader_goes_to_workers_as_it_is(tmp_path: Path) -> None:
    reader = reader_of(HttpsReader(max_bytes=1000), tmp_path)
    assert pickle.loads(pickle.dumps(reader)) == reader


def test_a_host_that_stays_away_stops_the_command(tmp_path: Path) -> None:
    away = Away()
    places = [f"{HOST}/{number}.png" for number in range(5000)]
    with pytest.raises(StageError, match=r"31\.png: does not answer \(32 images in a row\)"):
        read_images(places, reader_of(away, tmp_path), lambda _done, _total: None)
    assert len(away.asked) < len(places)
