"""`sql` and `fsck`: ask the store, check it, set it right."""

import csv
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table
from flows.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(sql)
    app.command()(fsck)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    form: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
) -> None:
    """Ask the store. Tables and views are in docs/data_model.md. CSV has every value as it is.

    Example: maskloop sql "SELECT stage, count(*) FROM current_masks GROUP BY 1" --format json
    """
    from flows import workspace
    from storage.catalog import sqlgate
    from storage.errors import NotFoundError

    if form not in ("table", "json", "csv"):
        raise UsageError(f"--format: must be table, json or csv, but got {form!r}")
    opened = workspace.open_workspace()
    try:
        result = sqlgate.run_user_sql(opened.lake, query)
    except (sqlgate.SqlRefused, sqlgate.SqlError, NotFoundError) as error:
        raise UsageError(f"sql: {error}") from error
    # Two columns may have one name, which an object cannot: the second becomes `name_2`.
    names = distinct(result.column_names)
    rows = result.rename_columns(names).to_pylist()
    if form == "json":
        print_json(rows)
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(row.values() for row in rows)
    else:
        print_table(rows)


def distinct(names: Sequence[str]) -> list[str]:
    """The names with a number behind each one that was there before."""
    taken: list[str] = []
    for name in names:
        number, wish = 2, name
        while wish in taken:
            number, wish = number + 1, f"{name}_{number}"
        taken.append(wish)
    return taken


def fsck(
    repair: Annotated[bool, typer.Option(help="Set right what can be, then check again.")] = False,
    quick: Annotated[bool, typer.Option(help="Take no SHA-256 of files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the invariants of the store and the queue; exit code 1 on any breach.

    With --repair, damaged shards are labelled anew by the next generate, what follows from masks is
    computed anew, and damaged files go to quarantine/. What is left then needs a backup.

    Example: maskloop fsck --repair
    """
    from flows import checking, workspace

    opened = workspace.open_workspace()
    done = [each.to_dict() for each in checking.repair(opened)] if repair else []
    rows = [breach.to_dict() for breach in checking.fsck(opened, quick=quick)]
    if as_json:
        print_json({"repaired": done, "breaches": rows} if repair else rows)
    else:
        if done:
            print_table(done, title="repaired")
        if rows:
            print_table(rows)
        else:
            out.print("clean: every invariant holds")
    if rows:
        raise typer.Exit(1)
