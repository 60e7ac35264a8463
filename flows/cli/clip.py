"""`clip train`: a CLIP learns from one's own images and texts, or from the named masks."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.stages import JsonOption, show
from flows.cli.terminal import show_problems, terminal_progress
from flows.errors import UsageError

if TYPE_CHECKING:
    from engine.clip.config import Tower
    from flows.images.sources import ImageReader
    from flows.settings import ClipSettings, Settings

_STORE = "store"


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    group = typer.Typer(
        help="Train the CLIP that names masks.\n\n"
        "Example: maskloop clip train --out ours.safetensors",
        no_args_is_help=True,
    )
    # Otherwise a group of one command would be that command.
    group.callback()(lambda: None)
    group.command()(train)
    app.add_typer(group, name="clip")


def train(
    out: Annotated[
        Path, typer.Option("--out", help="The file of weights, .safetensors; a card beside it.")
    ],
    pairs: Annotated[
        str,
        typer.Argument(
            help="A folder of images with a NAME.txt beside each, a .csv or .parquet with the "
            "columns uri and text, or store: the named masks of the workspace."
        ),
    ] = _STORE,
    clip: Annotated[
        str | None,
        typer.Option(
            "--clip",
            help="Weights to begin with, a file or a published tag; default: maskloop.toml's, "
            "else what ships.",
            show_default=False,
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="Of those weights; default: maskloop.toml's.", show_default=False),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin with random weights instead.")
    ] = False,
    steps: Annotated[int, typer.Option(help="How long it trains.")] = 1000,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Pairs of a step, each told from all others; default: 128, or all there are.",
            show_default=False,
        ),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(
            help="Of them in memory at once; fewer take longer and give the same.",
            show_default=False,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Default: 0.0001, or 0.001 with --fresh.", show_default=False),
    ] = None,
    lock: Annotated[
        str | None,
        typer.Option(help="image or text: that tower stays as it is.", show_default=False),
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="The share of the images that is only asked about.")
    ] = 0.1,
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu, cuda or cuda:N; default: maskloop.toml's.", show_default=False
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="That share each step, on a GPU each or on the CPU; default: the GPUs there are, "
            "else 1.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of the pairs.")] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Where its state is kept; default: beside --out.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a CLIP on images and texts; stopped, the same command goes on.

    Example: maskloop clip train store --out ours.safetensors --steps 500
    """
    from flows import workspace
    from flows.clip.training import ClipTrainRequest, train_on_files, train_on_store

    if clip is not None and fresh:
        raise UsageError("--fresh: begins with random weights; leave --clip out")
    opened = workspace.open_workspace() if pairs == _STORE else None
    settings = opened.settings if opened else _settings()
    request = ClipTrainRequest(
        out=out,
        start=_start(settings, clip, architecture),
        said_in="maskloop.toml: clip" if clip is None and architecture is None else "--clip",
        fresh=fresh,
        steps=steps,
        batch=batch,
        at_once=at_once,
        learning_rate=learning_rate,
        locked=_tower(lock),
        device=device or settings.model.device,
        processes=processes,
        seed=seed,
        holdout=holdout,
        checkpoint=checkpoint,
        made_by=" ".join(["maskloop", *sys.argv[1:]]),
    )
    with terminal_progress() as progress:
        if opened:
            outcome = train_on_store(opened, request, progress)
        else:
            outcome = train_on_files(Path(pairs), _reader(settings), request, progress)
    show_problems(outcome.problems)
    show(
        asdict(outcome),
        as_json,
        f"{outcome.out}: trained on {outcome.num_pairs} pairs of {outcome.num_images} images; to "
        f'name masks by it, put weights = "{out.resolve()}" under [clip] in maskloop.toml',
    )


def _tower(name: str | None) -> "Tower | None":
    match name:
        case None | "image" | "text":
            return name
    raise UsageError(f"--lock: must be image or text, but got {name!r}")


def _settings() -> "Settings":
    """Those of the workspace one stands in, else the defaults."""
    from flows.settings import Settings, find_root, read_settings

    try:
        root = find_root()
    except UsageError:
        return Settings()
    return read_settings(root)


def _start(settings: "Settings", clip: str | None, architecture: str | None) -> "ClipSettings":
    start = settings.clip
    if architecture is not None and architecture != start.model:
        start = replace(start, model=architecture, weights="", sha256="")
    return start if clip is None else replace(start, weights=clip, sha256="")


def _reader(settings: "Settings") -> "ImageReader":
    """Reads images at any place, as the settings say."""
    from engine.images import ImageLimits
    from flows.images.remote import remote_images
    from flows.images.sources import ImageReader, Sources

    limits = ImageLimits(max_pixels=settings.images.max_pixels, intensity=settings.images.intensity)
    return ImageReader(
        Sources(), limits, remote_images(settings.images, settings.store, Path("cache"))
    )
