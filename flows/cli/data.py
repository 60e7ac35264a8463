"""`init`, `import`, `add`, `export`: what goes into the store and comes out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import err, out, print_json, show_problems, terminal_progress

if TYPE_CHECKING:
    from flows.intake.rows import IntakeReport

StrictOption = Annotated[
    bool,
    typer.Option(help="Bring nothing in if anything is wrong, instead of leaving that out."),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(init)
    group = typer.Typer(
        help="Bring labelled images in.\n\nExample: maskloop import coco labels.json --images DIR",
        no_args_is_help=True,
    )
    group.command("coco")(import_coco)
    app.add_typer(group, name="import")
    app.command()(add)
    export = typer.Typer(
        help="Write masks in a standard format.\n\nExample: maskloop export coco masks.json",
        no_args_is_help=True,
    )
    export.command("coco")(export_coco)
    app.add_typer(export, name="export")


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make a workspace of.")] = Path(),
) -> None:
    """Make a workspace: a folder with maskloop.toml, the store and the review queue.

    Example: maskloop init my-masks
    """
    from flows import workspace

    made = workspace.create(folder.resolve())
    out.print(f"workspace {made.root}")
    out.print("next: maskloop import coco ANNOTATIONS.json --images DIR, or maskloop add PATH...")


def import_coco(
    annotations: Annotated[Path, typer.Argument(help="COCO annotations (JSON).")],
    images: Annotated[
        str,
        typer.Option(help="Where the images are: a folder, s3://BUCKET/PREFIX, https://HOST/PATH."),
    ],
    labelled: Annotated[
        float | None,
        typer.Option(help="Keep the labels of this fraction; default: of all but gold."),
    ] = None,
    gold: Annotated[
        float | None,
        typer.Option(help="Set this fraction aside for measuring; default: 0.1, or what is left."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides, with the image's hash, who is what.")] = 0,
    gold_list: Annotated[
        Path | None,
        typer.Option(help="Instead of --gold: a file with the gold images, one name a line."),
    ] = None,
    strict: StrictOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring a COCO file and its images in. The same file again changes nothing.

    Example: maskloop import coco annotations.json --images images --labelled 0.1 --gold 0.2
    """
    from flows import workspace
    from flows.images.remote import is_remote
    from flows.intake import coco_import
    from flows.intake.coco_import import ImportOptions

    options = ImportOptions(
        labelled=labelled, gold=gold, seed=seed, gold_list=gold_list, strict=strict
    )
    opened = workspace.open_workspace()
    with terminal_progress() as progress:
        if gold is None and gold_list is None and not options.gold_fraction:
            progress.note(
                "--labelled 1 leaves no gold image of this file: nothing in it will measure a "
                "model; for some, give a smaller fraction"
            )
        report = coco_import.import_coco(
            opened,
            annotations,
            images if is_remote(images) else Path(images),
            options,
            lambda done, total: progress.step("images read", done, total),
        )
    _show(report, as_json)


def add(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders, globs, s3://BUCKET/PREFIX, text files of https addresses."
        ),
    ],
    strict: StrictOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring images without labels in.

    Example: maskloop add photos "scans/**/*.tif"
    """
    from flows import workspace
    from flows.intake import adding

    opened = workspace.open_workspace()
    with terminal_progress() as progress:
        report = adding.add_images(
            opened,
            paths,
            strict=strict,
            progress=lambda done, total: progress.step("images read", done, total),
        )
    _show(report, as_json)


def _show(report: "IntakeReport", as_json: bool) -> None:
    show_problems(report.problems)
    for line in report.notes:
        err.print(line)
    if as_json:
        print_json(report.to_dict())
    elif report.repeated:
        out.print(f"nothing new: all {report.num_known} images are in the store already")
    else:
        out.print(
            f"{report.num_new} new images "
            f"({report.num_labelled} labelled, {report.num_gold} gold), "
            f"{report.num_masks} masks, {report.num_known} known, {len(report.problems)} problems"
        )


def export_coco(
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    stage: Annotated[
        list[str] | None, typer.Option(help="Only masks of this stage; may be repeated.")
    ] = None,
    snapshot: Annotated[int | None, typer.Option(help="As of this snapshot.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the masks that stand as COCO (compressed RLE, iscrowd 1 for crowds, bbox XYWH).

    Example: maskloop export coco masks.json --stage label --stage semi
    """
    from flows import exporting, workspace

    result = exporting.export_coco(
        workspace.open_workspace(), output, stages=tuple(stage or ()), snapshot=snapshot
    )
    if as_json:
        print_json(result)
    else:
        out.print(
            f"{output}: {result['masks']} masks of {result['images']} images "
            f"at snapshot {result['snapshot']}"
        )
