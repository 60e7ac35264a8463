"""`pin`, `unpin`: images that people are to be given first."""

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.stages import JsonOption
from flows.cli.terminal import out, print_json, print_table
from flows.errors import UsageError

if TYPE_CHECKING:
    from flows.asking.pins import PinOutcome

ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE...",
        help="Image ids, or file names as the store has them.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(pin)
    app.command()(unpin)


def pin(
    images: ImagesArgument = None,
    by: Annotated[
        str | None,
        typer.Option(help="Whose wish it is; default: who is logged in.", show_default=False),
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Show what is pinned, the oldest wish first.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have images come first: in the queue at once, and when they are enqueued later.

    Example: maskloop pin plate-07.png plate-09.png
    """
    from flows import workspace
    from flows.asking import pins

    if list_all:
        if images or by:
            raise UsageError("pin --list: takes no IMAGE and no --by; it shows all that is pinned")
        rows = pins.pinned_images(workspace.open_workspace())
        print_json(rows) if as_json else print_table(rows)
        return
    wanted = _named(images, "pin", " or --list")
    outcome = pins.pin_images(workspace.open_workspace(), wanted, by or _user())
    _show(outcome, as_json, f"{outcome.num_changed} images pinned")


def unpin(images: ImagesArgument = None, as_json: JsonOption = False) -> None:
    """Give images the place back that they had before they were pinned.

    Example: maskloop unpin plate-07.png
    """
    from flows import workspace
    from flows.asking import pins

    wanted = _named(images, "unpin", "")
    outcome = pins.unpin_images(workspace.open_workspace(), wanted)
    _show(outcome, as_json, f"{outcome.num_changed} images no longer pinned")


def _named(images: list[str] | None, command: str, otherwise: str) -> list[str]:
    if not images:
        raise UsageError(f"{command}: needs an IMAGE{otherwise}; see: maskloop {command} --help")
    return images


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        # In a container a user may have a number only.
        raise UsageError(
            "pin: nobody is logged in here by name; say whose wish it is: --by NAME"
        ) from error


def _show(outcome: "PinOutcome", as_json: bool, what: str) -> None:
    if as_json:
        print_json(asdict(outcome))
    else:
        out.print(f"{what}; {outcome.num_waiting} of those named wait for people now")
