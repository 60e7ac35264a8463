"""Where things are: `maskloop.toml` and the environment, read here and nowhere else."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cronsim import CronSim, CronSimError

from engine.clip.config import View
from engine.precision import Precision
from flows.errors import NoWorkspaceError, UsageError
from flows.image_settings import ImageSettings
from flows.store_settings import StoreSettings

WORKSPACE_VERSION = 1
FILE_NAME = "maskloop.toml"


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Who labels shards: `ray` actors or this process, and how long one shard may take.

    count: actors, 0 for as many as there is room for; gpus: what one takes of a cluster's GPUs,
    where it has some; ray_address: of the cluster, empty for RAY_ADDRESS or one here.
    """

    kind: Literal["ray", "local"] = "ray"
    count: int = 0
    gpus: float = 1.0
    timeout_s: float = 900.0
    ray_address: str = ""


@dataclass(frozen=True, kw_only=True)
class ProjectSettings:
    """What the masks are of; without categories people may write any, or none."""

    categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AnnotatorSettings:
    """Where the review-queue API listens, and how long the loop waits for people.

    allowed_hosts: names, without port, under which people reach it besides `host` and loopback.
    deadline_h: hours that `maskloop loop` waits; batch_done_share: of a batch,
    answered when `maskloop serve` and `maskloop follow` train; 0: they never do.
    cache_gb: gigabytes of large pictures in tiles, kept in the workspace's folder `cache`.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    allowed_hosts: tuple[str, ...] = ()
    deadline_h: float = 24.0
    batch_done_share: float = 0.75
    cache_gb: float = 4.0


@dataclass(frozen=True, kw_only=True)
class AssistSettings:
    """What is proposed to people, and which images they are given, where it is not the recipe's.

    promise: the share of proposals that people accept as they are, 0 for the recipe's.
    """

    propose: Literal["", "grid", "detector"] = ""
    choose: Literal["", "random", "uncertainty", "diversity", "coverage", "mixture"] = ""
    promise: float = 0.0

    def changes(self) -> dict[str, Any]:
        """What is to be changed in a recipe's `AssistConfig`."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """The database of the review queue and of the pointer to the model in service.

    url: `postgresql://USER@HOST/DATABASE`; empty for the database of the catalog where that is a
    Postgres, else for `queue.sqlite` in the workspace.
    """

    url: str = ""


@dataclass(frozen=True, kw_only=True)
class PrefectSettings:
    """The Prefect server to report to, and the port of our own."""

    api_url: str = ""
    port: int = 4200


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """Cron lines of the deployments; empty means no schedule."""

    merge: str = ""
    generate: str = ""
    label: str = ""
    train: str = ""
    assist: str = ""
    turn: str = ""
    refresh: str = ""
    loop: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The weights that recipes start from, their SHA-256, and where and how models compute.

    checkpoint: a path or a URL; device: as `engine.model.device` takes it; precision: of automatic
    masks; text: the file of an add-on for texts, empty for what ships.
    """

    checkpoint: str = ""
    sha256: str = ""
    device: str = "auto"
    precision: Precision = "float32"
    text: str = ""

    @property
    def source(self) -> Path | str:
        """The checkpoint's file, or its URL."""
        return self.checkpoint if "://" in self.checkpoint else Path(self.checkpoint).expanduser()


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """The CLIP that names masks, and the classes that it names them by.

    weights: a file or a published tag, empty for what ships; views: what it is shown of a mask, as
    `engine.clip.views` has them; classes, templates: files, below the workspace unless they begin
    at the root; accept: 0 for suggestions only.
    """

    model: str = "nano-clip"
    weights: str = ""
    sha256: str = ""
    views: tuple[View, ...] = ("tight", "grey")
    classes: str = ""
    templates: str = ""
    accept: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole of `maskloop.toml`."""

    version: int = WORKSPACE_VERSION
    recipe: str = "nano"
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    project: ProjectSettings = field(default_factory=ProjectSettings)
    annotator: AnnotatorSettings = field(default_factory=AnnotatorSettings)
    assist: AssistSettings = field(default_factory=AssistSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    prefect: PrefectSettings = field(default_factory=PrefectSettings)
    schedules: ScheduleSettings = field(default_factory=ScheduleSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    clip: ClipSettings = field(default_factory=ClipSettings)
    images: ImageSettings = field(default_factory=ImageSettings)


def find_root(start: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The workspace: `MASKLOOP_HOME`, else the nearest folder upward with a `maskloop.toml`."""
    if home := environ.get("MASKLOOP_HOME"):
        root = Path(home).expanduser().resolve()
        if not (root / FILE_NAME).is_file():
            raise UsageError(f"MASKLOOP_HOME: {home} has no {FILE_NAME}; run: maskloop init {home}")
        return root
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    raise NoWorkspaceError(
        f"no workspace: neither {here} nor a folder above it has a {FILE_NAME}; "
        "run: maskloop init, or set MASKLOOP_HOME"
    )


