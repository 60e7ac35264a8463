"""`label`: names for masks by CLIP; `search`: masks by a text or by another mask."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.stages import JsonOption, run, show
from flows.cli.terminal import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(label)
    app.command()(search)


def label(
    classes: Annotated[
        Path | None,
        typer.Option(
            help="A file with a class a line, as: mug | cup; default: maskloop.toml's.",
            show_default=False,
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            help='A file with a template a line, as: a photo of a {}.; default: "a photo of a {}."',
            show_default=False,
        ),
    ] = None,
    accept: Annotated[
        float | None,
        typer.Option(
            help="A name counts without a person from this probability on; default: as set.",
            show_default=False,
        ),
    ] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Say anew what these classes were said before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Name masks: each as one of some classes, or none of them, and how sure that is.

    Example: maskloop label --classes classes.txt --accept 0.9
    """
    files = [None if path is None else str(path.resolve()) for path in (classes, templates)]
    result = run("label", None, classes=files[0], templates=files[1], accept=accept, redo=redo)
    show(
        result,
        as_json,
        f"{result['num_named']} masks named and {result['num_none']} are none of these; "
        f"{result['num_accepted']} names accepted, the others are suggestions",
    )


def search(
    text: Annotated[str | None, typer.Argument(help="What the masks show, in words.")] = None,
    like: Annotated[
        str | None, typer.Option(help="A mask_id, instead of a text.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(help="How many masks.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Find masks by a text, or those that look like another one.

    Example: maskloop search "a red star" --count 10
    """
    from flows import workspace
    from flows.clip.clips import mask_encoder
    from flows.clip.searching import search as find

    opened = workspace.open_workspace()
    hits = find(opened, mask_encoder(opened), text=text, like=like, count=count)
    if as_json:
        print_json([asdict(hit) for hit in hits])
        return
    rows = [
        {
            "similarity": f"{hit.similarity:.3f}",
            "mask": hit.mask_id,
            "image": hit.file_name,
            "category": hit.category,
            "x, y, w, h": ", ".join(f"{value:g}" for value in hit.bbox),
        }
        for hit in hits
    ]
    print_table(rows, title=text or f"like {like}")
