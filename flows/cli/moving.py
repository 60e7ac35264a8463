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
    queue: Annotated[
        str,
        typer.Option(
            help="along: where the catalog goes, unless queue.url says a place; here: it stays."
        ),
    ] = "along",
    take_back: Annotated[
        bool,
        typer.Option(
            "--take-back",
            help="Instead: use the review queue here again, where a move that was killed cannot "
            "be run again.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --take-back: do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the store and the review queue to another place, and use them there from then on.

    Example: maskloop store move --data s3://masks/team --catalog postgresql://me@db/masks
    """
    from flows import workspace
    from flows.upkeep.moving import move_store

    given = {"data": data, "catalog": catalog, "endpoint": endpoint}
    given |= {"region": region, "profile": profile}
    changes = {name: value for name, value in given.items() if value is not None}
    if take_back:
        if changes:
            raise UsageError("--take-back: goes with nothing but --yes, for nothing is moved")
        _take_back(yes)
        return
    if data is None and catalog is None:
        raise UsageError("--data, --catalog: say where the store should lie")
    if queue not in ("along", "here"):
        raise UsageError(f"--queue: must be along or here, but got {queue!r}")
    # A try that was cut short may have left the queue between the two places.
    opened = workspace.open_workspace(even_moved=True)
    with terminal_progress() as progress:
        moved = move_store(
            opened,
            replace(opened.settings.store, **changes),
            progress,
            queue_along=queue == "along",
        )
    if as_json:
        print_json(asdict(moved.copied) | {"queue": moved.queue, "queue_moved": moved.queue_moved})
        return
    out.print(
        f"moved: {moved.copied.num_objects} objects, {moved.copied.bytes} bytes, up to snapshot "
        f"{moved.copied.snapshot}; the old place is as it was, delete it when you need it no longer"
    )
    if moved.queue_moved:
        out.print(f"the review queue is in {moved.queue}; the old one takes no answers any more")
    else:
        out.print(f"the review queue stays in {moved.queue}")


def _take_back(yes: bool) -> None:
    from flows import workspace
    from storage.queue import copying

    queue = workspace.open_workspace(even_moved=True).queue.database
    place = copying.left_for(queue)
    if place is None:
        raise UsageError("--take-back: the review queue is in use here; nothing to do")
    if not yes and not typer.confirm(
        f"Use the review queue here again? What was answered in {place} stays there, and whoever "
        "uses that as well has another queue."
    ):
        raise UsageError("--take-back: nothing was changed")
    copying.take_back(queue)
    out.print(f"the review queue takes answers here again; that in {place} is no longer this one")
