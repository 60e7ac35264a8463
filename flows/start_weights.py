"""The weights a workspace begins with: what ships, a checkpoint that is public, or one's own."""

from collections.abc import Callable
from pathlib import Path

from engine.model.checkpoints import PUBLISHED, local_checkpoint
from engine.model.integrity import WeightsError
from engine.model.registry import ModelConfig, build_model
from engine.model.weights import load, load_meta_checkpoint, read_config, shipped, to_bytes
from flows.errors import UsageError
from flows.progress import Progress, listener
from flows.recipes import Recipe
from flows.settings import ModelSettings

_OWN = ".safetensors"


def start_weights(recipe: Recipe, settings: ModelSettings) -> tuple[bytes, ModelConfig]:
    """What `recipe` starts from, as maskloop's weights, and their architecture.

    A maskloop `.safetensors` of the recipe's architecture goes before everything else. Otherwise
    `nano` starts from the weights that ship, and SAM's own architectures from the `checkpoint` of
    the settings, a path or a URL, or from the published one. Where nothing is published, weights
    are random. Raises UsageError when a checkpoint is missing or not what it should be.
    """
    try:
        if settings.checkpoint.endswith(_OWN):
            return _own(recipe, settings)
        if recipe.start == "nano":
            data = shipped().read_bytes()
            return data, read_config(data)
        config = ModelConfig(architecture=recipe.start)
        if settings.checkpoint or recipe.start in PUBLISHED:
            return _public(recipe, settings, config), config
    except WeightsError as error:
        raise UsageError(f"maskloop.toml: model.checkpoint: {error}") from error
    return to_bytes(build_model(config, seed=0), config), config


def _own(recipe: Recipe, settings: ModelSettings) -> tuple[bytes, ModelConfig]:
    path = local_checkpoint(
        settings.source, sha256=settings.sha256 or None, progress=_shown(listener())
    )
    _, config = load(path)
    if config.architecture != recipe.start:
        raise WeightsError(
            f"{settings.checkpoint}: is of architecture {config.architecture}, but recipe "
            f"{recipe.name} starts from {recipe.start}; name another file, or leave it empty"
        )
    return path.read_bytes(), config


def _public(recipe: Recipe, settings: ModelSettings, config: ModelConfig) -> bytes:
    source: Path | str = settings.source
    if not settings.checkpoint:
        source = PUBLISHED[recipe.start].url
        listener().note(f"recipe {recipe.name} starts from {source}, which is downloaded once")
    model = load_meta_checkpoint(
        source,
        recipe.start,
        sha256=settings.sha256 or None,
        progress=_shown(listener()),
    )
    return to_bytes(model, config)


def _shown(progress: Progress) -> Callable[[int, int | None], None]:
    """Tells `progress` of a download, in megabytes."""

    def tell(done: int, total: int | None) -> None:
        if total:
            progress.step("megabytes downloaded", done >> 20, max(1, total >> 20))

    return tell
