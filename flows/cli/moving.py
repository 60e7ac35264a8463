"""`store move`: the store carried to another place."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, terminal_progress
from flows.errors import UsageError


def move(
    data: Annotated[
        str | None, typer.Option(help="A folder, or s3://BUCKET/PREFIX; default: as it is.")
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(help="sqlite:///FILE or postgresql://USER@HOST/DATABASE; default: as it is."),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Of an S3 server that is not AWS's, http://HOST:PORT.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Of the bucket.")] = None,
    profile: Annotated[str | None, typer.Option(help="Of ~/.aws, whose credentials.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the store to another place, check it there, and use it from then on.

    Example: maskloop store move --data s3://masks/team --catalog postgresql://me@db/masks
    """
    from flows import workspace
    from flows.moving import move_store

    if data is None and catalog is None:
        raise UsageError("--data, --catalog: say where the store should lie")
    opened = workspace.open_workspace()
    given = {"data": data, "catalog": catalog, "endpoint": endpoint}
    given |= {"region": region, "profile": profile}
    changes = {name: value for name, value in given.items() if value is not None}
    with terminal_progress() as progress:
        copied = move_store(opened, replace(opened.settings.store, **changes), progress)
    if as_json:
        print_json(asdict(copied))
        return
    out.print(
        f"moved: {copied.num_objects} objects, {copied.bytes} bytes, up to snapshot "
        f"{copied.snapshot}; the old place is as it was, delete it when you need it no longer"
    )
