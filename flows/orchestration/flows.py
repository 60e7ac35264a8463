"""The stages as Prefect flows. Prefect decides when; the ledgers of the store decide what is left.

Flows take plain values, so that the Prefect UI and `prefect deployment run` can start them as the
command line does, and return plain values. Nothing large travels through Prefect. A task that is
repeated asks the store first, so a retry never does committed work twice; results are not cached,
because a stale cache must never say "done".
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows.annotating.people import PeopleOutcome
from flows.asking.assist import AssistOutcome, assist_stage
from flows.asking.refreshing import RefreshOutcome, is_being_refreshed, refresh_stage
from flows.clip.clips import class_prompts, mask_encoder
from flows.clip.labelling import LabelOutcome, label_stage
from flows.generation.generate import GenerateOutcome, generate_stage
from flows.generation.replaying import replay_stage
from flows.merging.merge import MergeOutcome, merge_stage
from flows.orchestration import artifacts, events
from flows.orchestration.limits import training_slot
from flows.orchestration.names import TAG
from flows.progress import Progress, listener
from flows.recipes import Recipe, recipe_named
from flows.runs import ALONE, Turn
from flows.training.train import TrainOutcome, TrainRequest, train_stage
from flows.turns.loop import LoopConfig, Stages, review_stage, run_loop
from flows.turns.turning import Steps, run_turn
from flows.workspace import Workspace, open_workspace
from storage.errors import TransientStorageError

Result = dict[str, Any]
P = ParamSpec("P")
R = TypeVar("R")


def _transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Repeat only what may pass: a locked store, a lost connection; never a user's mistake."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (TransientStorageError, ConnectionError))


def _stage(function: Callable[P, R]) -> Task[P, R]:
    """A task that is repeated while what went wrong may pass."""
    decorate = task(
        name=function.__name__.strip("_"),
        retries=3,
        retry_delay_seconds=exponential_backoff(2),
        retry_jitter_factor=1.0,
        retry_condition_fn=_transient,
        cache_policy=NO_CACHE,
    )
    return decorate(function)


def tagged() -> AbstractContextManager[set[str]]:
    """Flow runs of the block are marked as ours, as those of deployments are."""
    return tags(TAG)


def _open(root: str) -> tuple[Workspace, Progress]:
    workspace = open_workspace(Path(root))
    return workspace, artifacts.published_progress(listener())


def _asking(workspace: Workspace, name: str) -> Recipe:
    """The recipe for people's work as the workspace's settings have it."""
    return recipe_named(name).asking(workspace.settings.assist.changes())


def _generating(workspace: Workspace, name: str) -> Recipe:
    """The recipe for automatic masks as the workspace's settings have them."""
    return recipe_named(name).computing_in(workspace.settings.model.precision)


@_stage
def _train(root: str, recipe: str, turn: Turn, request: TrainRequest) -> TrainOutcome:
    workspace, progress = _open(root)
    chosen = recipe_named(recipe)
    with training_slot(workspace, progress):
        outcome = train_stage(workspace, chosen, progress, turn=turn, request=request)
    if outcome.promoted:
        events.model_promoted(workspace.root, outcome.version)
    return outcome


@_stage
def _assist(
    root: str, recipe: str, turn: Turn, changes: dict[str, Any] | None = None
) -> AssistOutcome:
    workspace, progress = _open(root)
    chosen = _asking(workspace, recipe).asking(changes or {})
    return assist_stage(workspace, chosen, progress, turn=turn)


@_stage
def _refresh(root: str, recipe: str, turn: Turn) -> RefreshOutcome:
    workspace, progress = _open(root)
    return refresh_stage(workspace, _asking(workspace, recipe), progress, turn=turn)


@_stage
def _review(root: str, recipe: str, config: LoopConfig, turn: Turn, run_id: str) -> PeopleOutcome:
    workspace, progress = _open(root)
    return review_stage(workspace, recipe_named(recipe), config, progress, turn=turn, run_id=run_id)


@_stage
def _merge(root: str, recipe: str, turn: Turn) -> MergeOutcome:
    workspace, progress = _open(root)
    dispute_below = recipe_named(recipe).dispute_below
    return merge_stage(workspace, progress, turn=turn, dispute_below=dispute_below)


@_stage
def _generate(
    root: str,
    recipe: str,
    turn: Turn,
    *,
    keep_candidates: bool = False,
    redo: bool = False,
    ray_address: str = "",
) -> GenerateOutcome:
    workspace, progress = _open(root)
    chosen = _generating(workspace, recipe)
    chosen = replace(chosen, keep_candidates=chosen.keep_candidates or keep_candidates)
    if ray_address:
        workspace = workspace.on_ray(ray_address)
    return generate_stage(workspace, chosen, progress, turn=turn, redo=redo)


@_stage
def _label(
    root: str,
    classes: str | None = None,
    templates: str | None = None,
    accept: float | None = None,
    *,
    redo: bool = False,
) -> LabelOutcome:
    workspace, progress = _open(root)
    files = [None if given is None else Path(given) for given in (classes, templates)]
    prompts = class_prompts(workspace, *files)
    threshold = (workspace.settings.clip.accept or None) if accept is None else accept
    encoder = mask_encoder(workspace)
    return label_stage(workspace, encoder, prompts, progress, accept=threshold, redo=redo)


@_stage
def _replay(root: str, recipe: str, changes: dict[str, Any]) -> GenerateOutcome:
    workspace, progress = _open(root)
    return replay_stage(workspace, _generating(workspace, recipe), changes, progress)


@task(name="publish", cache_policy=NO_CACHE)
def _publish(root: str) -> None:
    artifacts.publish(open_workspace(Path(root)))


