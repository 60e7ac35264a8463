"""The model that options name for masks of files, without a workspace."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from engine.model.device import device_named
from engine.model.integrity import WeightsError
from engine.model.predictor import Predictor
from engine.model.registry import ARCHITECTURES
from engine.model.sam import PromptableSam
from engine.model.weights import load, read_config
from flows.errors import UsageError
from flows.models.start_weights import start_weights
from flows.progress import Progress
from flows.recipes import NANO, RECIPES
from flows.settings import ModelSettings


@dataclass(frozen=True)
class ChosenModel:
    """A model and who asks it, the SHA-256 of its weights, and the recipe that suits it."""

    model: PromptableSam
    predictor: Predictor
    sha256: str
    recipe: str


def model_of(
    checkpoint: str | None,
    arch: str | None,
    sha256: str | None,
    device: str | None,
    recipe: str | None,
    progress: Progress,
) -> ChosenModel:
    """The model that `--checkpoint`, `--arch`, `--sha256`, `--device` and `--recipe` name.

    Without any, the one that ships, on a GPU where there is one. Raises UsageError for what does
    not fit together.
    """
    if sha256 and not checkpoint:
        raise UsageError("--sha256: is of a --checkpoint; name that too")
    device = device or "auto"
    settings = ModelSettings(checkpoint=checkpoint or "", sha256=sha256 or "", device=device)
    start = _architecture(settings, arch, recipe)
    data, config = start_weights(
        replace(NANO, name=start, start=start), settings, progress, said_in="--checkpoint"
    )
    model, _ = load(data)
    try:
        predictor = Predictor(model, version="file", device=device_named(device))
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"--device: {error}") from error
    suits = config.architecture if config.architecture in RECIPES else "reference"
    return ChosenModel(model, predictor, hashlib.sha256(data).hexdigest(), recipe or suits)


def _architecture(settings: ModelSettings, arch: str | None, recipe: str | None) -> str:
    checkpoint = settings.checkpoint
    if arch is not None and arch not in ARCHITECTURES:
        raise UsageError(f"--arch: must be one of {', '.join(ARCHITECTURES)}, but got {arch!r}")
    if not checkpoint:
        return arch or (RECIPES[recipe].start if recipe in RECIPES else NANO.start)
    if urlsplit(checkpoint).path.endswith(".safetensors"):
        path = Path(settings.source)
        return arch or (_architecture_in(path) if path.is_file() else NANO.start)
    if arch is None or not arch.startswith("vit"):
        known = ", ".join(name for name in ARCHITECTURES if name.startswith("vit"))
        raise UsageError(f"--arch: say what {checkpoint} is: one of {known}")
    return arch


def _architecture_in(path: Path) -> str:
    try:
        return read_config(path.read_bytes()).architecture
    except WeightsError as error:
        raise UsageError(f"--checkpoint: {path}: {error}") from error
