"""The rows of people's work: what they answered, clicked, decided, and how they agree."""

from dataclasses import dataclass
from datetime import datetime

from storage.row import Row, Segmentation


@dataclass(frozen=True, kw_only=True)
class ClickRow(Row):
    """One prompt that a person gave, in order, and the mask that the model answered."""

    table = "clicks"

    mask_id: str
    submission_id: str
    image_id: str
    ordinal: int
    x: float
    y: float
    label: int
    at_s: float | None = None
    predicted_iou: float | None = None
    segmentation: Segmentation | None = None
    annotator: str


@dataclass(frozen=True, kw_only=True)
class ReviewRow(Row):
    """One submission of a person that was merged.

    is_complete: the person said that every object has its mask; None if they were not asked.
    kind: of the item that was answered; None, in rows of an earlier maskloop, for `assist`.
    """

    table = "reviews"

    submission_id: str
    image_id: str
    item_id: str
    annotator: str
    model_version: str
    run_id: str
    iteration: int | None = None
    seq: int
    body_sha256: str | None = None
    seconds: float | None = None
    num_proposals: int
    num_accepted: int
    num_edited: int
    num_rejected: int
    num_added: int
    num_clicks: int
    submitted_at: datetime
    is_complete: bool | None = None
    kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class DecisionRow(Row):
    """What a person did with one proposal, or what they made of its object without seeing it.

    `area` is the proposal's, in pixels; `source` says what made it, `grid` or `detector`, and
    `score` is what thresholds go by. All three are None in rows of an earlier maskloop.
    """

    table = "decisions"

    proposal_id: str
    submission_id: str
    image_id: str
    model_version: str
    action: str
    predicted_iou: float | None = None
    iou_with_result: float | None = None
    mask_id: str | None = None
    num_clicks: int = 0
    run_id: str
    iteration: int | None = None
    area: int | None = None
    source: str | None = None
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class AgreementRow(Row):
    """How an answer agrees with what is known of its image: its labels, or another's answer.

    `mean_iou` and `f1_50` are those of `engine.metrics.agreement`. The reference is None where it
    is the image's labels.
    """

    table = "agreements"

    submission_id: str
    image_id: str
    annotator: str
    kind: str
    reference_submission_id: str | None = None
    reference_annotator: str | None = None
    mean_iou: float
    f1_50: float
    num_masks: int
    num_reference_masks: int
    num_matched: int
    is_disputed: bool
    run_id: str
    iteration: int | None = None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class RetractionRow(Row):
    """A mask that stands no more: a later answer took it away, or it was revoked.

    An answer's has a `submission_id` and nothing comes in the mask's place. A revocation's has a
    `cause`, such as `annotator ada`, and the `snapshot` that it looked at; what the mask had
    superseded stands again.
    """

    table = "retractions"

    mask_id: str
    submission_id: str | None = None
    run_id: str
    created_at: datetime
    cause: str | None = None
    snapshot: int | None = None
