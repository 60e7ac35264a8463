"""The stores that `store_scale.py` compares: ours, SQLite rows, plain Parquet, COCO JSON.

Each is filled in pieces of the same masks and answers the same questions.
"""

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow.parquet as pq
from drawn_masks import HW
from pycocotools.coco import COCO

from storage.catalog import shards
from storage.catalog.lake import Lake
from storage.catalog.schema import arrow_table
from storage.rows import ImageSetRow, MaskRow, Row, ShardRow

# What every store can be asked; `?` are the parameters, in order.
QUESTIONS = {
    "one mask": "SELECT area, predicted_iou FROM masks WHERE mask_id = ?",
    "masks of an image": "SELECT mask_id, segmentation FROM masks WHERE image_id = ?",
    "by model": "SELECT model_version, count(*), avg(predicted_iou) FROM masks GROUP BY 1",
    "by area and score": """SELECT count(*) FROM masks
        WHERE area BETWEEN 1024 AND 9216 AND predicted_iou > 0.95""",
    "images with most masks": """SELECT image_id, count(*) AS n FROM masks
        GROUP BY 1 ORDER BY n DESC, image_id LIMIT 100""",
    "scores by size": """SELECT CAST(log2(area) AS INTEGER) AS size, count(*), avg(stability_score)
        FROM masks GROUP BY 1 ORDER BY 1""",
}


class Store(Protocol):
    """A place for masks that answers QUESTIONS."""

    def add(self, masks: Sequence[MaskRow], sets: Sequence[ImageSetRow]) -> None: ...

    def done(self) -> None:
        """All are there: make of them what is asked."""

    def ask(self, sql: str, params: Sequence[Any]) -> Sequence[Any]: ...

    def bytes(self) -> int: ...


class Ours:
    """The lake, filled shard by shard as automatic generation does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.lake = Lake.create(folder)

    def add(self, masks: Sequence[MaskRow], sets: Sequence[ImageSetRow]) -> None:
        first = sets[0]
        shard = ShardRow(
            shard_key=first.shard_key,
            run_id=first.run_id,
            model_version=first.model_version,
            config_hash=first.config_hash,
            image_ids=[each.image_id for each in sets],
            num_images=len(sets),
            state="pending",
            planned_at=first.created_at,
        )
        shards.plan(self.lake, [shard])
        receipt = shards.write_shard_files(self.lake.objects, shard.shard_key, masks, sets)
        shards.commit_shards(self.lake, [receipt])

    def put(self, rows: Sequence[Row]) -> None:
        self.lake.commit(lambda tx: tx.insert(rows), message="benchmark")

    def done(self) -> None:
        pass

    def ask(self, sql: str, params: Sequence[Any]) -> Sequence[Any]:
        found: list[Any] = self.lake.arrow(sql, params).to_pylist()
        return found

    def bytes(self) -> int:
        return sum(found.bytes for found in self.lake.objects.below("lake"))


class Parquet:
    """Files of Parquet in a folder, as pyarrow writes them, asked through DuckDB."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._connection = duckdb.connect()

    def add(self, masks: Sequence[MaskRow], _sets: Sequence[ImageSetRow]) -> None:
        number = len(list(self._folder.iterdir()))
        pq.write_table(arrow_table(MaskRow, masks), self._folder / f"{number:06d}.parquet")

    def done(self) -> None:
        files = f"{self._folder}/*.parquet"
        self._connection.execute(f"CREATE VIEW masks AS SELECT * FROM read_parquet('{files}')")

    def ask(self, sql: str, params: Sequence[Any]) -> Sequence[Any]:
        found: list[Any] = self._connection.execute(sql, list(params)).to_arrow_table().to_pylist()
        return found

    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self._folder.iterdir())


