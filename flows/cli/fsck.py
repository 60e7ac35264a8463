"""`fsck`: check the store, set it right."""

from typing import Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(fsck)


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
    from flows import workspace
    from flows.upkeep import checking

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
