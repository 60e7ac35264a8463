"""A shard is promised once and committed at most once; a damaged file is never committed."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from storage.catalog import shards
from storage.catalog.lake import Lake, Transaction
from storage.catalog.shard_files import ShardReceipt
from storage.durable import file_sha256
from storage.errors import ChecksumMismatchError
from storage.rows import SuppressionRow


def counts(lake: Lake) -> tuple[int, int]:
    row = lake.rows(
        "SELECT (SELECT count(*) FROM masks) AS masks, (SELECT count(*) FROM image_sets) AS sets"
    )[0]
    return row["masks"], row["sets"]


def states(lake: Lake) -> dict[str, str]:
    return {row["shard_key"]: row["state"] for row in lake.rows("SELECT * FROM shards")}


@pytest.mark.places("folder", "team")
def test_a_shard_is_planned_worked_and_committed(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a", "b"])
    shards.plan(lake, [row])
    assert shards.pending(lake, "v1", "config") == [row]
    receipt = pickle.loads(pickle.dumps(make.work(lake, row)))
    assert (receipt.shard_key, receipt.num_images, receipt.num_masks) == ("k", 2, 4)
    assert counts(lake) == (0, 0)
    assert shards.commit_shards(lake, [receipt]) == [receipt]
    assert counts(lake) == (4, 2)
    assert shards.pending(lake, "v1", "config") == []
    ledger = lake.rows("SELECT * FROM shards")[0]
    assert ledger["attempt"] == receipt.attempt
    assert ledger["mask_uri"] == f"lake/main/masks/k.{receipt.attempt}.parquet"
    assert ledger["num_masks"] == 4
    sets = lake.rows("SELECT * FROM image_sets ORDER BY image_id")
    assert sets == [make.image_set("k", image_id, 2).to_dict() for image_id in ("a", "b")]
    masks = lake.rows("SELECT * FROM masks ORDER BY image_id, mask_id")
    expected = [make.auto_mask("k", image, n).to_dict() for image in ("a", "b") for n in (0, 1)]
    assert masks == sorted(expected, key=lambda mask: (mask["image_id"], mask["mask_id"]))


@pytest.mark.places("folder", "team", slow=True)
def test_only_pending_shards_of_that_model_and_config_are_pending(lake: Lake, make: Any) -> None:
    other_model = make.shard("m", ["a"], model_version="v2")
    other_config = make.shard("c", ["a"], config_hash="other")
    shards.plan(lake, [other_model, other_config])
    assert shards.pending(lake, "v1", "config") == []
    assert shards.pending(lake, "v2", "config") == [other_model]


@pytest.mark.places("folder", "team")
def test_a_shard_without_a_mask_still_has_its_sets(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])
    assert len(shards.commit_shards(lake, [make.work(lake, row, 0)])) == 1
    assert counts(lake) == (0, 1)


@pytest.mark.places("folder", "team")
def test_a_second_attempt_of_a_shard_is_dropped(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])
    first, second = make.work(lake, row), make.work(lake, row)
    assert first.masks.uri != second.masks.uri
    assert shards.commit_shards(lake, [first]) == [first]
    assert shards.commit_shards(lake, [second]) == []
    assert shards.commit_shards(lake, [first]) == []
    assert counts(lake) == (2, 1)


@pytest.mark.places("folder", "team")
def test_two_attempts_in_one_batch_are_one(lake: Lake, make: Any) -> None:
    row, other = make.shard("k", ["a"]), make.shard("l", ["b"])
    shards.plan(lake, [row, other])
    receipts = [make.work(lake, item) for item in (row, row, other)]
    assert shards.commit_shards(lake, receipts) == [receipts[0], receipts[2]]
    assert counts(lake) == (4, 2)


@pytest.mark.places("folder", "team", slow=True)
def test_a_shard_that_nobody_planned_is_dropped(lake: Lake, make: Any) -> None:
    assert shards.commit_shards(lake, [make.work(lake, make.shard("k", ["a"]))]) == []
    assert counts(lake) == (0, 0)


@pytest.mark.places("folder", "team")
def test_planning_again_leaves_what_is_there(lake: Lake, make: Any) -> None:
    done, waits, dead = (make.shard(key, [key]) for key in ("done", "waits", "dead"))
    shards.plan(lake, [done, waits, dead])
    shards.commit_shards(lake, [make.work(lake, done)])
    shards.mark_dead(lake, "dead", "it crashes")
    assert states(lake) == {"done": "committed", "waits": "pending", "dead": "dead"}
    shards.plan(lake, [done, waits])
    assert states(lake) == {"done": "committed", "waits": "pending", "dead": "dead"}
    shards.plan(lake, [done, waits, dead, make.shard("new", ["n"])])
    assert states(lake) == {
        "done": "committed",
        "waits": "pending",
        "dead": "pending",
        "new": "pending",
    }


@pytest.mark.places("folder", "team", slow=True)
def test_a_dead_shard_keeps_its_reason_and_a_committed_one_cannot_die(
    lake: Lake, make: Any
) -> None:
    row, other = make.shard("k", ["a"]), make.shard("l", ["b"])
    shards.plan(lake, [row, other])
    shards.mark_dead(lake, "k", "it crashes")
    assert lake.rows("SELECT reason FROM shards WHERE state = 'dead'") == [{"reason": "it crashes"}]
    shards.commit_shards(lake, [make.work(lake, other)])
    shards.mark_dead(lake, "l", "too late")
    assert states(lake) == {"k": "dead", "l": "committed"}


@pytest.mark.places("folder", "team")
def test_rows_that_belong_to_a_shard_land_with_it(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])

    def extra(tx: Transaction, receipt: ShardReceipt) -> Sequence[SuppressionRow]:
        found = tx.rows("SELECT mask_id FROM masks WHERE shard_key = ?", [receipt.shard_key])
        return [
            SuppressionRow(mask_id=mask["mask_id"], by_mask_id="p", iou=0.9, run_id="r")
            for mask in found
        ]

    receipt = make.work(lake, row)
    shards.commit_shards(lake, [receipt], extra_rows=extra)
    assert lake.rows("SELECT count(*) AS n FROM suppressions") == [{"n": 2}]
    shards.commit_shards(lake, [receipt], extra_rows=extra)
    assert lake.rows("SELECT count(*) AS n FROM suppressions") == [{"n": 2}]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def rewrite(path: Path) -> None:
    pq.write_table(pq.read_table(path, partitioning=None).slice(1), path)


DAMAGE = [flip, cut, rewrite, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("which", ["masks", "sets"])
def test_a_damaged_file_is_not_committed_and_the_others_are(
    lake: Lake, make: Any, damage: Callable[[Path], None], which: str
) -> None:
    row, other = make.shard("k", ["a"]), make.shard("l", ["b"])
    shards.plan(lake, [row, other])
    receipts = [make.work(lake, item) for item in (row, other)]
    damage(lake.root / getattr(receipts[0], which).uri)
    with pytest.raises(ChecksumMismatchError, match=r"shard k: .* run the same command again"):
        shards.commit_shards(lake, receipts)
    assert states(lake) == {"k": "pending", "l": "committed"}
    assert counts(lake) == (2, 1)
    assert len(shards.commit_shards(lake, [make.work(lake, row)])) == 1


def test_every_bit_flip_is_seen(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])
    receipt = make.work(lake, row)
    path = lake.root / receipt.masks.uri
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 200)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ChecksumMismatchError):
            shards.commit_shards(lake, [receipt])
    path.write_bytes(data)
    assert len(shards.commit_shards(lake, [receipt])) == 1


@pytest.mark.parametrize(
    ("masks", "sets", "message"),
    [
        (["a", "b"], [("a", 1)], "has a mask of image b, not its own"),
        (["a", "a"], [("a", 1)], "counts other masks than there are"),
        (["a"], [("a", 1), ("a", 1)], "names an image twice"),
        ([], [("a", 1)], "counts other masks than there are"),
    ],
)
def test_a_worker_that_miscounts_is_refused(
    lake: Lake, make: Any, masks: list[str], sets: list[tuple[str, int]], message: str
) -> None:
    shards.plan(lake, [make.shard("k", ["a"])])
    receipt = shards.write_shard_files(
        lake.objects,
        "k",
        [make.auto_mask("k", image_id, n) for n, image_id in enumerate(masks)],
        [make.image_set("k", image_id, n) for image_id, n in sets],
    )
    with pytest.raises(ChecksumMismatchError, match=message):
        shards.commit_shards(lake, [receipt])
    assert counts(lake) == (0, 0)


def test_other_columns_are_refused(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])
    receipt = make.work(lake, row)
    path = lake.root / receipt.masks.uri
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["annotator"]), path)
    honest = replace(receipt.masks, sha256=file_sha256(path), bytes=path.stat().st_size)
    with pytest.raises(ChecksumMismatchError, match="other rows or columns"):
        shards.commit_shards(lake, [replace(receipt, masks=honest)])


def test_rows_of_another_shard_are_the_workers_mistake(lake: Lake, make: Any) -> None:
    with pytest.raises(ValueError, match="shard_key: must be k, but a row has l"):
        shards.write_shard_files(lake.objects, "k", [make.auto_mask("l", "a", 1)], [])


def test_no_half_written_file_stays(lake: Lake, make: Any) -> None:
    make.work(lake, make.shard("k", ["a"]))
    names = [path.name for path in (lake.root / "lake").rglob("*") if path.name.startswith("k.")]
    assert len(names) == 2
    assert all(name.endswith(".parquet") for name in names)


def test_the_files_of_a_shard_move_with_the_workspace(lake: Lake, make: Any) -> None:
    row = make.shard("k", ["a"])
    shards.plan(lake, [row])
    shards.commit_shards(lake, [make.work(lake, row)])
    lake.close()
    moved = lake.root.with_name(lake.root.name + "-moved")
    lake.root.rename(moved)
    assert counts(Lake.open(moved)) == (2, 1)
