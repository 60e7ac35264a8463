"""Compaction and expiry free files; what anything needs stays, at every snapshot that stays."""

import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import compaction, expiry, fsck, gc, seals, shards
from storage.catalog.files import lake_files, scheduled
from storage.catalog.lake import Lake
from storage.errors import NotFoundError

DRIVER = Path(__file__).with_name("driver.py")
COUNT = "SELECT count(*) AS n, count(DISTINCT image_id) AS images, sum(area) AS area FROM masks"
CAME = "SELECT snapshot_id, count(*) AS n FROM masks GROUP BY ALL ORDER BY ALL"


class Inspector:
    """Knows the masks that `make` and the driver write."""

    def box_and_area(self, _: tuple[int, int], counts: str) -> tuple[list[float], int]:
        return ([0.0, 0.0, 1.0, 1.0], 1) if counts == "x" else ([1.0, 2.0, 3.0, 4.0], 12)


def breaches(lake: Lake) -> list[fsck.Breach]:
    return fsck.check(lake, current=lambda: None, submissions=list, inspect=Inspector())


def fill(lake: Lake, make: Any, put: Callable[..., int]) -> list[int]:
    """Six shards and six people's masks, one commit each; returns some snapshots between."""
    names = [f"{n}{name}" for n in range(6) for name in "ab"]
    put(make.run("run", status="done"), *(make.image(name) for name in names))
    weights = lake.objects.put("models/v1.safetensors", b"weights")
    sha256 = weights.sha256
    put(make.model("v1", status="retired", weights_sha256=sha256, training_snapshot=2))
    rows = [make.shard(f"s{n}", [f"{n}a", f"{n}b"]) for n in range(6)]
    shards.plan(lake, rows)
    seen = []
    for number, row in enumerate(rows):
        shards.commit_shards(lake, [make.work(lake, row)])
        seen.append(put(make.mask(f"manual {number}", f"{5 - number}a", "manual")))
    return seen


def test_merged_files_keep_every_snapshot_readable(lake: Lake, make: Any, put: Any) -> None:
    snapshots = fill(lake, make, put)
    before = {number: lake.rows(COUNT, snapshot=number) for number in snapshots}
    came = lake.rows(CAME)
    assert len(came) == 12
    assert breaches(lake) == []
    files = {each.table: each for each in compaction.survey(lake)}
    assert files["masks"].num_files == 12
    compaction.compact(lake)
    assert lake.rows(CAME) == came, "each row knows with which snapshot it came"
    now = {each.table: each for each in compaction.survey(lake)}
    assert now["masks"].num_files == 1
    assert now["image_sets"].num_files == 1
    assert {number: lake.rows(COUNT, snapshot=number) for number in snapshots} == before
    assert breaches(lake) == []
    assert lake.rows("SELECT DISTINCT mask_uri, set_sha256, num_masks, state FROM shards") == [
        {"mask_uri": None, "set_sha256": None, "num_masks": 4, "state": "committed"}
    ]
    images = lake.rows("SELECT image_id FROM masks")
    assert images == sorted(images, key=lambda row: row["image_id"]), "sorted by image"
    assert set(seals.sealed(lake.objects)) <= lake_files(lake)
    freed = gc.collect(lake, min_age_s=0, delete=True)
    assert len([each for each in freed if "/masks/" in each.uri]) == 12
    assert scheduled(lake) == {}
    assert {number: lake.rows(COUNT, snapshot=number) for number in snapshots} == before
    assert breaches(lake) == []
    row = make.shard("t", ["0a"], config_hash="other")
    shards.plan(lake, [row])
    shards.commit_shards(lake, [make.work(lake, row)])
    assert lake.rows(COUNT)[0]["n"] == before[snapshots[-1]][0]["n"] + 2


def test_a_compaction_that_is_cut_short_is_finished_by_the_next(
    lake: Lake, make: Any, put: Any
) -> None:
    fill(lake, make, put)
    sql = "CALL ducklake_merge_adjacent_files('lake', 'masks')"
    lake.commit(lambda tx: tx.rows(sql), message="killed behind this")
    assert breaches(lake) == []
    gc.collect(lake, min_age_s=0, delete=True)
    assert breaches(lake) == [], "what the ledger names stays"
    compaction.compact(lake)
    assert breaches(lake) == []
    assert lake.rows("SELECT DISTINCT mask_uri FROM shards") == [{"mask_uri": None}]


