"""`forget`: an image and all that came of it leave the workspace."""

from typing import Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import err, out, print_json
from flows.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(forget)


def forget(
    image: Annotated[str, typer.Argument(help="Its id, or its file name as the store has it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove an image and all that came of it, from every snapshot, for good.

    Models that learnt from it keep what they learnt. Example: maskloop forget cells/17.png
    """
    from flows import workspace
    from flows.upkeep import forgetting
    from storage.catalog import forgetting as lake_forgetting
    from storage.errors import NotFoundError

    opened = workspace.open_workspace()
    try:
        found = lake_forgetting.trace(opened.lake, image)
    except NotFoundError as error:
        raise UsageError(f"forget: {error}") from error
    if found.trained:
        err.print(f"weights remember: {', '.join(found.trained)} learnt from {found.file_name}")
    if not yes and not typer.confirm(
        f"Remove {found.file_name}, its {found.num_masks} masks and every snapshot that shows them?"
    ):
        raise UsageError("forget: nothing was removed")
    for holder in opened.queue.holders():
        if opened.queue.item(holder.item_id).image_id == found.image_id:
            err.print(f"{holder.annotator} has it open; what they are doing there is lost")
    done = forgetting.forget(opened, found)
    left = [str(path) for path in done.left]
    if as_json:
        print_json(
            {"masks": found.num_masks, "items": done.num_items, "models": list(found.trained)}
            | {"still naming it": left}
        )
        return
    out.print(f"forgotten: {found.num_masks} masks, {done.num_items} items of the review queue")
    for path in left:
        out.print(f"still names it, look at it yourself: {path}")
