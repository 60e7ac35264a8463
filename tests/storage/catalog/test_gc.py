"""The sweep takes what nothing names and nobody writes, and nothing else."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import gc, shards
from storage.catalog.lake import Lake
from storage.errors import ChecksumMismatchError
from storage.rows import EmbeddingRow

HOUR = 3600.0


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def uris(found: list[Any]) -> list[str]:
    return [orphan.uri for orphan in found]


@pytest.mark.places("folder", "team")
def test_what_snapshots_and_rows_name_stays(lake: Lake, put: Any, make: Any) -> None:
    row = make.shard("k", ["a"])
    weights = lake.objects.put("models/w.safetensors", b"weights")
    embedding = lake.objects.put("embeddings/e/a.safetensors", b"embedding")
    put(
        row,
        make.model("v1", weights_uri=weights.uri, weights_sha256=weights.sha256),
        *(make.mask(str(number), "a") for number in range(50)),
        EmbeddingRow(
            image_id="a",
            encoder_id="e",
            uri=embedding.uri,
            sha256=embedding.sha256,
            bytes=embedding.bytes,
            created_at=make.now,
        ),
    )
    shards.commit_shards(lake, [make.work(lake, row)])
    before = lake.snapshot()
    # Both an old file and the list of its deleted rows are still needed to read `before`.
    lake.commit(lambda tx: tx.execute("DELETE FROM masks WHERE stage = 'label'"), message="test")
    assert gc.collect(lake, min_age_s=0, delete=True) == []
    assert lake.rows("SELECT count(*) AS n FROM masks") == [{"n": 2}]
    assert lake.rows("SELECT count(*) AS n FROM masks", snapshot=before) == [{"n": 52}]


def test_what_nothing_names_goes_once_it_is_old(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])
    dropped, taken = make.work(lake, row), make.work(lake, row)
    shards.commit_shards(lake, [taken])
    lake.objects.put("models/x.safetensors", b"12345")
    half = lake.root / "lake" / "main" / "masks" / "k.parquet.abc.tmp"
    half.write_bytes(b"half")
    expected = sorted(
        [
            dropped.masks.uri,
            dropped.sets.uri,
            "models/x.safetensors",
            f"{half.relative_to(lake.root)}",
        ]
    )
    assert gc.collect(lake, min_age_s=HOUR, delete=True) == []
    for uri in expected:
        age(lake.root / uri, 2 * HOUR)
    found = gc.collect(lake, min_age_s=HOUR)
    assert uris(found) == expected
    assert {item.uri: item.bytes for item in found}["models/x.safetensors"] == 5
    assert all((lake.root / uri).exists() for uri in expected), "a dry run deletes nothing"
    assert uris(gc.collect(lake, min_age_s=HOUR, delete=True)) == expected
    assert not any((lake.root / uri).exists() for uri in expected)
    assert gc.collect(lake, min_age_s=0) == []
    assert lake.rows("SELECT count(*) AS n FROM masks") == [{"n": 2}]


@pytest.mark.places("folder", "team")
def test_a_shard_whose_files_were_swept_is_not_committed(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])
    receipt = make.work(lake, row)
    gc.collect(lake, min_age_s=0, delete=True)
    with pytest.raises(ChecksumMismatchError, match="is gone"):
        shards.commit_shards(lake, [receipt])
    assert lake.rows("SELECT state FROM shards") == [{"state": "pending"}]
    assert len(shards.commit_shards(lake, [make.work(lake, row)])) == 1


def test_files_outside_its_folders_are_not_its_business(lake: Lake) -> None:
    (lake.root / "queue.sqlite").write_bytes(b"queue")
    (lake.root / "checkpoints").mkdir()
    (lake.root / "checkpoints" / "c.safetensors").write_bytes(b"checkpoint")
    assert gc.collect(lake, min_age_s=0, delete=True) == []
    assert (lake.root / "checkpoints" / "c.safetensors").exists()


def test_a_link_is_neither_followed_nor_taken(
    lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "precious"
    elsewhere.write_bytes(b"mine")
    (lake.root / "models").mkdir()
    (lake.root / "models" / "link").symlink_to(elsewhere)
    assert gc.collect(lake, min_age_s=0, delete=True) == []
    assert elsewhere.exists()


def test_a_negative_age_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="min_age_s: must not be negative, but got -1"):
        gc.collect(lake, min_age_s=-1)
