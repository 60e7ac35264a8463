"""What is damaged is found, what can be made again is, and nothing else is touched."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import compaction, fsck, repair, shards
from storage.catalog.files import lake_files, orphans
from storage.catalog.fsck import Breach
from storage.catalog.lake import Lake
from storage.errors import StorageError
from storage.rows import EmbeddingRow, SuppressionRow, mask_id


class Inspector:
    """Knows one good mask: 12 pixels in the box that `make.mask` writes."""

    def box_and_area(self, _: tuple[int, int], counts: str) -> tuple[list[float], int]:
        if counts == "broken":
            raise ValueError("the runs add up to 7 pixels, not 600")
        return [1.0, 2.0, 3.0, 4.0], 12


@dataclass
class Case:
    """A store with three shards, a person's mask that covers one of theirs, and an embedding."""

    lake: Lake
    make: Any
    current: tuple[str, int] | None = ("v1", 1)

    def check(self, *, quick: bool = False) -> list[Breach]:
        return fsck.check(
            self.lake,
            current=lambda: self.current,
            submissions=list,
            inspect=Inspector(),
            quick=quick,
        )

    def repair(self) -> list[repair.Repair]:
        return repair.repair(self.lake, current=self.current, inspect=Inspector())

    def uri(self, shard_key: str, kind: str = "mask") -> str:
        row = self.lake.rows(f"SELECT {kind}_uri AS u FROM shards WHERE shard_key = ?", [shard_key])
        return str(row[0]["u"])

    def path(self, uri: str) -> Path:
        return self.lake.root / uri

    def states(self) -> dict[str, str]:
        rows = self.lake.rows("SELECT shard_key, state FROM shards ORDER BY shard_key")
        return {row["shard_key"]: row["state"] for row in rows}

    def num_masks(self) -> int:
        return int(self.lake.rows("SELECT count(*) AS n FROM masks")[0]["n"])

    def label_again(self) -> None:
        for row in shards.pending(self.lake, "v1", "config"):
            shards.commit_shards(self.lake, [self.make.work(self.lake, row)])


@pytest.fixture
def case(lake: Lake, make: Any, put: Any) -> Case:
    weights = lake.objects.put("models/w.safetensors", b"weights" * 100)
    embedding = lake.objects.put("embeddings/e/a.safetensors", b"embedding" * 100)
    rows = [make.shard(f"s{n}", [f"{n}a", f"{n}b"]) for n in range(3)]
    put(
        make.run("run", status="done"),
        *(make.image(f"{n}{name}") for n in range(3) for name in "ab"),
        make.model("v1", weights_uri=weights.uri, weights_sha256=weights.sha256),
        make.mask("label", "0a"),
        *rows,
        EmbeddingRow(
            image_id="0a",
            encoder_id="e",
            uri=embedding.uri,
            sha256=embedding.sha256,
            bytes=embedding.bytes,
            created_at=make.now,
        ),
    )
    for row in rows:
        shards.commit_shards(lake, [make.work(lake, row)])
    covered = lake.rows("SELECT mask_id FROM masks WHERE shard_key = 's0' LIMIT 1")[0]["mask_id"]
    put(SuppressionRow(mask_id=covered, by_mask_id=mask_id("label"), iou=0.9, run_id="run"))
    return Case(lake, make)


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def test_a_sound_store_is_left_alone(case: Case) -> None:
    before = case.lake.snapshot()
    assert case.check() == []
    assert case.repair() == []
    assert case.lake.snapshot() == before
    assert not case.path("quarantine").exists()


