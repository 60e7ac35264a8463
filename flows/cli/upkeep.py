"""`maskloop store`: keep the store small, fast, safe, and where it should be."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.moving import move
from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table
from flows.errors import UsageError

_GC_AGE_H = 48.0
_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0}
ApplyOption = Annotated[bool, typer.Option("--apply", help="Do it; without it, only list.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    group = typer.Typer(
        help="Look after the store's files.\n\nExample: maskloop store gc", no_args_is_help=True
    )
    group.command()(compact)
    group.command()(expire)
    group.command("gc")(collect)
    group.command()(backup)
    group.command()(restore)
    group.command("move")(move)
    app.add_typer(group, name="store")


def compact(apply: ApplyOption = False, as_json: JsonOption = False) -> None:
    """Merge the small files of each table, sorted by image; every snapshot stays readable.

    Example: maskloop store compact --apply
    """
    from flows import workspace
    from storage.catalog import compaction

    opened = workspace.open_workspace()
    before = {each.table: each for each in compaction.survey(opened.lake)}
    if apply:
        compaction.compact(opened.lake)
    after = {each.table: each for each in compaction.survey(opened.lake)}
    rows: list[dict[str, Any]] = [
        {
            "table": table,
            "files": found.num_files,
            "small": found.num_small,
            "bytes": found.bytes,
            **({"files now": after[table].num_files} if apply else {}),
        }
        for table, found in before.items()
    ]
    if as_json:
        print_json({"applied": apply, "tables": rows})
        return
    print_table(rows)
    small = sum(row["small"] for row in rows)
    verb = "merged; maskloop store gc deletes them" if apply else "would be merged (--apply)"
    out.print(f"{small} small files {verb}")


def expire(
    older_than: Annotated[str, typer.Option(help="Age, such as 30d, 12h or 90m.")],
    apply: ApplyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Expire old snapshots, except those that a model, an export or a running stage needs.

    Example: maskloop store expire --older-than 30d --apply
    """
    from flows import workspace
    from storage.catalog import expiry

    opened = workspace.open_workspace()
    found = expiry.expire(opened.lake, older_than_s=_seconds(older_than), apply=apply)
    rows = [
        {"snapshot": each.snapshot, "made at": each.made_at, "kept for": each.kept_for}
        for each in found
    ]
    if as_json:
        print_json({"applied": apply, "snapshots": rows})
        return
    print_table(rows)
    num = sum(each.kept_for is None for each in found)
    verb = "expired; maskloop store gc deletes their files" if apply else "would expire (--apply)"
    out.print(f"{num} of {len(found)} snapshots {verb}")


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", age)
    if match is None:
        raise UsageError(f"--older-than: must be a number with m, h or d, but got {age!r}")
    return float(match[1]) * _UNITS_S[match[2]]


def collect(
    delete: Annotated[bool, typer.Option(help="Really delete; without it, only list.")] = False,
    min_age_h: Annotated[
        float, typer.Option(help="Leave younger files: a running stage may be writing them.")
    ] = _GC_AGE_H,
    yes: Annotated[
        bool, typer.Option("--yes", help="Also where it is more than 5% of all bytes.")
    ] = False,
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
    max_share = 1.0 if yes else gc.MAX_SHARE
    try:
        found = gc.collect(
            opened.lake, min_age_s=min_age_h * 3600, delete=delete, max_share=max_share
        )
    except gc.TooMuchGarbage as error:
        raise UsageError(f"store gc: {error}") from error
    rows: list[dict[str, Any]] = [{"file": item.uri, "bytes": item.bytes} for item in found]
    if as_json:
        print_json({"deleted": delete, "files": rows})
        return
    print_table(rows)
    verb = "deleted" if delete else "would be deleted (--delete does it)"
    out.print(f"{len(rows)} files, {sum(row['bytes'] for row in rows)} bytes {verb}")


def backup(
    folder: Annotated[Path, typer.Argument(help="Where the backup lies; made when missing.")],
    as_json: JsonOption = False,
) -> None:
    """Copy the store, the review queue and the settings; again, only what is new.

    Wherever they lie, S3 and Postgres too; images stay where they are.

    Example: maskloop store backup /backups/cells
    """
    from flows import workspace
    from flows.upkeep import backups

    made = backups.back_up(workspace.open_workspace(), folder)
    told = {"snapshot": made.snapshot, "files": len(made.files), "bytes": made.bytes}
    if as_json:
        print_json(told | {"copied": made.num_copied})
        return
    out.print(
        f"snapshot {made.snapshot} in {folder}: {len(made.files)} files, {made.bytes} bytes, "
        f"{made.num_copied} of them new"
    )


def restore(
    folder: Annotated[Path, typer.Argument(help="The backup.")],
    to: Annotated[Path, typer.Argument(help="The new workspace: an empty folder.")],
    as_json: JsonOption = False,
) -> None:
    """Make a workspace of a backup, each file checked, and check its invariants.

    Example: maskloop store restore /backups/cells cells
    """
    from flows.upkeep import backups

    restored = backups.restore(folder, to)
    made = restored.backup
    if as_json:
        told = {"snapshot": made.snapshot, "files": len(made.files), "bytes": made.bytes}
        print_json(told | {"brought_here": restored.brought_here})
        return
    out.print(f"{to}: {len(made.files)} files, snapshot {made.snapshot}, every invariant holds")
    if restored.brought_here:
        out.print(restored.brought_here)
