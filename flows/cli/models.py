"""`models` and `evaluate`: which models there are, which serves, how good each is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.stages import JsonOption, RecipeOption
from flows.cli.terminal import (
    out,
    print_json,
    print_table,
    show_problems,
    terminal_progress,
)
from flows.errors import UsageError

if TYPE_CHECKING:
    from engine.coco import CocoDataset

VersionArgument = Annotated[str, typer.Argument(help="A model version, such as v2.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    group = typer.Typer(
        help="List, show and choose model versions.\n\nExample: maskloop models list",
        no_args_is_help=True,
    )
    group.command("list")(list_models)
    group.command()(show)
    group.command()(promote)
    group.command()(rollback)
    app.add_typer(group, name="models")
    app.command()(evaluate)


def list_models(as_json: JsonOption = False) -> None:
    """All model versions, oldest first.

    Example: maskloop models list
    """
    from flows import workspace
    from storage.catalog import evaluations, models

    opened = workspace.open_workspace()
    scores = evaluations.by_model(opened.lake, split="gold")
    rows = [
        {
            "version": row.version,
            "status": row.status,
            "role": row.role,
            "parent": row.parent,
            "training_snapshot": row.training_snapshot,
            "images": row.num_training_images,
            "masks": row.num_training_masks,
            "iou_1_click": scores.get(row.version, {}).get("iou_1_click"),
            "noc85": scores.get(row.version, {}).get("noc85"),
        }
        for row in models.all_versions(opened.lake)
    ]
    print_json(rows) if as_json else print_table(rows)


def show(version: VersionArgument, as_json: JsonOption = False) -> None:
    """Everything about one model version.

    Example: maskloop models show v2
    """
    from flows import serving, workspace
    from storage.catalog import evaluations

    opened = workspace.open_workspace()
    row = serving.model_row(opened, version)
    facts: dict[str, Any] = row.to_dict()
    facts["scores"] = evaluations.by_model(opened.lake, split="gold").get(version, {})
    facts["promotions"] = [
        asdict(item) for item in opened.pointer.history() if item.model_version == version
    ]
    if as_json:
        print_json(facts)
    else:
        print_table([{"field": key, "value": value} for key, value in facts.items()])


def promote(version: VersionArgument) -> None:
    """Put a model version in service by hand.

    Example: maskloop models promote v2
    """
    from flows import serving, workspace

    opened = workspace.open_workspace()
    row = serving.model_row(opened, version)
    if row.role == "control":
        raise UsageError(f"models promote: {version} is a control and never serves")
    serving.promote(opened, version, reason="promoted by hand")
    out.print(f"{version} serves")


def rollback() -> None:
    """Put the model that served before back in service.

    Example: maskloop models rollback
    """
    from flows import serving, workspace

    out.print(f"{serving.rollback(workspace.open_workspace())} serves")


def evaluate(
    model: Annotated[
        str | None, typer.Option(help="A version; default: the one in service.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Measure on this COCO file instead of the gold set.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="The folder with the truth's images.")] = None,
    recipe: RecipeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a model by clicks and by automatic masks, on the gold set or on a truth file.

    Example: maskloop evaluate --model v2 --json
    """
    from flows import serving, workspace
    from flows.evaluation import measure
    from flows.labels import gold_labels, truth_file
    from flows.recipes import recipe_named

    if (truth is None) != (images is None):
        raise UsageError("--truth and --images: give both, or neither for the gold set")
    opened = workspace.open_workspace()
    chosen = recipe_named(recipe or opened.settings.recipe)
    data: Any
    if truth is not None and images is not None:
        data = truth_file(_read(truth), images, opened.reader.limits)
    else:
        data = gold_labels(opened)
    if not len(data):
        raise UsageError("evaluate: no image with masks to measure on; import some with --gold")
    # Looked at before the first model is registered: a mistake leaves the store as it was.
    data.load(0)
    version = model or serving.ensure_base(opened, chosen)
    predictor = serving.load_predictor(opened, version)
    with terminal_progress() as progress:
        scores = measure(predictor, data, chosen, progress)
    result = {"model": version, "images": scores.images, "masks": scores.masks}
    result |= scores.metrics()
    print_json(result) if as_json else print_table([result])


def _read(truth: Path) -> "CocoDataset":
    from engine import coco

    try:
        dataset = coco.read(truth)
    except coco.CocoError as error:
        raise UsageError(f"--truth: {error}") from error
    show_problems([f"{truth}: {item.where}: {item.message}" for item in dataset.problems])
    return dataset
