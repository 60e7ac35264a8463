"""Stage 1: snapshot -> labels -> fit -> score on gold -> register -> gate -> promote or reject."""

import hashlib
import math
from dataclasses import asdict, dataclass, replace

from engine.identity import config_hash
from engine.model import weights
from engine.model.registry import ModelConfig
from engine.training.checkpoint import FileCheckpointer
from engine.training.config import TrainingConfig
from engine.training.trainer import StepReport, TrainingError, TrainResult, train
from flows.errors import StageError, UsageError
from flows.locks import stage_lock
from flows.models import serving
from flows.models.soundness import is_sound
from flows.models.start_weights import are_random
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import ALONE, Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.training.evaluation import gold_by_image, gold_scores
from flows.training.gate import Paired, judge
from flows.training.labels import StoredLabels, training_labels
from flows.training.model_line import check_joins, check_no_gold, training_sets
from flows.workspace import Workspace, to_json
from storage.catalog import models
from storage.catalog.lake import Transaction
from storage.rows import ModelVersionRow, TrainingStepRow, utcnow


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """What one training gave."""

    run_id: str
    version: str
    parent: str
    promoted: bool
    reason: str
    num_images: int
    num_masks: int
    scores: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What to train from and on. A control sees only the first labels and never serves."""

    start: str | None = None
    control: bool = False


def train_stage(
    workspace: Workspace,
    recipe: Recipe,
    progress: Progress,
    *,
    turn: Turn = ALONE,
    request: TrainRequest = TrainRequest(),
) -> TrainOutcome:
    """Train a candidate on today's labels and let the gate decide.

    Raises UsageError without any label, before a model is registered; StageError when training
    diverges, and when a model has learnt from a gold image or from what was revoked meanwhile.
    """
    with stage_lock(workspace, "train"):
        for stage in ("train", "control"):
            reconcile_runs(workspace, stage)
        return _train(workspace, recipe, progress, turn, request)


def _train(
    workspace: Workspace, recipe: Recipe, progress: Progress, turn: Turn, request: TrainRequest
) -> TrainOutcome:
    snapshot = workspace.lake.snapshot()
    check_no_gold(workspace.lake)
    labels = _labels(workspace, recipe, snapshot, request)
    serving_version = serving.ensure_base(workspace, recipe, progress)
    parent = request.start or serving.training_start(workspace, recipe, progress)
    recipe = replace(recipe, training=_training_config(workspace, recipe, parent))
    run = new_run(
        "control" if request.control else "train",
        turn=turn,
        recipe=recipe.name,
        config=to_json(asdict(recipe.training)),
        config_hash=config_hash(recipe.training),
        model_version=None,
    )
    start_run(workspace, run)
    with failing_run(workspace, run.run_id):
        baseline = _baseline(workspace, recipe, serving_version, snapshot, run.run_id, progress)
        result, config = _fit(workspace, recipe, parent, labels, progress)
        version = _register(
            workspace, recipe, run.run_id, parent, snapshot, labels, result, config, request
        )
        predictor = serving.load_predictor(workspace, version)
        scores = dict(
            gold_scores(workspace, predictor, recipe, run.run_id, progress, snapshot=snapshot)
        )
        promoted, reason = _decide(workspace, recipe, version, scores, baseline, request)
        workspace.lake.commit(
            lambda tx: finish_run(
                tx,
                run.run_id,
                num_images=len(labels),
                num_masks=labels.num_masks,
                model_version=version,
                detail=reason,
            ),
            message=f"trained {version}",
        )
    _checkpointer(workspace, recipe, parent, labels).clear()
    return TrainOutcome(
        run_id=run.run_id,
        version=version,
        parent=parent,
        promoted=promoted,
        reason=reason,
        num_images=len(labels),
        num_masks=labels.num_masks,
        scores=scores,
    )


def _labels(
    workspace: Workspace, recipe: Recipe, snapshot: int, request: TrainRequest
) -> StoredLabels:
    """What is learnt from; raises UsageError if there is nothing."""
    stages = ("label",) if request.control else ("label", "manual", "semi")
    labels = training_labels(workspace, snapshot, stages=stages, max_depth=recipe.max_depth)
    if not len(labels):
        cap = "" if recipe.max_depth is None else f" of depth {recipe.max_depth} at most"
        raise UsageError(
            f"train: no labelled image{cap}; run: maskloop import coco ANNOTATIONS.json --images "
            "DIR, or maskloop assist and annotate"
        )
    return labels


def _training_config(workspace: Workspace, recipe: Recipe, parent: str) -> TrainingConfig:
    """The recipe's; what is for random weights is left out for those that have learnt something."""
    is_base = serving.model_row(workspace, parent).role == "base"
    if is_base and are_random(recipe, workspace.settings.model):
        return recipe.training
    return replace(recipe.training, scratch_steps=0)


