"""Which model serves: weights by version, the base model that ships, promotion and rollback."""

import hashlib
from dataclasses import asdict

import torch

from engine.identity import config_hash
from engine.model import weights
from engine.model.device import device_named
from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig
from engine.model.sam import PromptableSam
from flows.errors import StageError, UsageError
from flows.models.soundness import check_sound
from flows.models.start_weights import start_weights
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import finish_run, new_run
from flows.settings import FILE_NAME
from flows.workspace import Workspace, to_json
from storage.catalog import models
from storage.catalog.lake import Transaction
from storage.failpoints import failpoint
from storage.queue.pointer import GateDecision
from storage.rows import ModelVersionRow, utcnow


def current_version(workspace: Workspace) -> str | None:
    """The version in service, or None before the first stage has run."""
    current = workspace.pointer.current()
    return None if current is None else current[0]


def model_row(workspace: Workspace, version: str) -> ModelVersionRow:
    """One model version; raises UsageError for one that does not exist."""
    row = models.get(workspace.lake, version)
    if row is None:
        known = (
            ", ".join(item.version for item in models.all_versions(workspace.lake)) or "none yet"
        )
        raise UsageError(f"model version {version!r}: unknown; there are: {known}")
    return row


def load_predictor(workspace: Workspace, version: str) -> Predictor:
    """The predictor of `version`; its weights are checked against their SHA-256 first."""
    model = load_model(workspace, model_row(workspace, version))
    return Predictor(model, version=version, device=device(workspace))


def load_model(workspace: Workspace, row: ModelVersionRow) -> PromptableSam:
    """The model of a version, on the CPU; its weights are checked against their SHA-256 first."""
    data = workspace.objects.get(row.weights_uri, sha256=row.weights_sha256)
    model, _ = weights.load(data, sha256=row.weights_sha256)
    return model


def device(workspace: Workspace) -> torch.device:
    """Where models of this workspace compute; raises UsageError where there is no such place."""
    try:
        return device_named(workspace.settings.model.device)
    except ValueError as error:
        path = workspace.root / FILE_NAME
        raise UsageError(f"{path}: model.device: {error}") from error


def keep_weights(workspace: Workspace, data: bytes) -> tuple[str, str]:
    """Store weights under their SHA-256; returns (uri, sha256)."""
    sha256 = hashlib.sha256(data).hexdigest()
    stored = workspace.objects.put(f"models/{sha256}.safetensors", data)
    failpoint("promote.after_weights")
    return stored.uri, sha256


def ensure_base(workspace: Workspace, recipe: Recipe, progress: Progress) -> str:
    """The version in service; where there is none, the recipe's start weights become it."""
    if (version := current_version(workspace)) is not None:
        mirror_status(workspace)
        return version
    version = _base(workspace, recipe, progress)
    promote(workspace, version, reason="the recipe's start weights; nothing served before")
    return version


def training_start(workspace: Workspace, recipe: Recipe, progress: Progress) -> str:
    """The version that a training continues: the one in service, if the recipe is of its kind.

    Weights of one architecture are of no use to another: where they differ, the recipe's own start
    weights, which then become a version that does not serve.
    """
    row = model_row(workspace, ensure_base(workspace, recipe, progress))
    if row.architecture == recipe.start:
        return row.version
    version = _base(workspace, recipe, progress)
    progress.note(
        f"recipe {recipe.name} is of architecture {recipe.start}, but {row.version}, which serves, "
        f"of {row.architecture}: training starts from {version}, the recipe's own base"
    )
    return version


def _base(workspace: Workspace, recipe: Recipe, progress: Progress) -> str:
    """The version that has the recipe's start weights, registered where there is none."""
    data, architecture = start_weights(recipe, workspace.settings.model, progress)
    uri, sha256 = keep_weights(workspace, data)
    for row in models.all_versions(workspace.lake):
        if row.weights_sha256 == sha256:
            return row.version
    return _register_base(workspace, recipe, uri, sha256, architecture)


def _register_base(
    workspace: Workspace, recipe: Recipe, uri: str, sha256: str, architecture: ModelConfig
) -> str:
    run = new_run("base", recipe=recipe.name, config_hash=config_hash(architecture))

    def row(version: str) -> ModelVersionRow:
        return ModelVersionRow(
            version=version,
            weights_uri=uri,
            weights_sha256=sha256,
            parent=None,
            architecture=architecture.architecture,
            config_hash=config_hash(architecture),
            config=to_json(asdict(architecture)),
            training_snapshot=workspace.lake.snapshot(),
            num_training_images=0,
            num_training_masks=0,
            generation_depth=1,
            role="base",
            status="candidate",
            reason=f"start weights of recipe {recipe.name}",
            run_id=run.run_id,
            created_at=utcnow(),
        )

    def extra(tx: Transaction, version: str) -> None:
        tx.insert([run])
        finish_run(tx, run.run_id, model_version=version)

    return models.register(workspace.lake, row, (), extra=extra)


def promote(
    workspace: Workspace,
    version: str,
    *,
    reason: str,
    metrics: dict[str, float] | None = None,
    seen_generation: int | None = None,
) -> None:
    """Put `version` in service; raises StageError when another promotion came between.

    The pointer in the queue's database is the truth; the status column of the lake mirrors it, and
    `mirror_status` repairs the mirror after a crash between the two.
    """
    current = workspace.pointer.current()
    generation = 0 if current is None else current[1]
    if seen_generation is not None and generation != seen_generation:
        raise StageError(f"model {version}: another model was promoted meanwhile; train again")
    decision = GateDecision(
        model_version=version, metrics=metrics or {}, passed=True, reason=reason
    )
    gate_id = workspace.pointer.record_gate(decision)
    if not workspace.pointer.promote(version, generation, gate_id):
        raise StageError(f"model {version}: another model was promoted meanwhile; train again")
    models.set_status(workspace.lake, version, "promoted", reason=reason)
    mirror_status(workspace)


def reject(workspace: Workspace, version: str, reason: str, metrics: dict[str, float]) -> None:
    """Keep `version` out of service, with the reason."""
    workspace.pointer.record_gate(
        GateDecision(model_version=version, metrics=metrics, passed=False, reason=reason)
    )
    models.set_status(workspace.lake, version, "rejected", reason=reason)


def rollback(workspace: Workspace, *, even_revoked: bool = False) -> str:
    """Put the previous model back in service; returns its version.

    Raises UsageError where there is none, or where it was revoked, unless `even_revoked`.
    """
    current = workspace.pointer.current()
    if current is None:
        raise UsageError("models rollback: no model is in service yet; run: maskloop train")
    former = workspace.pointer.former()
    if former is not None and not even_revoked:
        check_sound(workspace, former, "models rollback")
    previous = workspace.pointer.rollback(current[1])
    if previous is None:
        raise UsageError(f"models rollback: {current[0]} is the first model that served")
    mirror_status(workspace)
    return previous


def mirror_status(workspace: Workspace) -> None:
    """Make the lake's status column say what the pointer says; does nothing when it does."""
    current = current_version(workspace)
    for row in models.all_versions(workspace.lake):
        if row.version == current and row.status != "promoted":
            models.set_status(workspace.lake, row.version, "promoted")
        elif row.version != current and row.status == "promoted":
            models.set_status(workspace.lake, row.version, "retired")
