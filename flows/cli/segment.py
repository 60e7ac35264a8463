"""`segment`: the masks that a text means, on files, without a workspace."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.file_model import (
    ArchOption,
    CheckpointOption,
    DeviceOption,
    Sha256Option,
    Weights,
)
from flows.cli.stages import JsonOption, show
from flows.cli.terminal import show_problems, terminal_progress
from flows.errors import UsageError

_PNG = "png"


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command()(segment)


def segment(
    images: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    text: Annotated[str, typer.Option("--text", help='What is meant, as "a red star".')],
    out: Annotated[
        Path, typer.Option("--out", help="A folder, a .json or a .parquet file.")
    ] = Path("masks.json"),
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="sa1b, coco, parquet or png (a folder of pictures); default: by --out.",
            show_default=False,
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option("--point", help="X,Y on what is meant, in pixels.", show_default=False),
    ] = None,
    not_point: Annotated[
        list[str] | None,
        typer.Option("--not-point", help="X,Y on what is not meant.", show_default=False),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that the text means, not only one.")
    ] = False,
    min_presence: Annotated[
        float, typer.Option(help="Less likely than this, it is not there.")
    ] = 0.5,
    clip: Annotated[
        Path | None,
        typer.Option(
            "--clip", help="Of the text prompts, by make pretrain-clip.", show_default=False
        ),
    ] = None,
    text_weights: Annotated[
        Path | None,
        typer.Option(
            "--text-weights",
            help="Of text prompts, by engine.training.pretrain_text.",
            show_default=False,
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    arch: ArchOption = None,
    sha256: Sha256Option = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Masks of what a text means, where it is there.

    Example: maskloop segment photos/ --text "a red star" --out masks.json
    """
    from flows.files.mask_formats import MaskFolder, format_of
    from flows.files.text_masks import (
        TextFiles,
        TextJob,
        check_words,
        made_by,
        reading_text,
        segment_files,
    )
    from flows.intake.files import left_out, named

    job = TextJob(
        text=text,
        points=tuple(_place("--point", each) for each in point or ()),
        negatives=tuple(_place("--not-point", each) for each in not_point or ()),
        every=every,
        min_presence=min_presence,
    )
    kind = _PNG if format_ == _PNG else format_of(out, format_)
    if kind == _PNG and (out.is_file() or out.suffix):
        raise UsageError(f"--out: png writes a folder, but got {out}")
    by_name = named(images)
    # What is wrong is said before a checkpoint is downloaded.
    files = TextFiles.named(clip, text_weights)
    with terminal_progress() as progress:
        for line in left_out(images):
            progress.note(line)
        chosen = Weights(checkpoint, arch, sha256, device).chosen(None, progress)
        predictor = reading_text(chosen, files)
        check_words(predictor, job)
        folder: Path | MaskFolder = out
        if kind != _PNG:
            folder = MaskFolder(out, kind, by_name, made_by(chosen, job), redo=True)
        outcome = segment_files(predictor, job, by_name, folder, progress)
    show_problems(outcome.problems)
    line = f"{outcome.num_masks} masks on {outcome.num_images} images in {out}"
    if isinstance(folder, MaskFolder):
        line += folder.said_of_others
    show({"out": str(out), "format": kind, **asdict(outcome)}, as_json, line)


def _place(option: str, value: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in value.split(","))
    except ValueError as error:
        raise UsageError(f"{option}: must be X,Y such as 120,80, but got {value!r}") from error
    return x, y