def read_settings(root: Path) -> Settings:
    """Settings of the workspace at `root`; raises UsageError that names file, key and remedy."""
    path = root / FILE_NAME
    return parse_settings(path.read_bytes(), path)


def parse_settings(data: bytes, path: Path) -> Settings:
    """Settings of a workspace out of what its file at `path` holds; raises UsageError."""
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error}); correct it") from error
    version = table.get("version")
    if isinstance(version, int) and version > WORKSPACE_VERSION:
        raise UsageError(
            f"{path}: version: a workspace of version {version}, but this maskloop reads up to "
            f"{WORKSPACE_VERSION}; install a newer maskloop"
        )
    settings: Settings = _build(Settings, table, str(path), "")
    _check(settings, str(path))
    _check_store(settings.store, path.parent, str(path))
    return settings


def _build(cls: type[Any], table: dict[str, Any], path: str, prefix: str) -> Any:
    hints = get_type_hints(cls)
    known = {item.name for item in fields(cls)}
    for key in table:
        if key not in known:
            raise UsageError(
                f"{path}: {prefix}{key}: unknown setting; "
                f"expected one of {', '.join(sorted(known))}"
            )
    values = {key: _value(hints[key], value, path, prefix + key) for key, value in table.items()}
    return cls(**values)


def _value(hint: Any, value: Any, path: str, name: str) -> Any:
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise UsageError(f"{path}: {name}: must be a table [{name}], but got {value!r}")
        return _build(hint, value, path, f"{name}.")
    if get_origin(hint) is tuple:
        return _words(get_args(get_args(hint)[0]), value, path, name)
    if choices := get_args(hint):
        if value not in choices:
            raise UsageError(f"{path}: {name}: must be one of {choices}, but got {value!r}")
        return value
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{path}: {name}: must be {hint.__name__}, but got {value!r}")
    return hint(value)


def _words(choices: tuple[str, ...], value: Any, path: str, name: str) -> tuple[str, ...]:
    """A list of words, out of `choices` where there are any."""
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise UsageError(f"{path}: {name}: must be a list of words, but got {value!r}")
    if choices and not (value and set(value) <= set(choices) and len(set(value)) == len(value)):
        raise UsageError(
            f"{path}: {name}: must be one or more of {choices}, each once, but got {value!r}"
        )
    return tuple(value)


