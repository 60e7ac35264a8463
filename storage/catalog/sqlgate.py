"""A user's SQL over the store, walled off: it can read our tables and nothing else.

DuckDB's own lock-down does not hold where the DuckLake or SQLite extension is loaded: from there a
SELECT-like statement can attach, write and delete. So the query never meets the lake. Its text is
checked (`user_query`), the rows it needs are read here, and a child process without extensions
answers from those copies under limits of the operating system (`sql_worker`).
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from storage.catalog import sql_worker
from storage.catalog.lake import Lake
from storage.catalog.user_query import Relation, SqlError, SqlRefused, UserQuery, all_columns, parse

__all__ = ["SqlError", "SqlLimits", "SqlRefused", "run_user_sql"]


@dataclass(frozen=True, kw_only=True)
class SqlLimits:
    """What one query may take; `wall_s` includes starting the process."""

    wall_s: float = 60.0
    cpu_s: int = 45
    memory_bytes: int = 1 << 30
    max_rows: int = 100_000
    max_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name}: must be positive, but got {value}")


def run_user_sql(lake: Lake, sql: str, limits: SqlLimits | None = None) -> pa.Table:
    """The answer to one SELECT, all of it as of one snapshot.

    Raises SqlRefused for anything but one SELECT over our tables, SqlError when it fails or takes
    too much, NotFoundError for an `AT (VERSION => n)` that there is not.
    """
    limits = limits or SqlLimits()
    query = parse(sql)
    newest = lake.snapshot()
    tables = {item.name: _copy(lake, item, newest) for item in query.relations}
    try:
        return _ask(query, tables, limits)
    except SqlError:
        if query.is_pruned:
            # The message may list columns, so let it see all of them.
            _ask(query, {item.name: _empty(lake, item) for item in query.relations}, limits)
        raise


def _copy(lake: Lake, relation: Relation, newest: int) -> pa.Table:
    names = ", ".join(f'"{name}"' for name in relation.columns)
    snapshot = newest if relation.snapshot is None else relation.snapshot
    return lake.arrow(f"SELECT {names} FROM {relation.table}", snapshot=snapshot)


def _empty(lake: Lake, relation: Relation) -> pa.Table:
    names = ", ".join(f'"{name}"' for name in all_columns(relation.table))
    return lake.arrow(f"SELECT {names} FROM {relation.table} LIMIT 0")


def _ask(query: UserQuery, tables: dict[str, pa.Table], limits: SqlLimits) -> pa.Table:
    request = vars(limits) | {"sql": query.sql, "names": list(tables)}
    sink = pa.BufferOutputStream()
    sink.write(json.dumps(request).encode() + b"\n")
    for table in tables.values():
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return _parse_answer(*_run(sink.getvalue().to_pybytes(), limits))


def _run(request: bytes, limits: SqlLimits) -> tuple[int, bytes, bytes]:
    # By its path and isolated (-I): nothing of this project or of the user's folder is importable.
    command = [sys.executable, "-I", str(Path(sql_worker.__file__))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={}, cwd="/") as child:
        try:
            out, errors = child.communicate(request, timeout=limits.wall_s)
        except subprocess.TimeoutExpired as error:
            raise SqlError(f"no answer within {limits.wall_s:g} s; ask for less") from error
        finally:
            child.kill()
    return child.returncode, out, errors


def _parse_answer(code: int, out: bytes, errors: bytes) -> pa.Table:
    line, _, rest = out.partition(b"\n")
    if code < 0 or not line:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise SqlError(f"the query took too much time or memory {' '.join(last)}".strip())
    if message := json.loads(line).get("error"):
        raise SqlError(message)
    return pa.ipc.open_stream(rest).read_all()