def test_old_snapshots_go_but_for_those_that_something_needs(
    lake: Lake, make: Any, put: Any
) -> None:
    snapshots = fill(lake, make, put)
    for number in snapshots[:2]:
        put(make.model(f"v{number}", status="rejected", training_snapshot=number))
    lake.commit(lambda tx: tx.execute("DELETE FROM masks WHERE stage = 'manual'"), message="t")
    before = {number: lake.rows(COUNT, snapshot=number) for number in snapshots}
    assert expiry.expire(lake, older_than_s=3600) == []
    listed = expiry.expire(lake, older_than_s=0)
    assert lake.rows(COUNT, snapshot=snapshots[3]) == before[snapshots[3]], "a dry run"
    assert expiry.expire(lake, older_than_s=0, apply=True)[:-1] == listed[:-1]
    kept = {each.snapshot: each.kept_for for each in listed if each.kept_for}
    named = "model_versions.training_snapshot"
    newest = lake.snapshot()
    assert kept == {2: named, snapshots[0]: named, snapshots[1]: named, newest: "the newest"}
    for number in snapshots[:2]:
        assert lake.rows(COUNT, snapshot=number) == before[number]
    with pytest.raises(NotFoundError):
        lake.rows(COUNT, snapshot=snapshots[3])
    freed = gc.collect(lake, min_age_s=0, delete=True)
    assert freed != []
    for number in snapshots[:2]:
        assert lake.rows(COUNT, snapshot=number) == before[number]
    assert lake.rows(COUNT)[0]["n"] == 24


def test_what_a_running_stage_may_read_is_kept(lake: Lake, make: Any, put: Any) -> None:
    first = put(make.image("a"))
    time.sleep(0.01)
    put(make.run("running", started_at=lake.rows("SELECT now()::TIMESTAMP AS t")[0]["t"]))
    put(make.image("b"))
    put(make.image("c"))
    found = {each.snapshot: each.kept_for for each in expiry.expire(lake, older_than_s=0)}
    reason = "a run that has not ended"
    assert found[first] == found[first + 1] == found[first + 2] == reason
    assert found[first - 1] is None


def test_what_was_freed_is_as_old_as_that(lake: Lake, make: Any, put: Any) -> None:
    fill(lake, make, put)
    compaction.compact(lake)
    time.sleep(0.2)
    assert gc.collect(lake, min_age_s=3600) == []
    assert gc.collect(lake, min_age_s=0.1) != []


def test_more_garbage_than_can_be_is_refused(lake: Lake) -> None:
    lake.objects.put("models/x", b"x" * 100_000)
    with pytest.raises(gc.TooMuchGarbage, match="look at the list first, then add --yes"):
        gc.collect(lake, min_age_s=0, delete=True, max_share=gc.MAX_SHARE)
    assert lake.objects.find("models/x") is not None
    gc.collect(lake, min_age_s=0, delete=True, max_share=1.0)
    assert lake.objects.find("models/x") is None


@pytest.mark.slow
def test_upkeep_over_and_over_while_writers_run(lake: Lake, make: Any, put: Any) -> None:
    """Compaction, expiry and a sweep without any age, beside two writers: nothing live goes."""
    put(make.run("run", status="done"), *(make.image(f"{n}a") for n in range(60)))
    weights = lake.objects.put("models/v1.safetensors", b"weights")
    put(make.model("v1", status="retired", weights_sha256=weights.sha256))
    shards.plan(lake, [make.shard(f"s{n}", [f"{n}a"]) for n in range(60)])
    rng = random.Random(5)
    command = [sys.executable, str(DRIVER), "insists", pickle.dumps(lake.place).hex()]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    swept = rounds = 0
    while any(writer.poll() is None for writer in writers):
        rounds += 1
        if rounds % 3 == 0:
            compaction.compact(lake)
        if rounds % 2 == 0:
            expiry.expire(lake, older_than_s=rng.uniform(0, 2), apply=True)
        swept += len(gc.collect(lake, min_age_s=0, delete=True))
        assert not {b.where for b in breaches(lake) if b.invariant == "I7"}
        time.sleep(rng.uniform(0, 0.2))
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    assert swept > 0
    assert rounds >= 3
    assert breaches(lake) == []
    assert lake.rows("SELECT count(*) AS n, count(DISTINCT mask_id) AS m FROM masks") == [
        {"n": 180, "m": 180}
    ]
