"""`demo`: the whole loop on images that maskloop draws itself."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.terminal import err, out, terminal_progress


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(demo)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to make the demo's workspace.")] = Path(
        "demo"
    ),
    quick: Annotated[
        bool, typer.Option(help="A tiny model and few images, to see it move.")
    ] = False,
) -> None:
    """Draw images, label a few, turn the loop twice with a simulated annotator, show the result.

    Example: maskloop demo my-demo
    """
    from flows.turns import demonstration

    with terminal_progress() as progress:
        outcome = demonstration.run(folder.resolve(), quick=quick, progress=progress)
    for answer in outcome.answers:
        out.print(f"\n{answer.question}", style="bold")
        out.print(f"  {answer.sql}")
        for line in answer.lines:
            out.print(f"  {line}")
    out.print(f"\nreport   {outcome.report}")
    for line in outcome.next_steps:
        err.print(line)
