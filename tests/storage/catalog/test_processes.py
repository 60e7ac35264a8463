"""Several processes on one store, killed at any moment: nothing is lost and nothing doubled."""

import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest

from storage.catalog import compaction, gc, shards
from storage.catalog.lake import Lake
from storage.failpoints import EXIT_CODE, VARIABLE

pytestmark = pytest.mark.places("folder", "team")
DRIVER = Path(__file__).with_name("driver.py")
NEST = Path(__file__).with_name("nest.py")
MASKS_PER_IMAGE = 3


def start(
    work: str, lake: Lake, *arguments: object, failpoint: str = ""
) -> "subprocess.Popen[str]":
    place = pickle.dumps(lake.place).hex()
    return subprocess.Popen(
        [sys.executable, str(DRIVER), work, place, *map(str, arguments)],
        env={**os.environ, VARIABLE: failpoint},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> int:
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (0, -9, EXIT_CODE), errors
    return process.returncode


def plan(lake: Lake, make: Any, num_shards: int) -> None:
    rows = [make.shard(f"s{n}", [f"{n}a", f"{n}b"]) for n in range(num_shards)]
    shards.plan(lake, rows)


def breaches(lake: Lake) -> list[dict[str, Any]]:
    """Committed shards and what is there, wherever the two do not agree."""
    return lake.rows(
        f"""WITH planned AS (SELECT shard_key, state, unnest(image_ids) AS image_id FROM shards),
            sets AS (SELECT shard_key, image_id, count(*) AS sets FROM image_sets GROUP BY ALL),
            found AS (SELECT shard_key, image_id, count(*) AS masks FROM masks GROUP BY ALL)
        SELECT * FROM planned FULL JOIN sets USING (shard_key, image_id)
                              FULL JOIN found USING (shard_key, image_id)
        WHERE NOT (state = 'committed' AND sets = 1 AND masks = {MASKS_PER_IMAGE}
                   OR state = 'pending' AND sets IS NULL AND masks IS NULL) OR state IS NULL"""
    )


def num_committed(lake: Lake) -> int:
    return int(lake.rows("SELECT count(*) AS n FROM shards WHERE state = 'committed'")[0]["n"])


@pytest.mark.parametrize(
    ("failpoint", "committed"),
    [
        ("shard.after_write", 0),
        ("commit.after_update", 0),
        ("commit.after_add", 0),
        ("commit.after_commit", 1),
    ],
)
def test_a_driver_killed_at_a_failpoint(
    lake: Lake, make: Any, failpoint: str, committed: int
) -> None:
    plan(lake, make, 2)
    assert finish(start("shards", lake, failpoint=failpoint)) == EXIT_CODE
    assert num_committed(lake) == committed
    assert breaches(lake) == []
    assert finish(start("shards", lake)) == 0
    assert num_committed(lake) == 2
    assert breaches(lake) == []
    orphans = gc.collect(lake, min_age_s=0, delete=True)
    # DuckLake's own files of the lost transaction may be among them.
    attempts = [item for item in orphans if "ducklake-" not in item.uri]
    assert len(attempts) == (0 if committed else 2)
    assert gc.collect(lake, min_age_s=0, delete=False) == []
    assert breaches(lake) == []


def test_commits_of_four_processes_all_land(lake: Lake) -> None:
    processes = [start("runs", lake, name, 4) for name in "abcd"]
    reads = 0
    while any(process.poll() is None for process in processes):
        lake.rows("SELECT * FROM runs")
        reads += 1
    assert [finish(process) for process in processes] == [0] * 4
    runs = lake.rows("SELECT run_id, status FROM runs ORDER BY run_id")
    expected = [f"{name}-{number}" for name in "abcd" for number in range(4)]
    assert runs == [{"run_id": run_id, "status": "done"} for run_id in expected]
    assert lake.snapshot() == 1 + 2 * len(runs)
    assert reads > 10


class Nest:
    """Drivers that start at once, and that end where they are told to."""

    def __init__(self, lake: Lake) -> None:
        place = pickle.dumps(lake.place).hex()
        self._process = subprocess.Popen(
            [sys.executable, str(NEST), place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.running:
            self._ask(f"kill {pid}")
        self._process.communicate(timeout=60)

    def fill(self, num: int) -> None:
        """See to it that `num` are running; those that have ended had nothing to complain of."""
        for pid in list(self.running):
            if (code := self._ask(f"poll {pid}")) != "runs":
                assert code == "0"
                self.running.remove(pid)
        while len(self.running) < num:
            self.running.append(self._ask("start"))

    def kill(self, pid: str) -> bool:
        """Kill one; whether it was still at work."""
        self.running.remove(pid)
        code = self._ask(f"kill {pid}")
        assert code in ("0", "-9")
        return code == "-9"

    def finish(self) -> None:
        """Wait for all of them."""
        assert [self._ask(f"wait {pid}") for pid in self.running] == ["0"] * len(self.running)
        self.running.clear()

    def _ask(self, order: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.mark.slow
def test_chaos_of_three_drivers_without_a_lease(lake: Lake, make: Any) -> None:
    """200 random kills, or as many as hit in four minutes; sweeps and merges all the while."""
    rng = random.Random(7)
    kills, num_shards = 0, 0
    deadline = time.monotonic() + 240
    with Nest(lake) as nest:
        while kills < 200 and time.monotonic() < deadline:
            if num_committed(lake) == num_shards:
                rows = [make.shard(f"s{num_shards + n}", [f"{num_shards + n}a"]) for n in range(20)]
                shards.plan(lake, rows)
                num_shards += 20
            nest.fill(3)
            # Opening the store takes a while: let some reach the commit.
            time.sleep(rng.uniform(0.05, 0.5))
            kills += nest.kill(rng.choice(nest.running))
            assert breaches(lake) == []
            if kills % 10 == 0:
                gc.collect(lake, min_age_s=30, delete=True)
            if kills % 40 == 0:
                compaction.compact(lake)
        nest.fill(1)
        nest.finish()
    assert kills >= 60
    assert num_committed(lake) == num_shards
    assert breaches(lake) == []
