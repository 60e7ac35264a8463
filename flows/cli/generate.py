"""`generate`: stage 3 for a workspace, or masks of files without one; `replay`."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.file_model import (
    ArchOption,
    CheckpointOption,
    DeviceOption,
    Sha256Option,
    Weights,
)
from flows.cli.stages import JsonOption, RecipeOption, run, show
from flows.cli.terminal import show_problems, terminal_progress
from flows.errors import UsageError

if TYPE_CHECKING:
    from engine.generation.config import GenerationConfig, PointGrid

_FILES = "Masks of files (IMAGES and --out)"
_GRID = "How masks of IMAGES are made (segment_anything's names)"


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(generate)
    app.command()(replay)


def _grid(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel=_GRID, show_default=False)


def _threshold(help_text: str) -> Any:
    return typer.Option(help=help_text, show_default=False)


def _files(*names: str, help_text: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=_FILES, show_default=False)


def generate(
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders or globs; none: the images of the workspace."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe, such as nano or paper; with IMAGES also reference.", show_default=False
        ),
    ] = None,
    keep_candidates: Annotated[
        bool,
        typer.Option(
            "--keep-candidates", help="Also store what filters left out, for maskloop replay."
        ),
    ] = False,
    out: Annotated[
        Path | None, _files("--out", help_text="A folder, a .json or a .parquet file.")
    ] = None,
    format_: Annotated[
        str | None, _files("--format", help_text="sa1b, coco or parquet; default: by --out.")
    ] = None,
    checkpoint: CheckpointOption = None,
    arch: ArchOption = None,
    sha256: Sha256Option = None,
    device: DeviceOption = None,
    redo: Annotated[bool, typer.Option("--redo", help="Make masks again that are there.")] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster instead of maskloop.toml's.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, _files("--strict", help_text="Stop at the first image that cannot be read.")
    ] = False,
    points_per_side: Annotated[int | None, _grid("Clicks along each side.")] = None,
    point_grids: Annotated[
        Path | None, _grid("A JSON file of clicks instead: [x, y] in 0..1, a list for each layer.")
    ] = None,
    uncovered_points_per_side: Annotated[
        int | None, _grid("A second pass of so many a side where no mask is.")
    ] = None,
    points_per_batch: Annotated[int | None, _grid("Most clicks at once.")] = None,
    precision: Annotated[
        str | None, _grid("float32, or bfloat16: quicker on GPUs and CPUs made for it.")
    ] = None,
    pred_iou_thresh: Annotated[float | None, _grid("Lowest predicted IoU.")] = None,
    stability_score_thresh: Annotated[float | None, _grid("Lowest stability.")] = None,
    stability_score_offset: Annotated[float | None, _grid("Logits up and down for it.")] = None,
    box_nms_thresh: Annotated[float | None, _grid("Highest IoU of two boxes.")] = None,
    crop_n_layers: Annotated[int | None, _grid("Layers of crops.")] = None,
    crop_nms_thresh: Annotated[float | None, _grid("box-nms-thresh across crops.")] = None,
    crop_overlap_ratio: Annotated[float | None, _grid("How far crops overlap.")] = None,
    crop_n_points_downscale_factor: Annotated[
        int | None, _grid("Fewer clicks in each further layer.")
    ] = None,
    min_mask_region_area: Annotated[
        int | None, _grid("Smaller islands and holes go, in pixels.")
    ] = None,
    mask_nms_thresh: Annotated[float | None, _grid("Highest IoU of two masks.")] = None,
    containment_thresh: Annotated[
        float | None, _grid("Highest share of a mask inside a better one.")
    ] = None,
    overlaps: Annotated[
        str | None, _grid("Pixels of several masks: keep, or only the best's or smallest's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stage 3: masks from a grid of points for every image; goes on where it was stopped.

    Example: maskloop generate

    Without a workspace: maskloop generate photos/ --out masks.json
    """
    given: dict[str, Any] = {
        "points_per_side": points_per_side,
        "point_grids": point_grids,
        "uncovered_points_per_side": uncovered_points_per_side,
        "points_per_batch": points_per_batch,
        "precision": precision,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "stability_score_offset": stability_score_offset,
        "box_nms_thresh": box_nms_thresh,
        "crop_n_layers": crop_n_layers,
        "crop_nms_thresh": crop_nms_thresh,
        "crop_overlap_ratio": crop_overlap_ratio,
        "crop_n_points_downscale_factor": crop_n_points_downscale_factor,
        "min_mask_region_area": min_mask_region_area,
        "mask_nms_thresh": mask_nms_thresh,
        "containment_thresh": containment_thresh,
        "overlaps": overlaps,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    weights = Weights(checkpoint, arch, sha256, device)
    if images:
        if out is None:
            raise UsageError("--out: say where the masks of IMAGES go: a folder, or a .json file")
        if keep_candidates:
            raise UsageError("--keep-candidates: is for a workspace; files have no table for them")
        if ray_address:
            raise UsageError("--ray-address: is for a workspace; IMAGES are labelled here")
        _of_files(images, Output(out, format_, redo, strict), weights, recipe, changes, as_json)
        return
    for name, value in {**asdict(weights), "out": out, "format": format_, **changes}.items():
        if value is not None:
            raise UsageError(
                f"--{name.replace('_', '-')}: is for IMAGES; in a workspace the recipe says it, "
                "and maskloop.toml where the model is"
            )
    if strict:
        raise UsageError("--strict: is for IMAGES; a workspace names what it could not label")
    result = run(
        "generate",
        recipe,
        keep_candidates=keep_candidates,
        redo=redo,
        ray_address=ray_address or "",
    )
    _show_set(result, as_json)


@dataclass(frozen=True)
class Output:
    """Where masks go, and what to do about what is there or cannot be read."""

    path: Path
    kind: str | None
    redo: bool
    strict: bool


def replay(
    recipe: RecipeOption = None,
    pred_iou_thresh: Annotated[float | None, _threshold("Lowest predicted IoU.")] = None,
    stability_score_thresh: Annotated[float | None, _threshold("Lowest stability.")] = None,
    box_nms_thresh: Annotated[float | None, _threshold("Highest IoU of two boxes.")] = None,
    crop_nms_thresh: Annotated[float | None, _threshold("The same across crops.")] = None,
    mask_nms_thresh: Annotated[float | None, _threshold("Highest IoU of two masks.")] = None,
    containment_thresh: Annotated[
        float | None, _threshold("Highest share of a mask inside a better one.")
    ] = None,
    min_mask_region_area: Annotated[
        int | None, _threshold("Smaller islands and holes go, in pixels.")
    ] = None,
    min_mask_area: Annotated[int | None, _threshold("Smallest mask, in pixels.")] = None,
    max_mask_area_fraction: Annotated[
        float | None, _threshold("Largest mask, as a share of the image.")
    ] = None,
    max_masks: Annotated[int | None, _threshold("Most masks of an image.")] = None,
    overlaps: Annotated[
        str | None, _threshold("Pixels of several masks: keep, or only the best's or smallest's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Other thresholds on what `generate --keep-candidates` saw: a new set of masks in seconds.

    Example: maskloop replay --pred-iou-thresh 0.84
    """
    given = {
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "box_nms_thresh": box_nms_thresh,
        "crop_nms_thresh": crop_nms_thresh,
        "mask_nms_thresh": mask_nms_thresh,
        "containment_thresh": containment_thresh,
        "min_mask_region_area": min_mask_region_area,
        "min_mask_area": min_mask_area,
        "max_mask_area_fraction": max_mask_area_fraction,
        "max_masks": max_masks,
        "overlaps": overlaps,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    _show_set(run("replay", recipe, changes=changes), as_json)


def _show_set(result: dict[str, Any], as_json: bool) -> None:
    if result["run_id"] is None:
        text = f"nothing to do: every image has its masks by {result['version']}"
    else:
        text = (
            f"{result['num_masks']} masks on {result['num_images']} images by {result['version']}"
        )
    show(result, as_json, text)


def _of_files(
    images: list[str],
    output: Output,
    weights: Weights,
    recipe: str | None,
    changes: dict[str, Any],
    as_json: bool,
) -> None:
    from flows.files.file_masks import FileMasks
    from flows.files.mask_formats import MaskFolder, format_of
    from flows.intake.files import left_out, named
    from flows.recipes import generation_named

    kind = format_of(output.path, output.kind)
    by_name = named(images)
    if "point_grids" in changes:
        grids = _grids_in(changes["point_grids"])
        # As many layers of crops as there are points for, if nothing else is said.
        changes = {"crop_n_layers": max(0, len(grids) - 1), **changes, "point_grids": grids}
    # What is wrong is said before a checkpoint is downloaded.
    _changed(generation_named(recipe or "reference"), changes)
    with terminal_progress() as progress:
        for line in left_out(images):
            progress.note(line)
        chosen = weights.chosen(recipe, progress)
        config = _changed(generation_named(chosen.recipe), changes)
        job = FileMasks(chosen.predictor, chosen.sha256, config)
        folder = MaskFolder(output.path, kind, by_name, job.made_by, redo=output.redo)
        outcome = job.make(by_name, folder, progress, strict=output.strict)
    show_problems(outcome.problems)
    text = (
        f"{outcome.num_masks} masks on {outcome.num_images} images in {output.path}"
        f" ({outcome.num_known} of them were there)"
        f"{folder.said_of_others}"
    )
    show({"out": str(output.path), "format": kind, **asdict(outcome)}, as_json, text)


def _grids_in(path: Path) -> tuple["PointGrid", ...]:
    """Points of a JSON file; whether they are good ones the config says."""
    try:
        grids = json.loads(path.read_bytes())
        return tuple(tuple((float(x), float(y)) for x, y in grid) for grid in grids)
    except OSError as error:
        raise UsageError(f"--point-grids: {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--point-grids: {path}: must be JSON such as [[[0.5, 0.5], [0.25, 0.5]]]: a list of "
            f"points [x, y] for the image and for each layer of crops ({error})"
        ) from error


def _changed(config: "GenerationConfig", changes: dict[str, Any]) -> "GenerationConfig":
    try:
        return replace(config, **changes)
    except ValueError as error:
        field, _, rule = str(error).partition(": ")
        raise UsageError(f"--{field.replace('_', '-')}: {rule}") from error
