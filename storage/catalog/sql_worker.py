"""Runs one query of a user over copies of rows. A script of its own: it imports nothing of ours.

In: a line of JSON, then one Arrow stream per table. Out: the answer as an Arrow stream, or a line
of JSON on stderr and exit code FAILED, also when part of the answer is out already. When the user's
SQL starts, this process has no extension that reaches outside, no environment, no file it may
grow, and little memory and time. The mask functions that a request names are imported before that.
"""

import importlib
import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

FAILED = 3
_STATM = Path("/proc/self/statm")
_OF_PYTHON = re.compile(r"^.*?Python exception occurred.*?Error: (.*?)\n\nAt:.*$", re.DOTALL)


def main() -> int:
    """Answer the request on stdin; returns the exit code."""
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
    try:
        _prepare(connection, request)
        _limit(request["memory_bytes"], request["cpu_s"])
        _answer(connection, request)
    except (duckdb.Error, MemoryError, pa.ArrowException, ValueError, ImportError) as error:
        message = _OF_PYTHON.sub(r"\1", str(error)) or "out of memory"
        sys.stderr.write(json.dumps({"error": message}) + "\n")
        return FAILED
    return 0


def _prepare(connection: duckdb.DuckDBPyConnection, request: dict[str, Any]) -> None:
    """Give it the functions and the rows; after that it reaches nothing else."""
    if request["functions"]:
        _add_functions(connection, **request["functions"])
    for name in request["names"]:
        connection.register(name, pa.ipc.open_stream(sys.stdin.buffer).read_all())
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _add_functions(
    connection: duckdb.DuckDBPyConnection, path: str, modules: dict[str, str]
) -> None:
    """Import two modules, by name and file, from the folder `path`: the second is registered."""
    sys.path.append(path)
    registrar, functions = (importlib.import_module(name) for name in modules)
    sys.path.pop()
    if [registrar.__file__, functions.__file__] != list(modules.values()):
        raise ImportError(f"others of these names are installed: {', '.join(modules)}")
    registrar.register(connection, functions)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    if _STATM.exists():
        # On top of what the libraries and the copied rows already take.
        used = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * memory_bytes,) * 2)


def _answer(connection: duckdb.DuckDBPyConnection, request: dict[str, Any]) -> None:
    reader = connection.execute(request["sql"]).to_arrow_reader(10_000)
    num_rows = num_bytes = 0
    with pa.ipc.new_stream(sys.stdout.buffer, reader.schema) as stream:
        # There is always one batch, if only an empty one.
        stream.write_batch(pa.RecordBatch.from_pylist([], schema=reader.schema))
        for batch in reader:
            num_rows += batch.num_rows
            num_bytes += batch.nbytes
            if num_rows > request["max_rows"] or num_bytes > request["max_bytes"]:
                raise ValueError(
                    f"the answer has more than {request['max_rows']} rows or "
                    f"{request['max_bytes']} bytes; add a LIMIT or aggregate"
                )
            stream.write_batch(batch)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: to take DuckDB's and Arrow's threads down in order ends in an abort now and then.
    os._exit(code)
