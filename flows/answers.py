"""What SQL answers, as Parquet or Arrow: batch after batch, so that an answer may be any length."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from flows.errors import UsageError
from storage.durable import part_of, put_in_place

FORMATS = ("parquet", "arrow")
_GROUP_BYTES = 16 << 20


def distinct(names: Sequence[str]) -> list[str]:
    """The names with a number behind each one that was there before."""
    taken: list[str] = []
    for name in names:
        number, wish = 2, name
        while wish in taken:
            number, wish = number + 1, f"{name}_{number}"
        taken.append(wish)
    return taken


def write_file(batches: Iterator[pa.RecordBatch], target: Path, form: str) -> int:
    """Write an answer of at least one batch; `target` holds all of it or what it held.

    Returns the number of rows.
    """
    part = part_of(target)
    try:
        num_rows = _write(batches, part, form)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        put_in_place(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return num_rows


def write_stream(batches: Iterator[pa.RecordBatch], out: BinaryIO, form: str) -> int:
    """The same into a pipe, which gets nothing before the answer is whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer"
        num_rows = _write(batches, path, form)
        with path.open("rb") as stream:
            shutil.copyfileobj(stream, out)
    return num_rows


def _write(batches: Iterator[pa.RecordBatch], path: Path, form: str) -> int:
    first = next(batches)
    schema = _schema(first.schema)
    num_rows = 0
    # Arrow's file format, not its stream: readers map it into memory and begin anywhere.
    open_writer = pq.ParquetWriter if form == "parquet" else pa.ipc.new_file
    with open_writer(str(path), schema) as writer:
        for table in _grouped(first, batches):
            writer.write_table(_as(table, schema))
            num_rows += table.num_rows
    return num_rows


def _grouped(first: pa.RecordBatch, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together until they are worth a row group of their own."""
    waiting = [first]
    for batch in batches:
        waiting.append(batch)
        if sum(item.nbytes for item in waiting) > _GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting.clear()
    if waiting:
        yield pa.Table.from_batches(waiting)


def _schema(schema: pa.Schema) -> pa.Schema:
    """The same with distinct names; sums, which DuckDB has in 128 bits, are integers of 64."""
    kinds = [pa.int64() if _is_sum(field.type) else field.type for field in schema]
    return pa.schema(list(zip(distinct(schema.names), kinds, strict=True)))


def _is_sum(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision == 38)


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowInvalid as error:
            raise UsageError(
                f"sql: {field.name}: a whole number of more than 64 bits; write "
                f"CAST(... AS DOUBLE) or CAST(... AS VARCHAR)"
            ) from error
    return pa.Table.from_arrays(columns, schema=schema)
