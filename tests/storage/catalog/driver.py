"""A process that works the store as a stage does; tests start several of it and kill them.

driver.py shards PLACE: label and commit every pending shard of v1. driver.py insists PLACE: the
same, and again where a sweep took the files. driver.py runs PLACE NAME N: N commits of one run row
each. PLACE is pickled and in hex.
"""

import pickle
import random
import sys

from storage.catalog import shards
from storage.catalog.lake import Lake
from storage.catalog.place import Place
from storage.errors import ChecksumMismatchError
from storage.rows import ImageSetRow, MaskRow, RunRow, ShardRow, mask_id, utcnow

MASKS_PER_IMAGE = 3


def work(lake: Lake, row: ShardRow) -> shards.ShardReceipt:
    masks = [mask(row, image_id, n) for image_id in row.image_ids for n in range(MASKS_PER_IMAGE)]
    sets = [
        ImageSetRow(
            image_id=image_id,
            model_version=row.model_version,
            config_hash=row.config_hash,
            run_id=row.run_id,
            shard_key=row.shard_key,
            num_proposed=MASKS_PER_IMAGE,
            num_masks=MASKS_PER_IMAGE,
            rejections={},
            created_at=utcnow(),
        )
        for image_id in row.image_ids
    ]
    return shards.write_shard_files(lake.objects, row.shard_key, masks, sets)


def mask(row: ShardRow, image_id: str, number: int) -> MaskRow:
    return MaskRow(
        mask_id=mask_id(image_id, str(number)),
        image_id=image_id,
        stage="auto",
        run_id=row.run_id,
        model_version=row.model_version,
        config_hash=row.config_hash,
        shard_key=row.shard_key,
        segmentation={"size": [20, 30], "counts": "x"},
        bbox=[0.0, 0.0, 1.0, 1.0],
        area=1,
        created_at=utcnow(),
    )


def label_shards(place: Place, *, insists: bool = False) -> None:
    lake = Lake.open(place)
    while waiting := shards.pending(lake, "v1", "config"):
        # In any order, so that drivers meet over the same shards now and then.
        row = random.choice(waiting)
        try:
            shards.commit_shards(lake, [work(lake, row)])
        except ChecksumMismatchError:
            if not insists:
                raise


def commit_runs(place: Place, name: str, number: int) -> None:
    lake = Lake.open(place)
    for count in range(number):
        row = RunRow(
            run_id=f"{name}-{count}", stage="s", config="", status="running", started_at=utcnow()
        )
        lake.commit(lambda tx, row=row: tx.insert([row]), message="test")
        lake.commit(
            lambda tx, row=row: tx.execute(
                "UPDATE runs SET status = 'done' WHERE run_id = ?", [row.run_id]
            ),
            message="test",
        )


if __name__ == "__main__":
    where = pickle.loads(bytes.fromhex(sys.argv[2]))
    if sys.argv[1] in ("shards", "insists"):
        label_shards(where, insists=sys.argv[1] == "insists")
    else:
        commit_runs(where, sys.argv[3], int(sys.argv[4]))
