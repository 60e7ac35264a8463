"""One class per table of the lake: what a row holds, in one place. The tables are made from these.

Times are UTC without a zone, boxes XYWH in pixels, scores in [0, 1]. `docs/data_model.md` says what
the columns mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from storage.review_rows import AgreementRow as AgreementRow
from storage.review_rows import ClickRow as ClickRow
from storage.review_rows import DecisionRow as DecisionRow
from storage.review_rows import RetractionRow as RetractionRow
from storage.review_rows import ReviewRow as ReviewRow
from storage.row import Row as Row
from storage.row import Segmentation as Segmentation
from storage.row import mask_id as mask_id
from storage.row import utcnow as utcnow


@dataclass(frozen=True, kw_only=True)
class ImageRow(Row):
    """A picture, known by its bytes."""

    table = "images"

    image_id: str
    uri: str
    height: int
    width: int
    split: str
    source: str
    group_id: str
    file_name: str
    source_image_id: str | None = None
    source_group: str | None = None
    num_labels_refused: int | None = None
    format: str
    mode: str
    bit_depth: int
    had_alpha: bool
    num_frames: int
    dhash: str
    run_id: str
    added_at: datetime


@dataclass(frozen=True, kw_only=True)
class MaskRow(Row):
    """A region of an image, never changed once it is there."""

    table = "masks"

    mask_id: str
    image_id: str
    stage: str
    run_id: str
    model_version: str | None = None
    detector_version: str | None = None
    config_hash: str | None = None
    shard_key: str | None = None
    annotator: str | None = None
    prompt: str | None = None
    generation_depth: int = 0
    supersedes: str | None = None
    source_annotation_id: str | None = None
    proposal_id: str | None = None
    is_crowd: bool = False
    segmentation: Segmentation
    bbox: list[float]
    crop_box: list[float] | None = None
    area: int
    predicted_iou: float | None = None
    stability_score: float | None = None
    point_coords: list[list[float]] | None = None
    part_of: str | None = None
    level: str | None = None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class MaskLabelRow(Row):
    """A name given to a mask, or suggested for it; without a category it is none of the classes."""

    table = "mask_labels"

    mask_id: str
    category: str | None
    score: float
    classes_hash: str | None = None
    accepted_by: str | None = None
    created_at: datetime
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class MaskVectorRow(Row):
    """What CLIP sees of a mask: a unit vector, as little-endian float16."""

    table = "mask_vectors"

    mask_id: str
    image_id: str
    encoder_id: str
    vector: bytes
    run_id: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ImageSetRow(Row):
    """An image that was labelled by one model under one config, whatever came out."""

    table = "image_sets"

    image_id: str
    model_version: str
    config_hash: str
    run_id: str
    shard_key: str
    num_proposed: int
    num_masks: int
    rejections: Mapping[str, int]
    num_candidates: int | None = None
    savings: Mapping[str, int] | None = None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class CandidateRow(Row):
    """A mask that the generator saw, with the reason why it was rejected, if it was."""

    table = "candidates"

    image_id: str
    model_version: str
    config_hash: str
    run_id: str
    shard_key: str
    number: int
    segmentation: Segmentation
    bbox: list[float]
    crop_box: list[float]
    crop_layer: int
    area: int
    predicted_iou: float
    stability_score: float
    point_coords: list[list[float]]
    rejected_because: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelVersionRow(Row):
    """A set of weights and where it comes from."""

    table = "model_versions"

    version: str
    weights_uri: str
    weights_sha256: str
    parent: str | None = None
    architecture: str
    config_hash: str
    config: str
    training_snapshot: int
    num_training_images: int
    num_training_masks: int
    generation_depth: int
    role: str
    status: str
    reason: str | None = None
    run_id: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class DetectorRow(Row):
    """A detector on the encoder of a model version, whose boxes prompt that model."""

    table = "detectors"

    version: str
    model_version: str
    weights_uri: str
    weights_sha256: str
    config_hash: str
    config: str
    training_snapshot: int
    num_training_images: int
    num_training_masks: int
    run_id: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class TrainingSetRow(Row):
    """An image that a model version or a detector was trained on, with those of its masks.

    `mask_ids` is None in rows of an earlier maskloop.
    """

    table = "training_sets"

    version: str
    image_id: str
    num_masks: int
    mask_ids: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingStepRow(Row):
    """How one step of a training run went, on the images that it learnt from.

    `loss` is None if no image had a prompt, `iou` if none had an object.
    """

    table = "training_steps"

    run_id: str
    step: int
    loss: float | None = None
    iou: float | None = None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EvaluationRow(Row):
    """One metric of one model version on one split."""

    table = "evaluations"

    model_version: str
    split: str
    metric: str
    value: float
    num_images: int
    num_masks: int
    config_hash: str
    run_id: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ShardRow(Row):
    """A fixed set of images to label: planned, then committed once or given up."""

    table = "shards"

    shard_key: str
    run_id: str
    model_version: str
    config_hash: str
    state: str
    image_ids: list[str]
    num_images: int
    attempt: str | None = None
    mask_uri: str | None = None
    mask_sha256: str | None = None
    mask_bytes: int | None = None
    num_masks: int | None = None
    set_uri: str | None = None
    set_sha256: str | None = None
    set_bytes: int | None = None
    candidate_uri: str | None = None
    candidate_sha256: str | None = None
    candidate_bytes: int | None = None
    reason: str | None = None
    planned_at: datetime
    committed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RunRow(Row):
    """One execution of a stage."""

    table = "runs"

    run_id: str
    stage: str
    iteration: int | None = None
    parent_run_id: str | None = None
    recipe: str | None = None
    config_hash: str | None = None
    config: str
    model_version: str | None = None
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    seconds: float | None = None
    num_images: int | None = None
    num_masks: int | None = None
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class EmbeddingRow(Row):
    """Where an image's embedding by one encoder lies."""

    table = "embeddings"

    image_id: str
    encoder_id: str
    uri: str
    sha256: str
    bytes: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class SuppressionRow(Row):
    """An automatic mask that a person's mask covers."""

    table = "suppressions"

    mask_id: str
    by_mask_id: str
    iou: float
    run_id: str


@dataclass(frozen=True, kw_only=True)
class WatermarkRow(Row):
    """How far an outbox of the review queue has been merged."""

    table = "watermarks"

    name: str
    seq: int
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class ExportRow(Row):
    """A file of masks that was written: those that stood at `snapshot` and that `options` select.

    `options` is JSON; `file_name` has no folder, since that is of one machine.
    """

    table = "exports"

    export_id: str
    snapshot: int
    format: str
    options: str
    num_images: int
    num_masks: int
    file_name: str
    sha256: str
    bytes: int
    run_id: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class SchemaVersionRow(Row):
    """A version of this schema that the store was brought to."""

    table = "schema_versions"

    version: int
    applied_at: datetime


ROWS: tuple[type[Row], ...] = (
    ImageRow,
    MaskRow,
    MaskLabelRow,
    MaskVectorRow,
    ImageSetRow,
    CandidateRow,
    ModelVersionRow,
    DetectorRow,
    TrainingSetRow,
    TrainingStepRow,
    EvaluationRow,
    ShardRow,
    RunRow,
    EmbeddingRow,
    ClickRow,
    ReviewRow,
    DecisionRow,
    AgreementRow,
    RetractionRow,
    SuppressionRow,
    WatermarkRow,
    ExportRow,
    SchemaVersionRow,
)