def _check(settings: Settings, path: str) -> None:
    rules: tuple[tuple[str, float, float, float], ...] = (
        ("version", settings.version, 1, WORKSPACE_VERSION),
        ("workers.count", settings.workers.count, 0, 1024),
        ("workers.gpus", settings.workers.gpus, 0.01, 64),
        ("workers.timeout_s", settings.workers.timeout_s, 1, 86_400),
        ("assist.promise", settings.assist.promise, 0, 0.999),
        ("annotator.port", settings.annotator.port, 1, 65_535),
        ("annotator.deadline_h", settings.annotator.deadline_h, 0.001, 24 * 365),
        ("annotator.batch_done_share", settings.annotator.batch_done_share, 0, 1),
        ("annotator.cache_gb", settings.annotator.cache_gb, 0, 100_000),
        ("prefect.port", settings.prefect.port, 1, 65_535),
        ("clip.accept", settings.clip.accept, 0, 1),
        ("images.max_pixels", settings.images.max_pixels, 1, 10**10),
        ("images.max_mb", settings.images.max_mb, 1, 100_000),
        ("images.cache_gb", settings.images.cache_gb, 0, 100_000),
        ("images.fetch_threads", settings.images.fetch_threads, 1, 256),
    )
    for name, value, low, high in rules:
        if not low <= value <= high:
            raise UsageError(f"{path}: {name}: must be from {low} to {high}, but got {value}")
    if settings.model.sha256 and not settings.model.checkpoint:
        raise UsageError(f"{path}: model.sha256: is of no checkpoint; name model.checkpoint too")
    if settings.clip.sha256 and not settings.clip.weights:
        raise UsageError(f"{path}: clip.sha256: is of no weights; name clip.weights too")
    url = settings.queue.url
    if url and url != "sqlite:///queue.sqlite" and not url.startswith("postgresql://"):
        # Not shown: it may hold a password.
        raise UsageError(
            f"{path}: queue.url: must be postgresql://USER@HOST/DATABASE, sqlite:///queue.sqlite "
            "for a file of the workspace, or empty"
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", settings.model.device):
        raise UsageError(
            f'{path}: model.device: must be "auto", "cpu", "cuda" or "cuda:N", '
            f"but got {settings.model.device!r}"
        )
    _check_categories(f"{path}: project.categories", settings.project.categories)
    _check_hosts(f"{path}: annotator", settings.annotator)
    try:
        settings.images.check()
    except ValueError as error:
        raise UsageError(f"{path}: images.{error}") from error
    for name, line in asdict(settings.schedules).items():
        _check_cron(f"{path}: schedules.{name}", line)


def _check_store(store: StoreSettings, root: Path, path: str) -> None:
    try:
        store.place(root)
    except ValueError as error:
        raise UsageError(f"{path}: store.{error}") from error


def _check_categories(name: str, categories: tuple[str, ...]) -> None:
    for category in categories:
        if not (
            0 < len(category) <= 200 and category.isprintable() and category == category.strip()
        ):
            raise UsageError(
                f"{name}: must be 1 to 200 printable characters each, without spaces around, "
                f"but got {category!a}"
            )
    if len(set(categories)) < len(categories):
        raise UsageError(f"{name}: must be different names, but got {list(categories)!a}")


def _check_hosts(name: str, annotator: AnnotatorSettings) -> None:
    if not re.fullmatch(r"[0-9A-Za-z.:_-]+", annotator.host):
        raise UsageError(
            f"{name}.host: must be an address such as 127.0.0.1, but got {annotator.host!a}"
        )
    for host in annotator.allowed_hosts:
        # As a browser sends it in the header Host: an IPv6 address stands in brackets.
        if not re.fullmatch(r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\]", host):
            raise UsageError(
                f"{name}.allowed_hosts: must be names without port, such as labels.example or "
                f"[::1], but got {host!a}"
            )


def _check_cron(name: str, line: str) -> None:
    if not line:
        return
    why = "not five fields"
    # A sixth field would be seconds, first for some programs and last for others.
    if len(line.split()) == 5:
        try:
            CronSim(line, datetime.now(UTC))
        except CronSimError as error:
            why = str(error).lower()
        else:
            return
    raise UsageError(
        f"{name}: must be a cron line such as '0 2 * * *', or empty, but got {line!r} ({why})"
    )
