"""The detector that stands on a model version: found in the store, or trained and kept there."""

import hashlib
from dataclasses import asdict, dataclass, replace

from engine.detection.config import DetectorConfig
from engine.detection.fit import fit_detector
from engine.detection.prompted import BoxFinder
from engine.detection.weights import from_bytes, to_bytes
from engine.identity import config_hash
from engine.model.sam import PromptableSam
from flows.errors import StageError, UsageError
from flows.models import serving
from flows.progress import Progress
from flows.training.labels import StoredLabels, training_labels
from flows.training.model_line import check_joins, check_no_gold, training_sets
from flows.workspace import Workspace, to_json
from storage.catalog import detectors
from storage.rows import DetectorRow, utcnow


@dataclass(frozen=True)
class FoundDetector:
    """A detector of the store."""

    version: str
    finder: BoxFinder


def detector_for(
    workspace: Workspace,
    config: DetectorConfig,
    model_version: str,
    run_id: str,
    progress: Progress,
    max_depth: int | None = None,
) -> FoundDetector:
    """The detector of a model version that has learnt today's labels, trained where there is none.

    Labels of a generation depth over `max_depth`, if it is given, teach nothing. Raises UsageError
    without a labelled image, StageError when training diverges.
    """
    model = serving.load_model(workspace, serving.model_row(workspace, model_version)).eval()
    check_no_gold(workspace.lake)
    snapshot = workspace.lake.snapshot()
    labels = _complete(training_labels(workspace, snapshot, max_depth=max_depth))
    if not len(labels):
        raise UsageError(
            "assist: a detector learns from labelled images, and there are none; run: maskloop "
            "import coco ANNOTATIONS.json --images DIR, or use a recipe that proposes by the grid"
        )
    version = _name(config, model_version, labels)
    row = detectors.get(workspace.lake, version)
    if row is None:
        row = _train(workspace, config, model, model_version, labels, run_id, progress)
    data = workspace.objects.get(row.weights_uri, sha256=row.weights_sha256)
    device = serving.device(workspace)
    finder = BoxFinder(from_bytes(data, model.to(device)).to(device), model, device)
    return FoundDetector(row.version, finder)


def _complete(labels: StoredLabels) -> StoredLabels:
    """Those images on which every object has its mask; all where there is none such."""
    whole = tuple(image for image in labels.images if image.complete)
    return replace(labels, images=whole or labels.images)


def _name(config: DetectorConfig, model_version: str, labels: StoredLabels) -> str:
    parts = (config_hash(config), model_version, labels.fingerprint())
    return "d-" + hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]


def _train(
    workspace: Workspace,
    config: DetectorConfig,
    model: PromptableSam,
    model_version: str,
    labels: StoredLabels,
    run_id: str,
    progress: Progress,
) -> DetectorRow:
    snapshot = workspace.lake.snapshot()
    try:
        with labels.fetched_ahead():
            detector = fit_detector(
                model,
                labels,
                config,
                on_step=lambda done, total: progress.step("detector's training steps", done, total),
                device=serving.device(workspace),
            )
    except ValueError as error:
        raise StageError(f"assist: {error}") from error
    uri, sha256 = serving.keep_weights(workspace, to_bytes(detector, config))
    row = DetectorRow(
        version=_name(config, model_version, labels),
        model_version=model_version,
        weights_uri=uri,
        weights_sha256=sha256,
        config_hash=config_hash(config),
        config=to_json(asdict(config)),
        training_snapshot=snapshot,
        num_training_images=len(labels),
        num_training_masks=labels.num_masks,
        run_id=run_id,
        created_at=utcnow(),
    )
    detectors.register(workspace.lake, row, training_sets(row.version, labels), check_joins)
    return row
