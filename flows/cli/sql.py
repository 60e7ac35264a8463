"""`sql`: ask the store."""

import csv
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.terminal import err, print_json, print_table
from flows.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(sql)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, json, csv, parquet or arrow; default: by --out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
    target: Annotated[
        Path | None, typer.Option("--out", help="A .parquet or .arrow file for the answer.")
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option(help="Rows that an answer may have; 100000 unless told.")
    ] = None,
    max_mb: Annotated[
        int | None, typer.Option(help="Megabytes that an answer may have; 64 unless told.")
    ] = None,
    max_s: Annotated[
        float | None, typer.Option(help="Seconds that it may take; 60 unless told.")
    ] = None,
    memory_mb: Annotated[
        int | None,
        typer.Option(help="Memory beside the columns that it reads; 1024 unless told."),
    ] = None,
) -> None:
    """Ask the store. What there is to ask is in docs/data_model.md and docs/sql.md.

    CSV has every value as it is. An answer in Parquet or Arrow goes batch after batch into its
    file, so that it may be any length.

    Example: maskloop sql "SELECT stage, count(*) FROM current_masks GROUP BY 1" --format json
    """
    from engine import mask_functions
    from flows import answers, workspace
    from storage.catalog import sqlgate
    from storage.errors import NotFoundError

    if as_json and form not in (None, "json"):
        raise UsageError(f"--json: is --format json, and not {form}; name one of them")
    form = _form("json" if as_json else form, target)
    limits = _limits(max_rows, max_mb, max_s, memory_mb)
    opened = workspace.open_workspace()
    batches = sqlgate.stream_user_sql(opened.lake, query, limits, functions=mask_functions)
    try:
        if form not in answers.FORMATS:
            _print(sqlgate.whole(batches), form)
        elif target is None:
            answers.write_stream(batches, sys.stdout.buffer, form)
        else:
            num_rows = answers.write_file(batches, target, form)
            err.print(f"{num_rows} rows in {target}")
    except (sqlgate.SqlRefused, sqlgate.SqlError, NotFoundError) as error:
        raise UsageError(f"sql: {error}") from error


def _form(form: str | None, target: Path | None) -> str:
    """The format that was asked for, or that the file's name says."""
    from flows.answers import FORMATS

    form = form or (target.suffix.removeprefix(".") if target else "table")
    if form not in ("table", "json", "csv", *FORMATS):
        raise UsageError(f"--format: must be table, json, csv, parquet or arrow, but got {form!r}")
    if target and form not in FORMATS:
        raise UsageError(f"--out: is for parquet and arrow; write {form} with > {target}")
    if form in FORMATS and not target and sys.stdout.isatty():
        raise UsageError(f"--format {form}: bytes are no good on a terminal; name a file by --out")
    return form


def _limits(
    max_rows: int | None, max_mb: int | None, max_s: float | None, memory_mb: int | None
) -> Any:
    """The gate's own limits where nothing else was asked for."""
    from storage.catalog.sqlgate import SqlLimits

    given = {"--max-rows": max_rows, "--max-mb": max_mb, "--max-s": max_s}
    for name, value in (given | {"--memory-mb": memory_mb}).items():
        if value is not None and not value > 0:
            raise UsageError(f"{name}: must be positive, but got {value:g}")
    wanted: dict[str, Any] = {
        "max_rows": max_rows,
        "max_bytes": max_mb and max_mb << 20,
        "wall_s": max_s,
        "cpu_s": max_s and max(1, math.ceil(max_s)),
        "memory_bytes": memory_mb and memory_mb << 20,
    }
    return SqlLimits(**{name: value for name, value in wanted.items() if value is not None})


def _print(result: Any, form: str) -> None:
    from flows.answers import distinct

    # Two columns may have one name, which an object cannot: the second becomes `name_2`.
    names = distinct(result.column_names)
    rows = result.rename_columns(names).to_pylist()
    if form == "json":
        print_json(rows)
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(row.values() for row in rows)
    else:
        print_table(rows)
