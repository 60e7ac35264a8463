"""A user's SQL over the store, walled off: it can read our tables and nothing else.

DuckDB's own lock-down does not hold where the DuckLake or SQLite extension is loaded: from there a
SELECT-like statement can attach, write and delete. So the query never meets the lake. Its text is
checked (`user_query`), the rows it needs are read here, and a child process without extensions
answers from those copies under limits of the operating system (`sql_worker`).
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.catalog import mask_functions, sql_worker
from storage.catalog.lake import Lake
from storage.catalog.mask_functions import MaskFunctions
from storage.catalog.user_query import Relation, SqlError, SqlRefused, UserQuery, all_columns, parse

__all__ = ["SqlError", "SqlLimits", "SqlRefused", "run_user_sql", "stream_user_sql", "whole"]


@dataclass(frozen=True, kw_only=True)
class SqlLimits:
    """What one query may take; `wall_s` from when it has its rows."""

    wall_s: float = 60.0
    cpu_s: int = 45
    memory_bytes: int = 1 << 30
    max_rows: int = 100_000
    max_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name}: must be positive, but got {value}")


def run_user_sql(
    lake: Lake,
    sql: str,
    limits: SqlLimits | None = None,
    *,
    functions: MaskFunctions | None = None,
) -> pa.Table:
    """The answer to one SELECT, all of it as of one snapshot; raises as `stream_user_sql`."""
    return whole(stream_user_sql(lake, sql, limits, functions=functions))


def stream_user_sql(
    lake: Lake,
    sql: str,
    limits: SqlLimits | None = None,
    *,
    functions: MaskFunctions | None = None,
) -> Iterator[pa.RecordBatch]:
    """The same in batches, which are not kept; there is always one, if only an empty one.

    `functions` are the functions on masks, a module that the child process can import by its name.
    Raises SqlRefused for anything but one SELECT over our tables, SqlError when it fails or takes
    too much, also after some batches, NotFoundError for an `AT (VERSION => n)` that there is not.
    """
    limits = limits or SqlLimits()
    query = parse(sql)
    newest = lake.snapshot()
    given = functions if query.on_masks else None
    try:
        yield from _ask(
            query,
            {item.name: partial(_copy, lake, item, newest) for item in query.relations},
            limits,
            given,
        )
    except SqlError:
        if query.is_pruned:
            # The message may list columns, so let it see all of them.
            empty = {item.name: partial(_empty, lake, item) for item in query.relations}
            _drain(_ask(query, empty, limits, given))
        raise


def _drain(batches: Iterator[pa.RecordBatch]) -> None:
    for _ in batches:
        continue


def _copy(lake: Lake, relation: Relation, newest: int) -> pa.Table:
    names = ", ".join(f'"{name}"' for name in relation.columns)
    snapshot = newest if relation.snapshot is None else relation.snapshot
    return lake.arrow(f"SELECT {names} FROM {relation.table}", snapshot=snapshot)


def _empty(lake: Lake, relation: Relation) -> pa.Table:
    names = ", ".join(f'"{name}"' for name in all_columns(relation.table))
    return lake.arrow(f"SELECT {names} FROM {relation.table} LIMIT 0")


def _ask(
    query: UserQuery,
    tables: Mapping[str, Callable[[], pa.Table]],
    limits: SqlLimits,
    functions: MaskFunctions | None = None,
) -> Iterator[pa.RecordBatch]:
    # By its path and isolated (-I): nothing of this project or of the user's folder is importable.
    command = [sys.executable, "-I", str(Path(sql_worker.__file__))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={}, cwd="/") as child:
        too_late = threading.Event()
        timer = threading.Timer(limits.wall_s, _stop, (child, too_late))
        try:
            request = vars(limits) | {"sql": query.sql, "names": list(tables)}
            _tell(child, request | {"functions": _importable(functions)}, tables)
            timer.start()
            yield from _batches(child)
            _check_end(child, too_late, limits)
        finally:
            timer.cancel()
            child.kill()


def _stop(child: subprocess.Popen[bytes], too_late: threading.Event) -> None:
    too_late.set()
    child.kill()


def _importable(functions: Any) -> dict[str, Any] | None:
    """What the child imports, by name and file, and the folder where both packages lie."""
    if functions is None:
        return None
    modules = {module.__name__: module.__file__ for module in (mask_functions, functions)}
    folder = Path(functions.__file__).parents[functions.__name__.count(".")]
    return {"path": str(folder), "modules": modules}


def _tell(
    child: subprocess.Popen[bytes],
    request: Mapping[str, Any],
    tables: Mapping[str, Callable[[], pa.Table]],
) -> None:
    """Send the request and, table after table, the rows: the child reads all before it answers."""
    assert child.stdin is not None, "a pipe"
    try:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        for read in tables.values():
            table = read()
            with pa.ipc.new_stream(child.stdin, table.schema) as stream:
                stream.write_table(table)
        child.stdin.close()
    except BrokenPipeError:
        # It has ended; why, `_check_end` finds out.
        return


def _batches(child: subprocess.Popen[bytes]) -> Iterator[pa.RecordBatch]:
    assert child.stdout is not None, "a pipe"
    try:
        yield from pa.ipc.open_stream(child.stdout)
    except (pa.ArrowException, OSError):
        # The stream is cut off; why, `_check_end` finds out.
        return


def _check_end(
    child: subprocess.Popen[bytes], too_late: threading.Event, limits: SqlLimits
) -> None:
    """Raise SqlError unless the child has said all it had to say."""
    assert child.stderr is not None, "a pipe"
    last = child.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
    code = child.wait()
    if too_late.is_set():
        raise SqlError(f"no answer within {limits.wall_s:g} s; ask for less")
    if code == sql_worker.FAILED:
        raise SqlError(json.loads(last[0])["error"])
    if code != 0:
        raise SqlError(f"the query took too much time or memory {' '.join(last)}".strip())


def whole(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    """All of an answer.

    Sums are 128 bits wide in DuckDB and so decimals in Arrow; those that fit become integers.
    """
    table = pa.Table.from_batches(batches)
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                column = table.column(index).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(index, field.name, column)
    return table
