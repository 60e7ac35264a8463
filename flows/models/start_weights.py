"""The weights a workspace begins with: what ships, a checkpoint that is public, or one's own."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from engine.model.checkpoints import PUBLISHED, local_checkpoint
from engine.model.integrity import UnreachableError, WeightsError
from engine.model.registry import ModelConfig, build_model
from engine.model.weights import load, load_meta_checkpoint, read_config, shipped, to_bytes
from flows.errors import StageError, UsageError
from flows.progress import Progress
from flows.recipes import Recipe
from flows.settings import ModelSettings

_OWN = ".safetensors"
_SHIPPED = "nano"


def start_weights(
    recipe: Recipe,
    settings: ModelSettings,
    progress: Progress,
    *,
    said_in: str = "maskloop.toml: model.checkpoint",
) -> tuple[bytes, ModelConfig]:
    """What `recipe` starts from, as maskloop's weights, and their architecture.

    A maskloop `.safetensors` goes before everything else. Otherwise `nano` starts from the weights
    that ship, and SAM's own architectures from the `checkpoint` of the settings, a path or a URL,
    or from the published one. Where nothing is published, weights are random.
    `said_in`: where the user named the checkpoint. Raises UsageError when that is missing or not
    what it should be, StageError when it cannot be fetched.
    """
    try:
        if urlsplit(settings.checkpoint).path.endswith(_OWN):
            return _own(recipe, settings, progress)
        if recipe.start == _SHIPPED:
            if settings.checkpoint:
                progress.note(
                    f"recipe {recipe.name} starts from the weights that ship; model.checkpoint, "
                    f"which is no {_OWN}, is for other recipes"
                )
            data = shipped().read_bytes()
            return data, read_config(data)
        config = ModelConfig(architecture=recipe.start)
        if settings.checkpoint or recipe.start in PUBLISHED:
            return _public(recipe, settings, progress, config), config
    except UnreachableError as error:
        raise StageError(str(error)) from error
    except WeightsError as error:
        raise UsageError(f"{said_in}: {error}") from error
    return to_bytes(build_model(config, seed=0), config), config


def are_random(recipe: Recipe, settings: ModelSettings) -> bool:
    """Whether what `recipe` starts from has learnt nothing yet."""
    return not settings.checkpoint and recipe.start not in (_SHIPPED, *PUBLISHED)


def _own(recipe: Recipe, settings: ModelSettings, progress: Progress) -> tuple[bytes, ModelConfig]:
    path = local_checkpoint(
        settings.source, sha256=settings.sha256 or None, progress=_megabytes(progress)
    )
    _, config = load(path)
    if config.architecture != recipe.start:
        raise WeightsError(
            f"{settings.checkpoint}: is of architecture {config.architecture}, but recipe "
            f"{recipe.name} starts from {recipe.start}; name another file, or leave it empty"
        )
    return path.read_bytes(), config


def _public(
    recipe: Recipe, settings: ModelSettings, progress: Progress, config: ModelConfig
) -> bytes:
    source: Path | str = settings.source
    if not settings.checkpoint:
        source = PUBLISHED[recipe.start].url
        progress.note(f"recipe {recipe.name} starts from {source}, which is downloaded once")
    model = load_meta_checkpoint(
        source, recipe.start, sha256=settings.sha256 or None, progress=_megabytes(progress)
    )
    return to_bytes(model, config)


def _megabytes(progress: Progress) -> Callable[[int, int | None], None]:
    """Tells `progress` of a download."""

    def tell(done: int, total: int | None) -> None:
        if total:
            progress.step("megabytes downloaded", done >> 20, max(1, total >> 20))

    return tell