Break = Callable[[Case], object]
DAMAGE: dict[str, Break] = {
    "a shard's masks gone": lambda c: c.path(c.uri("s1")).unlink(),
    "a shard's masks flipped": lambda c: flip(c.path(c.uri("s1")), random.Random(1)),
    "a shard's masks cut": lambda c: c.path(c.uri("s1")).write_bytes(b"PAR1"),
    "a shard's sets gone": lambda c: c.path(c.uri("s1", "set")).unlink(),
    "both files of a shard gone": lambda c: [
        c.path(c.uri("s1", kind)).unlink() for kind in ("mask", "set")
    ],
    "rows missing": lambda c: c.lake.commit(
        lambda tx: tx.execute("DELETE FROM masks WHERE image_id = '1a'"), message="test"
    ),
    "a set twice": lambda c: c.lake.commit(
        lambda tx: tx.insert([c.make.image_set("s1", "1a", 2)]), message="test"
    ),
    "a broken mask": lambda c: c.lake.commit(
        lambda tx: tx.execute(
            "UPDATE masks SET segmentation = {'size': [20, 30], 'counts': 'broken'} "
            "WHERE shard_key = 's1' AND image_id = '1b'"
        ),
        message="test",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_shard_is_labelled_anew(case: Case, damage: Break) -> None:
    damage(case)
    assert case.check() != []
    done = case.repair()
    assert any(each.where == "shard s1" for each in done), done
    assert case.check() == []
    assert case.states() == {"s0": "committed", "s1": "pending", "s2": "committed"}
    assert case.num_masks() == 9
    case.label_again()
    assert case.num_masks() == 13
    assert case.check() == []
    assert case.repair() == []


def test_merged_shards_are_labelled_anew_when_their_file_is_lost(case: Case) -> None:
    case.lake.commit(lambda tx: tx.execute("DELETE FROM masks WHERE stage = 'label'"), message="t")
    case.lake.commit(lambda tx: tx.execute("DELETE FROM suppressions"), message="t")
    compaction.compact(case.lake)
    assert case.check() == []
    assert case.uri("s1") == "None"
    table = case.lake.root / "lake/main/masks"
    merged = [f for f in lake_files(case.lake) if f.startswith("lake/main/masks/ducklake-")]
    newest = max((case.path(uri) for uri in merged), key=lambda path: path.stat().st_size)
    assert newest.parent == table
    flip(newest, random.Random(3))
    assert case.check() != []
    case.repair()
    assert set(case.states().values()) == {"pending"}
    assert case.check() == []
    case.label_again()
    assert case.num_masks() == 12
    assert case.check() == []


def test_what_follows_from_a_mask_is_computed_anew(case: Case) -> None:
    case.lake.commit(
        lambda tx: tx.execute("UPDATE masks SET area = 13, bbox = [0, 0, 1, 1] WHERE area = 12"),
        message="test",
    )
    assert len(case.check()) == 13
    before = case.lake.rows("SELECT mask_id, shard_key, segmentation FROM masks ORDER BY ALL")
    assert len(case.repair()) == 13
    assert case.check() == []
    after = case.lake.rows("SELECT mask_id, shard_key, segmentation FROM masks ORDER BY ALL")
    assert after == before
    assert case.lake.rows("SELECT DISTINCT area, bbox FROM masks") == [
        {"area": 12, "bbox": [1.0, 2.0, 3.0, 4.0]}
    ]


def test_a_damaged_embedding_is_dropped(case: Case) -> None:
    flip(case.path("embeddings/e/a.safetensors"), random.Random(1))
    assert [each.invariant for each in case.check()] == ["I7"]
    assert case.check(quick=True) == []
    assert [each.where for each in case.repair()] == ["embedding embeddings/e/a.safetensors"]
    assert case.check() == []
    assert case.lake.rows("SELECT * FROM embeddings") == []
    assert case.path("quarantine/embeddings/e/a.safetensors").is_file()


def test_the_status_follows_the_pointer(case: Case) -> None:
    case.current = None
    assert [each.where for each in case.repair()] == ["model v1"]
    assert case.check() == []
    case.current = ("v1", 3)
    case.repair()
    assert case.check() == []


def test_what_only_a_person_can_make_is_left_to_the_backup(case: Case) -> None:
    lost = next((case.lake.root / "lake/main/masks").glob("ducklake-*.parquet"))
    good = lost.read_bytes()
    lost.unlink()
    done = case.repair()
    assert any("restore it from a backup" in each.action for each in done)
    assert [each.invariant for each in case.check()]
    lost.write_bytes(good)
    assert case.check() == []
    assert case.num_masks() == 13


def test_old_snapshots_that_are_not_whole_go_unless_something_needs_them(
    case: Case, make: Any, put: Any
) -> None:
    needed = case.lake.snapshot()
    put(make.model("v2", status="rejected", training_snapshot=needed, weights_uri="models/w"))
    sums = case.lake.objects.put("models/w", b"other")
    case.lake.commit(
        lambda tx: tx.execute(
            "UPDATE model_versions SET weights_sha256 = ? WHERE version = 'v2'", [sums.sha256]
        ),
        message="test",
    )
    case.path(case.uri("s1")).unlink()
    done = case.repair()
    assert any(f"snapshot {needed}, of model_versions" in each.where for each in done)
    assert any(each.action == "expired: they were not whole" for each in done)
    left = case.check()
    assert [each.invariant for each in left] == ["I7"], left


@pytest.mark.slow
def test_flipped_bits_in_200_objects_are_all_caught(
    case: Case, make: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lake files of DuckLake's own and of shards, deleted rows, weights, embeddings, notes."""
    put(*(make.mask(f"more {n}", "0a") for n in range(20)))
    case.lake.commit(
        lambda tx: tx.execute("UPDATE masks SET annotator = 'x' WHERE stage = 'label'"), message="t"
    )
    rng = random.Random(11)
    folders = ("lake", "models", "embeddings", "checksums")
    nobodys = {case.path(each.uri) for each in orphans(case.lake)}
    paths = sorted(
        path
        for name in folders
        for path in case.path(name).rglob("*")
        if path.is_file() and path not in nobodys
    )
    assert len(paths) > 20
    for number in range(200):
        if number == len(paths):
            # Each was flipped once under all rules, most of which have nothing to do with files.
            for name, rules in (("_FIRST", fsck._OF_FILES), ("LOOKS", ()), ("_LAST", ())):
                monkeypatch.setattr(fsck, name, rules)
        path = paths[number % len(paths)]
        good = path.read_bytes()
        flip(path, rng)
        names = (path.relative_to(case.lake.root).as_posix(), path.name)
        try:
            found = case.check()
        except StorageError as error:
            found = [Breach("I7", str(error), "")]
        assert any(any(n in each.where + each.message for n in names) for each in found), path
        path.write_bytes(good)
    monkeypatch.undo()
    assert case.check() == []