def _steps(run_id: str, result: TrainResult) -> list[TrainingStepRow]:
    return [
        TrainingStepRow(
            run_id=run_id,
            step=record.step,
            loss=None if math.isnan(record.loss) else record.loss,
            iou=None if math.isnan(record.iou) else record.iou,
            seconds=record.seconds,
        )
        for record in result.steps
    ]


@dataclass(frozen=True)
class _Baseline:
    version: str
    generation: int
    snapshot: int
    scores: dict[str, float]


def _baseline(
    workspace: Workspace,
    recipe: Recipe,
    version: str,
    snapshot: int,
    run_id: str,
    progress: Progress,
) -> _Baseline:
    current = workspace.pointer.current()
    assert current is not None, "ensure_base has put a model in service"
    predictor = serving.load_predictor(workspace, version)
    # Both models are measured on the gold set of this snapshot, whatever comes in meanwhile.
    scores = gold_scores(workspace, predictor, recipe, run_id, progress, snapshot=snapshot)
    return _Baseline(version, current[1], snapshot, dict(scores))


def _fit(
    workspace: Workspace, recipe: Recipe, parent: str, labels: StoredLabels, progress: Progress
) -> tuple[TrainResult, ModelConfig]:
    row = serving.model_row(workspace, parent)
    data = workspace.objects.get(row.weights_uri, sha256=row.weights_sha256)
    model, config = weights.load(data, sha256=row.weights_sha256)

    def on_step(report: StepReport) -> None:
        progress.step(f"training steps (loss {report.loss:.3f})", report.step, report.num_steps)

    try:
        with labels.fetched_ahead():
            result = train(
                model,
                labels,
                recipe.training,
                depths=labels.depths,
                checkpoint=_checkpointer(workspace, recipe, parent, labels),
                on_step=on_step,
                device=serving.device(workspace),
                features_folder=workspace.folder("features"),
            )
    except TrainingError as error:
        names = ", ".join(labels.images[index].uri for index in error.images[:3])
        raise StageError(f"train: {error} ({names}); the model in service is unchanged") from error
    return result, config


def _checkpointer(
    workspace: Workspace, recipe: Recipe, parent: str, labels: StoredLabels
) -> FileCheckpointer:
    # Named by what is trained on what from where: the same training goes on, another starts anew.
    parts = (config_hash(recipe.training), parent, labels.fingerprint())
    name = hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
    return FileCheckpointer(workspace.folder("checkpoints") / f"{name}.safetensors")


def _register(
    workspace: Workspace,
    recipe: Recipe,
    run_id: str,
    parent: str,
    snapshot: int,
    labels: StoredLabels,
    result: TrainResult,
    config: ModelConfig,
    request: TrainRequest,
) -> str:
    uri, sha256 = serving.keep_weights(workspace, weights.to_bytes(result.model, config))
    depth = max((depth for depths in labels.depths for depth in depths), default=0)
    parent_depth = serving.model_row(workspace, parent).generation_depth

    def row(version: str) -> ModelVersionRow:
        return ModelVersionRow(
            version=version,
            weights_uri=uri,
            weights_sha256=sha256,
            parent=parent,
            architecture=config.architecture,
            config_hash=config_hash(recipe.training),
            config=to_json(
                {
                    "model": asdict(config),
                    "training": asdict(recipe.training),
                    "max_depth": recipe.max_depth,
                }
            ),
            training_snapshot=snapshot,
            num_training_images=len(labels),
            num_training_masks=labels.num_masks,
            generation_depth=max(depth + 1, parent_depth),
            role="control" if request.control else "candidate",
            status="candidate",
            reason=None,
            run_id=run_id,
            created_at=utcnow(),
        )

    steps = _steps(run_id, result)

    def extra(tx: Transaction, version: str) -> None:
        tx.insert(steps)
        check_joins(tx, version)

    return models.register(
        workspace.lake, row, lambda version: training_sets(version, labels), extra=extra
    )


def _decide(
    workspace: Workspace,
    recipe: Recipe,
    version: str,
    scores: dict[str, float],
    baseline: _Baseline,
    request: TrainRequest,
) -> tuple[bool, str]:
    if request.control:
        reason = "a control: trained on the first labels only, to compare with, never to serve"
        models.set_status(workspace.lake, version, "rejected", reason=reason)
        return False, reason
    found = [
        gold_by_image(workspace, name, recipe, snapshot=baseline.snapshot)
        for name in (version, baseline.version)
    ]
    paired = Paired(candidate=found[0], current=found[1])
    verdict = judge(scores, baseline.scores, recipe.gate, paired=paired)
    reason = verdict.reason
    if verdict.passed:
        if not is_sound(workspace, version):
            reason += f"; but something in its line was revoked: maskloop lineage {version}"
        serving.promote(
            workspace,
            version,
            reason=reason,
            metrics=scores,
            seen_generation=baseline.generation,
        )
    else:
        serving.reject(workspace, version, reason, scores)
    return verdict.passed, reason
