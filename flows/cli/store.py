"""`fsck`, `store gc`: check the store, clean it."""

from typing import Annotated, Any

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table
from flows.errors import UsageError

_GC_AGE_H = 48.0


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(fsck)
    group = typer.Typer(
        help="Look after the store's files.\n\nExample: maskloop store gc", no_args_is_help=True
    )
    group.command("gc")(collect)
    group.callback()(lambda: None)
    app.add_typer(group, name="store")


def fsck(as_json: JsonOption = False) -> None:
    """Check the invariants of the store and the queue; exit code 1 on any breach.

    Example: maskloop fsck
    """
    from flows import checking, workspace

    breaches = checking.fsck(workspace.open_workspace())
    rows = [breach.to_dict() for breach in breaches]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        out.print("clean: every invariant holds")
    if rows:
        raise typer.Exit(1)


def collect(
    delete: Annotated[bool, typer.Option(help="Really delete; without it, only list.")] = False,
    min_age_h: Annotated[
        float, typer.Option(help="Leave younger files: a running stage may be writing them.")
    ] = _GC_AGE_H,
    as_json: JsonOption = False,
) -> None:
    """List files that no snapshot names, and delete them with --delete.

    Example: maskloop store gc --delete
    """
    from flows import workspace
    from storage.catalog import gc

    if not min_age_h >= 0:
        raise UsageError(f"--min-age-h: must be at least 0 hours, but got {min_age_h:g}")
    opened = workspace.open_workspace()
    found = gc.collect(opened.lake, min_age_s=min_age_h * 3600, delete=delete)
    rows: list[dict[str, Any]] = [{"file": item.uri, "bytes": item.bytes} for item in found]
    if as_json:
        print_json({"deleted": delete, "files": rows})
        return
    print_table(rows)
    verb = "deleted" if delete else "would be deleted (--delete does it)"
    out.print(f"{len(rows)} files, {sum(row['bytes'] for row in rows)} bytes {verb}")
