"""`models` and `evaluate`: which models there are, which serves, how good each is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.stages import JsonOption, RecipeOption
from flows.cli.terminal import (
    err,
    out,
    print_json,
    print_table,
    show_problems,
    terminal_progress,
)
from flows.errors import NoWorkspaceError, UsageError

if TYPE_CHECKING:
    from engine.coco import CocoDataset
    from engine.metrics.scores import Scores
    from engine.model.predictor import Predictor
    from flows.progress import Progress
    from flows.recipes import Recipe
    from flows.workspace import Workspace

VersionArgument = Annotated[str, typer.Argument(help="A model version, such as v2.")]

EvenRevokedOption = Annotated[
    bool,
    typer.Option("--even-revoked", help="Even if it was revoked, or learnt masks that were."),
]


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
    from flows import workspace
    from flows.models import serving
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


def promote(version: VersionArgument, even_revoked: EvenRevokedOption = False) -> None:
    """Put a model version in service by hand.

    Example: maskloop models promote v2
    """
    from flows import workspace
    from flows.models import serving
    from flows.models.soundness import check_sound

    opened = workspace.open_workspace()
    row = serving.model_row(opened, version)
    if row.role == "control":
        raise UsageError(f"models promote: {version} is a control and never serves")
    # A promotion of what serves would make of it the model before itself, to which rollback goes.
    if version == serving.current_version(opened):
        out.print(f"{version} serves already; nothing changed")
        return
    if not even_revoked:
        check_sound(opened, version, "models promote")
    serving.promote(opened, version, reason="promoted by hand")
    out.print(f"{version} serves")


def rollback(even_revoked: EvenRevokedOption = False) -> None:
    """Put the model that served before back in service.

    Example: maskloop models rollback
    """
    from flows import workspace
    from flows.models import serving

    opened = workspace.open_workspace()
    out.print(f"{serving.rollback(opened, even_revoked=even_revoked)} serves")


def evaluate(
    model: Annotated[
        str | None, typer.Option(help="A version; default: the one in service.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A file of weights (.safetensors) instead of a version; with --truth, no "
            "workspace is needed. Default outside a workspace: what ships."
        ),
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
    from engine.images import DEFAULT_LIMITS
    from engine.metrics.scores import NothingToMeasureError
    from engine.model.weights import shipped
    from flows import workspace
    from flows.recipes import recipe_named
    from flows.training.evaluation import measure
    from flows.training.labels import gold_labels, truth_file

    if (truth is None) != (images is None):
        raise UsageError("--truth and --images: give both, or neither for the gold set")
    if model is not None and weights is not None:
        raise UsageError("--model and --weights: give one of them, not both")
    try:
        opened = None if weights and truth else workspace.open_workspace()
    except NoWorkspaceError:
        if model is not None or truth is None:
            raise
        err.print("no workspace here: the weights that ship are measured")
        opened, weights = None, shipped()
    chosen = recipe_named(recipe or (opened.settings.recipe if opened else "nano"))
    data: Any
    if truth is not None and images is not None:
        data = truth_file(_read(truth), images, opened.reader.limits if opened else DEFAULT_LIMITS)
    else:
        assert opened is not None, "only a truth file does without a workspace"
        data = gold_labels(opened)
    if not data.num_masks:
        raise UsageError(
            f"--truth: {truth}: must have masks of objects to measure on, but got none"
            if truth
            else "evaluate: the gold set has no image with masks; import some with --gold, or "
            "measure on a COCO file: --truth FILE --images DIR"
        )
    # Looked at before the first model is registered: a mistake leaves the store as it was.
    data.load(0)
    with terminal_progress() as progress:
        predictor = _of_file(weights) if weights else _of_version(opened, model, chosen, progress)
        try:
            scores = measure(predictor, data, chosen, progress)
        except NothingToMeasureError as error:
            raise UsageError(f"evaluate: {error}") from error
    if as_json:
        counts = {
            "model": predictor.version,
            "images": scores.images,
            "generated_images": scores.generated_images,
            "masks": scores.masks,
        }
        print_json(counts | scores.flat())
    else:
        _show_scores(predictor.version, scores)


def _of_version(
    opened: "Workspace | None", version: str | None, recipe: "Recipe", progress: "Progress"
) -> "Predictor":
    from flows.models import serving

    assert opened is not None, "only --weights does without a workspace"
    return serving.load_predictor(opened, version or serving.ensure_base(opened, recipe, progress))


def _of_file(path: Path) -> "Predictor":
    """The model of a weights file; its path stands for a version."""
    from engine.model import weights
    from engine.model.predictor import Predictor

    try:
        model, _ = weights.load(path)
    except weights.WeightsError as error:
        raise UsageError(f"--weights: {path}: {error}") from error
    except OSError as error:
        raise UsageError(f"--weights: {path}: {error.strerror}; name a weights file") from error
    return Predictor(model, version=str(path))


def _show_scores(version: str, scores: "Scores") -> None:
    rows = [
        {
            "score": name,
            "value": figure and figure.value,
            "95% interval": figure and f"{figure.interval.low:.4f} to {figure.interval.high:.4f}",
        }
        for name, figure in scores.figures.items()
    ]
    print_table(
        rows,
        title=f"{version}: {scores.images} images, {scores.masks} masks clicked on, "
        f"automatic masks of {scores.generated_images} images",
    )


def _read(truth: Path) -> "CocoDataset":
    from engine import coco

    try:
        dataset = coco.read(truth)
    except coco.CocoError as error:
        raise UsageError(f"--truth: {error}") from error
    show_problems([f"{truth}: {item.where}: {item.message}" for item in dataset.problems])
    return dataset