class Sqlite:
    """One table, with an index for masks and one for images."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._path = folder / "masks.sqlite"
        self._connection = sqlite3.connect(self._path)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(
            "CREATE TABLE masks (mask_id TEXT PRIMARY KEY, image_id TEXT, model_version TEXT, "
            "run_id TEXT, area INTEGER, predicted_iou REAL, stability_score REAL, bbox TEXT, "
            "crop_box TEXT, point_coords TEXT, segmentation TEXT)"
        )

    def add(self, masks: Sequence[MaskRow], _sets: Sequence[ImageSetRow]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT INTO masks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        *(mask.mask_id, mask.image_id, mask.model_version, mask.run_id),
                        *(mask.area, mask.predicted_iou, mask.stability_score),
                        json.dumps(mask.bbox),
                        json.dumps(mask.crop_box),
                        json.dumps(mask.point_coords),
                        json.dumps(mask.segmentation),
                    )
                    for mask in masks
                ),
            )

    def done(self) -> None:
        with self._connection:
            self._connection.execute("CREATE INDEX of_image ON masks (image_id)")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def ask(self, sql: str, params: Sequence[Any]) -> Sequence[Any]:
        return self._connection.execute(sql, tuple(params)).fetchall()

    def bytes(self) -> int:
        return self._path.stat().st_size


class Json:
    """One COCO file with SA-1B's keys, which pycocotools reads whole before it answers anything."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._path = folder / "masks.json"
        self._stream = self._path.open("w")
        self._stream.write('{"annotations": [')
        self._images: list[str] = []
        self._coco: Any = None

    def add(self, masks: Sequence[MaskRow], sets: Sequence[ImageSetRow]) -> None:
        lines = ",\n".join(json.dumps(_annotation(mask)) for mask in masks)
        self._stream.write(",\n" * bool(self._images) + lines)
        self._images += [each.image_id for each in sets]

    def done(self) -> None:
        height, width = HW
        images = [{"id": name, "height": height, "width": width} for name in self._images]
        self._stream.write(f'], "images": {json.dumps(images)}, "categories": []}}')
        self._stream.close()

    def open(self) -> None:
        """Read the file, as every program that asks has to do first."""
        with redirect_stdout(StringIO()):
            self._coco = COCO(self._path)

    def ask(self, sql: str, params: Sequence[Any]) -> Sequence[Any]:
        """Answers by pycocotools' index or a loop, once the file has been read."""
        name = next(name for name, text in QUESTIONS.items() if text == sql)
        return list(_LOOPS[name](self._coco, *params))

    def bytes(self) -> int:
        return self._path.stat().st_size


def _annotation(mask: MaskRow) -> dict[str, Any]:
    return {
        "id": mask.mask_id,
        "image_id": mask.image_id,
        "category_id": 1,
        "iscrowd": 0,
        "model_version": mask.model_version,
        "segmentation": mask.segmentation,
        "bbox": mask.bbox,
        "area": mask.area,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
        "crop_box": mask.crop_box,
        "point_coords": mask.point_coords,
    }


def _grouped(annotations: Iterable[Any], key: Callable[[Any], Any], column: str) -> list[Any]:
    counts: Counter[Any] = Counter()
    sums: Counter[Any] = Counter()
    for each in annotations:
        counts[key(each)] += 1
        sums[key(each)] += each[column]
    return [(name, counts[name], sums[name] / counts[name]) for name in sorted(counts)]


def _number_sized(coco: COCO) -> int:
    return sum(1024 <= a["area"] <= 9216 and a["predicted_iou"] > 0.95 for a in coco.anns.values())


def _most(coco: COCO) -> list[Any]:
    counts = ((image_id, len(found)) for image_id, found in coco.imgToAnns.items())
    return sorted(counts, key=lambda item: (-item[1], item[0]))[:100]


_LOOPS: Mapping[str, Callable[..., Any]] = {
    "one mask": lambda coco, name: [(coco.anns[name]["area"], coco.anns[name]["predicted_iou"])],
    "masks of an image": lambda coco, name: [
        (each["id"], each["segmentation"]) for each in coco.imgToAnns[name]
    ],
    "by model": lambda coco: _grouped(
        coco.anns.values(), lambda each: each["model_version"], "predicted_iou"
    ),
    "by area and score": lambda coco: [(_number_sized(coco),)],
    "images with most masks": _most,
    "scores by size": lambda coco: _grouped(
        coco.anns.values(), lambda each: round(math.log2(each["area"])), "stability_score"
    ),
}
