"""The tables of the lake, made from the classes of `storage.rows`; the views are in `views`.

A column is NOT NULL unless its type admits None; that is all that DuckLake can promise. It has no
keys, so what must be unique is kept so by how it is committed, and checked by `fsck`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import NoneType
from typing import Any, get_args, get_type_hints

import pyarrow as pa

from storage.catalog.views import VIEWS
from storage.errors import NewerStoreError
from storage.rows import (
    ROWS,
    AgreementRow,
    CandidateRow,
    DecisionRow,
    DetectorRow,
    ExportRow,
    ImageRow,
    ImageSetRow,
    MaskLabelRow,
    MaskRow,
    MaskVectorRow,
    RetractionRow,
    ReviewRow,
    Row,
    Segmentation,
    ShardRow,
    TrainingSetRow,
    TrainingStepRow,
)

SCHEMA_VERSION = 10
# The version whose retractions were all answers'; before, there were none.
_HAD_ANSWERS_ONLY = 6

# Python's type -> (DuckDB's, Arrow's).
_TYPES: dict[Any, tuple[str, pa.DataType]] = {
    str: ("VARCHAR", pa.string()),
    int: ("BIGINT", pa.int64()),
    float: ("DOUBLE", pa.float64()),
    bool: ("BOOLEAN", pa.bool_()),
    bytes: ("BLOB", pa.binary()),
    datetime: ("TIMESTAMP", pa.timestamp("us")),
    list[str]: ("VARCHAR[]", pa.list_(pa.string())),
    list[float]: ("DOUBLE[]", pa.list_(pa.float64())),
    list[list[float]]: ("DOUBLE[][]", pa.list_(pa.list_(pa.float64()))),
    Mapping[str, int]: ("MAP(VARCHAR, BIGINT)", pa.map_(pa.string(), pa.int64())),
    Segmentation: (
        'STRUCT("size" INTEGER[], counts VARCHAR)',
        pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())]),
    ),
}

TABLES = tuple(row.table for row in ROWS)


def statements() -> list[str]:
    """The SQL that makes an empty store."""
    return [*(_create_table(row) for row in ROWS), *_create_views()]


def upgrade(stored: int) -> list[str]:
    """The SQL that brings a store of version `stored` to SCHEMA_VERSION."""
    brought_by = {
        2: [_create_table(TrainingStepRow)],
        3: [_add_column(ReviewRow, "is_complete")],
        # No earlier maskloop kept candidates.
        4: [
            f"DROP TABLE {CandidateRow.table}",
            _create_table(CandidateRow),
            _add_column(ImageSetRow, "num_candidates"),
            *(_add_column(ShardRow, f"candidate_{what}") for what in ("uri", "sha256", "bytes")),
        ],
        5: [
            _add_column(MaskRow, "part_of"),
            _add_column(MaskRow, "level"),
            _add_column(ImageSetRow, "savings"),
        ],
        6: [
            *(_add_column(DecisionRow, name) for name in ("area", "source", "score")),
            _add_column(ReviewRow, "kind"),
            _create_table(AgreementRow),
            _create_table(RetractionRow),
            _create_table(DetectorRow),
        ],
        7: [
            _add_column(TrainingSetRow, "mask_ids"),
            _create_table(ExportRow),
            *(_revocable() if stored == _HAD_ANSWERS_ONLY else ()),
        ],
        # The views alone are others.
        8: [],
        9: [
            _create_table(MaskVectorRow),
            f"ALTER TABLE {MaskLabelRow.table} ALTER COLUMN category DROP NOT NULL",
            _add_column(MaskLabelRow, "run_id"),
        ],
        10: [_add_column(ImageRow, "num_labels_refused")],
    }
    changes = [item for version, items in brought_by.items() if version > stored for item in items]
    # A view has the columns that its table had, so it is made anew when all tables are right.
    dropped = [f"DROP VIEW IF EXISTS {name}" for name in VIEWS]
    return [*changes, *dropped, *_create_views()] if stored < SCHEMA_VERSION else []


def _create_views() -> list[str]:
    return [f"CREATE VIEW {name} AS {view.sql}" for name, view in VIEWS.items()]


def _revocable() -> list[str]:
    """What retractions lack that only answers made."""
    return [
        f"ALTER TABLE {RetractionRow.table} ALTER COLUMN submission_id DROP NOT NULL",
        _add_column(RetractionRow, "cause"),
        _add_column(RetractionRow, "snapshot"),
    ]


def _create_table(row: type[Row]) -> str:
    columns = ", ".join(_column_sql(row, name) for name in columns_of(row))
    return f"CREATE TABLE {row.table} ({columns})"


def _add_column(row: type[Row], name: str) -> str:
    return f"ALTER TABLE {row.table} ADD COLUMN {_column_sql(row, name)}"


def _column_sql(row: type[Row], name: str) -> str:
    kind, optional = columns_of(row)[name]
    return f'"{name}" {_TYPES[kind][0]}{"" if optional else " NOT NULL"}'


def columns_of(row: type[Row]) -> dict[str, tuple[Any, bool]]:
    """Column -> (Python type, whether it may be None)."""
    hints = get_type_hints(row)
    del hints["table"]
    return {name: _without_none(hint) for name, hint in hints.items()}


def _without_none(hint: Any) -> tuple[Any, bool]:
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    optional = NoneType in get_args(hint)
    return (kinds[0] if optional else hint), optional


def arrow_schema(row: type[Row]) -> pa.Schema:
    """The table's columns as Arrow, and so as Parquet, has them."""
    return pa.schema(
        [
            pa.field(name, _TYPES[kind][1], nullable=optional)
            for name, (kind, optional) in columns_of(row).items()
        ]
    )


def arrow_table(row: type[Row], rows: Iterable[Row]) -> pa.Table:
    """Rows of one class as an Arrow table; raises ValueError for a value of the wrong type."""
    schema = arrow_schema(row)
    records = [item.to_dict() for item in rows]
    arrays = [_column(field, records, row.table) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(field: pa.Field, records: list[dict[str, Any]], table: str) -> pa.Array:
    values = [record[field.name] for record in records]
    if pa.types.is_map(field.type):
        values = [None if value is None else list(value.items()) for value in values]
    try:
        array = pa.array(values, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise ValueError(f"{table}.{field.name}: must be {field.type}, but {error}") from error
    if array.null_count and not field.nullable:
        raise ValueError(f"{table}.{field.name}: must not be None")
    return array


def check_version(stored: int) -> None:
    """Raise NewerStoreError for a store that this code does not know how to read."""
    if stored > SCHEMA_VERSION:
        raise NewerStoreError(
            f"workspace of a newer version: its store has schema {stored}, this maskloop reads up "
            f"to {SCHEMA_VERSION}; install the maskloop that wrote it, or a newer one"
        )
