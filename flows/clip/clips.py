"""The CLIP that the settings name, and how it looks at masks."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.clip.classes import PLAIN, ClassPrompts, told
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.model import Clip
from engine.clip.views import ViewsConfig
from engine.clip.weights import open_clip
from engine.model.device import device_named
from engine.model.integrity import UnreachableError, WeightsError
from flows.errors import StageError, UsageError
from flows.settings import ClipSettings, ModelSettings
from flows.workspace import Workspace

_SAID_IN = "maskloop.toml: clip"


def mask_encoder(workspace: Workspace) -> MaskEncoder:
    """The workspace's CLIP and the views that the settings name.

    Raises UsageError for weights that are not what they should be, and for views that this CLIP
    cannot be shown.
    """
    settings = workspace.settings.clip
    clip = load_clip(settings, workspace.settings.model)
    try:
        return MaskEncoder(clip, ViewsConfig(views=settings.views))
    except ValueError as error:
        raise UsageError(f"maskloop.toml: clip.{error}") from error


def load_clip(settings: ClipSettings, model: ModelSettings, *, said_in: str = _SAID_IN) -> Clip:
    """A CLIP by its settings, on the device that models compute on.

    `said_in`: where the user named it.
    Raises UsageError for weights that are not what they should be, StageError where they cannot be
    fetched.
    """
    weights = str(Path(settings.weights).expanduser()) if settings.weights else None
    try:
        clip = open_clip(settings.model, weights, sha256=settings.sha256 or None)
        return clip.computing(device=device_named(model.device))
    except UnreachableError as error:
        raise StageError(f"{said_in}: {error}") from error
    except (WeightsError, ValueError) as error:
        raise UsageError(f"{said_in}: {error}") from error


def not_known(words: Sequence[str]) -> str:
    """What is wrong with a text that has words which its CLIP never learnt."""
    return (
        f"must be of words that the CLIP knows, but it never learnt {', '.join(map(repr, words))}; "
        "use other words, name a CLIP that knows them, or teach it: maskloop clip train"
    )


def class_prompts(
    workspace: Workspace, classes: Path | None = None, templates: Path | None = None
) -> ClassPrompts:
    """The classes that masks are named by, out of files, by default those of the settings.

    Raises UsageError for a file that is missing or has no classes in it.
    """
    settings = workspace.settings.clip
    where = classes or _setting(workspace, settings.classes)
    if where is None:
        raise UsageError("--classes: name a file with a class a line, or set clip.classes")
    said = _templates(workspace, templates)
    try:
        return ClassPrompts.parse(_lines(where, "--classes"), said)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def prompts_of(workspace: Workspace, names: Iterable[str]) -> ClassPrompts:
    """`names` as classes, with the synonyms and templates of the settings.

    Names that differ in case only, or are synonyms, are one class. Raises UsageError for a file of
    the settings that cannot be read, ValueError without any name.
    """
    known = class_prompts(workspace).classes if workspace.settings.clip.classes else ()
    group_of = {name.casefold(): group for group in known for name in group}
    classes: dict[str, tuple[str, ...]] = {}
    for name in names:
        group = group_of.get(name.casefold(), (name,))
        classes.setdefault(group[0].casefold(), group)
    templates = tuple(told(_templates(workspace, None)))
    return ClassPrompts(classes=tuple(classes.values()), templates=templates)


def _templates(workspace: Workspace, templates: Path | None) -> Sequence[str]:
    pattern = templates or _setting(workspace, workspace.settings.clip.templates)
    return PLAIN if pattern is None else _lines(pattern, "--templates")


def _setting(workspace: Workspace, value: str) -> Path | None:
    return workspace.root / Path(value).expanduser() if value else None


def _lines(path: Path, option: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{option}: {path} is not a text file that can be read; name one"
        ) from error
