"""Runs one query of a user over copies of rows. A script of its own: it imports nothing of ours.

In: a line of JSON, then one Arrow stream per table. Out: a line of JSON, then the answer as an
Arrow stream. When the user's SQL starts, this process has no extension that reaches outside, no
environment, no file it may grow, and little memory and time.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

_STATM = Path("/proc/self/statm")


def main() -> None:
    """Answer the request on stdin."""
    request = json.loads(sys.stdin.buffer.readline())
    connection = duckdb.connect(
        config={
            "threads": "1",
            "memory_limit": f"{request['memory_bytes']}B",
            "temp_directory": "",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        }
    )
    for name in request["names"]:
        connection.register(name, pa.ipc.open_stream(sys.stdin.buffer).read_all())
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    _limit(request["memory_bytes"], request["cpu_s"])
    out = sys.stdout.buffer
    try:
        table = _answer(connection, request)
    except (duckdb.Error, MemoryError, pa.ArrowException, ValueError) as error:
        out.write(json.dumps({"error": str(error) or "out of memory"}).encode() + b"\n")
    else:
        out.write(b"{}\n")
        _write(out, table)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    if _STATM.exists():
        # On top of what the libraries and the copied rows already take.
        used = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * memory_bytes,) * 2)


def _answer(connection: duckdb.DuckDBPyConnection, request: dict[str, Any]) -> pa.Table:
    reader = connection.execute(request["sql"]).to_arrow_reader(10_000)
    batches = []
    num_rows = num_bytes = 0
    for batch in reader:
        batches.append(batch)
        num_rows += batch.num_rows
        num_bytes += batch.nbytes
        if num_rows > request["max_rows"] or num_bytes > request["max_bytes"]:
            raise ValueError(
                f"the answer has more than {request['max_rows']} rows or "
                f"{request['max_bytes']} bytes; add a LIMIT or aggregate"
            )
    return _plain(pa.Table.from_batches(batches, reader.schema))


def _plain(table: pa.Table) -> pa.Table:
    """Sums are 128 bits wide in DuckDB and so decimals in Arrow; those that fit become integers."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                column = table.column(index).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(index, field.name, column)
    return table


def _write(out: BinaryIO, table: pa.Table) -> None:
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)


if __name__ == "__main__":
    main()