@flow(name="train", flow_run_name="train-{recipe}")
def train_flow(root: str, recipe: str) -> Result:
    """Stage 1: train on the labels there are; the gate promotes or rejects."""
    outcome = _train(root, recipe, ALONE, TrainRequest())
    _publish(root)
    return asdict(outcome)


@flow(name="assist", flow_run_name="assist-{recipe}")
def assist_flow(root: str, recipe: str, changes: dict[str, Any] | None = None) -> Result:
    """Stage 2: choose images, pre-fill confident masks, enqueue. Ends there: people take days.

    `changes`: fields of the recipe's `AssistConfig` that are others this time.
    """
    return asdict(_assist(root, recipe, ALONE, changes))


@flow(name="merge", flow_run_name="merge-{recipe}")
def merge_flow(root: str, recipe: str) -> Result:
    """People's submissions into the store; cheap when there are none."""
    outcome = _merge(root, recipe, ALONE)
    if outcome.num_submissions:
        _publish(root)
    return asdict(outcome)


@flow(name="generate", flow_run_name="generate-{recipe}")
def generate_flow(
    root: str,
    recipe: str,
    keep_candidates: bool = False,
    redo: bool = False,
    ray_address: str = "",
) -> Result:
    """Stage 3: label every image that the model in service has not labelled; with `redo`, all."""
    outcome = _generate(
        root,
        recipe,
        ALONE,
        keep_candidates=keep_candidates,
        redo=redo,
        ray_address=ray_address,
    )
    if outcome.num_images:
        _publish(root)
        if open_workspace(Path(root)).settings.clip.classes:
            _label(root)
    return asdict(outcome)


@flow(name="label", flow_run_name="label-{recipe}")
def label_flow(
    root: str,
    recipe: str,  # noqa: ARG001 (as every deployment has it)
    classes: str | None = None,
    templates: str | None = None,
    accept: float | None = None,
    redo: bool = False,
) -> Result:
    """Names for the masks that have none; the classes are those of the settings, or of a file."""
    return asdict(_label(root, classes, templates, accept, redo=redo))


@flow(name="replay", flow_run_name="replay-{recipe}")
def replay_flow(root: str, recipe: str, changes: dict[str, Any]) -> Result:
    """Other thresholds on the candidates that stage 3 kept."""
    outcome = _replay(root, recipe, changes)
    if outcome.num_images:
        _publish(root)
    return asdict(outcome)


@flow(name="refresh", flow_run_name="refresh-{recipe}")
def refresh_flow(root: str, recipe: str) -> Result:
    """After a promotion: proposals of the model in service for what still waits for people."""
    workspace, progress = _open(root)
    if is_being_refreshed(workspace):
        progress.note("nothing: a turn or a refresh is at work here")
        return asdict(RefreshOutcome(run_id=None, version=None, num_items=0))
    return asdict(_refresh(root, recipe, ALONE))


class _PrefectSteps(Steps):
    """Stages as Prefect tasks of the flow run that they are steps of."""

    def __init__(self, root: str, recipe: Recipe) -> None:
        self._root = root
        self._recipe = recipe.name

    def train(self, turn: Turn, request: TrainRequest) -> TrainOutcome:
        name = "control" if request.control else "train"
        return _train.with_options(name=f"{name} {turn.iteration}")(
            self._root, self._recipe, turn, request
        )

    def assist(self, turn: Turn) -> AssistOutcome:
        return _assist.with_options(name=f"assist {turn.iteration}")(self._root, self._recipe, turn)

    def merge(self, turn: Turn) -> MergeOutcome:
        return _merge.with_options(name=f"merge {turn.iteration}")(self._root, self._recipe, turn)

    def refresh(self, turn: Turn) -> RefreshOutcome:
        return _refresh.with_options(name=f"refresh {turn.iteration}")(
            self._root, self._recipe, turn
        )


@flow(name="turn", flow_run_name="turn-{recipe}")
def turn_flow(root: str, recipe: str) -> Result:
    """Merge, train, refresh, assist: if enough was answered, or nothing waits; else nothing."""
    workspace, progress = _open(root)
    chosen = recipe_named(recipe)
    outcome = run_turn(workspace, chosen, _PrefectSteps(root, chosen), progress)
    if outcome.run_id is not None:
        _publish(root)
    return asdict(outcome)


def works() -> dict[str, Flow[[str, str], Result]]:
    """What can be due, by its name in `flows.turns.due`."""
    return {"turn": turn_flow, "refresh": refresh_flow}


class _PrefectStages(_PrefectSteps, Stages):
    """The loop's stages as Prefect tasks of the loop's flow run."""

    def __init__(self, root: str, recipe: Recipe, config: LoopConfig) -> None:
        super().__init__(root, recipe)
        self._config = config

    def review(self, turn: Turn, run_id: str) -> PeopleOutcome:
        return _review.with_options(name=f"review {turn.iteration}")(
            self._root, self._recipe, self._config, turn, run_id
        )

    def generate(self, turn: Turn) -> GenerateOutcome:
        return _generate.with_options(name="generate")(self._root, self._recipe, turn)


@flow(name="loop", flow_run_name="loop-{recipe}")
def loop_flow(root: str, recipe: str, config: dict[str, Any] | None = None) -> Result:
    """Train, assist, people, merge, N times; a closing training and generation."""
    workspace, progress = _open(root)
    loop = LoopConfig.from_dict(config or {})
    chosen = recipe_named(recipe)
    outcome = run_loop(
        workspace,
        chosen,
        loop,
        _PrefectStages(root, chosen, loop),
        progress,
        on_turn=lambda _iteration: _publish(root),
    )
    return asdict(outcome)
