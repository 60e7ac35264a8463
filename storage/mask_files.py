"""Masks of files, without a store, as one Parquet table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.catalog.schema import arrow_table
from storage.durable import write_durably
from storage.rows import Row, Segmentation

_NOTE = b"maskloop"


@dataclass(frozen=True, kw_only=True)
class FileMaskRow(Row):
    """An automatic mask of an image file, with SA-1B's columns.

    `number` counts the masks of an image from 1, the best first; `part_of` is one of these numbers.
    """

    table = "file_masks"

    file_name: str
    image_id: str
    height: int
    width: int
    number: int
    segmentation: Segmentation
    bbox: list[float]
    crop_box: list[float]
    area: int
    predicted_iou: float
    stability_score: float
    point_coords: list[list[float]]
    part_of: int | None = None
    level: str


def write_mask_file(target: Path, rows: Sequence[FileMaskRow], note: Mapping[str, Any]) -> None:
    """Write `rows` as a Parquet file, whole or not at all; `note`, of JSON values, goes with it."""
    table = arrow_table(FileMaskRow, rows).replace_schema_metadata({_NOTE: json.dumps(note)})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_durably(target, buffer.getvalue())


def read_mask_file(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """The rows and the note of such a file; None for any other."""
    try:
        table = pq.read_table(path, partitioning=None)
        note = json.loads((table.schema.metadata or {})[_NOTE])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return table.to_pylist(), dict(note)
