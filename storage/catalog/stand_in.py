"""A Parquet file in the place of a lost one, so that DuckLake can let go of its rows.

DuckLake must open a file before it deletes the rows in it. What stands in has as many rows, the
footer and the size that the catalog says, and nothing but nulls in our columns. It lies there only
while the deletion is committed.
"""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from storage.catalog.files import LakeFile
from storage.catalog.schema import arrow_schema
from storage.rows import ROWS

# DuckLake's own columns in files that it has merged, with the ids by which it finds them. In files
# that were added to it, it finds ours by their names.
_INTERNAL = {"_ducklake_internal_row_id": 2147483540, "_ducklake_internal_snapshot_id": 2147483539}
_LAST = 8  # the footer's length and the magic word
_TRIES = 5


def stand_in(file: LakeFile) -> bytes:
    """The bytes of a stand-in for `file`."""
    table = _merged(file.num_rows) if "/ducklake-" in file.uri else _added(file)
    padding = 0
    for _ in range(_TRIES):
        data = _parquet(table, padding)
        footer = int.from_bytes(data[-_LAST : -_LAST + 4], "little")
        if file.footer_bytes is None or footer == file.footer_bytes:
            break
        padding = max(padding + file.footer_bytes - footer, 0)
    cut = len(data) - _LAST - footer
    # The footer names places before it only: it may lie further back.
    return data[:cut] + bytes(max(file.bytes - len(data), 0)) + data[cut:]


def _merged(num_rows: int) -> pa.Table:
    fields = [
        pa.field(name, pa.int64(), metadata={"PARQUET:field_id": str(field_id)})
        for name, field_id in _INTERNAL.items()
    ]
    arrays = [pa.array(range(num_rows), pa.int64()), pa.array([0] * num_rows, pa.int64())]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _added(file: LakeFile) -> pa.Table:
    row = next(row for row in ROWS if row.table == file.table)
    fields = [field.with_nullable(True) for field in arrow_schema(row)]
    arrays = [pa.nulls(file.num_rows, field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _parquet(table: pa.Table, padding: int) -> bytes:
    buffer = io.BytesIO()
    # Without statistics, and without Arrow's own schema, its footer is smaller than any real one.
    with pq.ParquetWriter(
        buffer, table.schema, store_schema=False, write_statistics=False
    ) as writer:
        writer.write_table(table)
        if padding:
            writer.add_key_value_metadata({"padding": "x" * padding})
    return buffer.getvalue()
