"""What an item of the review queue carries: the masks that the model offers for an image.

flows writes it when it enqueues an image; server, page and simulated annotator read it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from annotator.wire import PlainName, Score, Segmentation, refuse
from engine import rle
from engine.rle import Rle


class PayloadError(ValueError):
    """A stored payload is not what this version writes."""


class _Stored(BaseModel):
    # Lenient where `Wire` is strict: we wrote it, and a newer version may have added fields.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Suggestion(_Stored):
    """What a mask may show, as a model said of `classes_hash`'s classes, and how sure it was.

    It is no name until a person says so.
    """

    category: PlainName
    score: Score
    classes_hash: str

    @classmethod
    def of(cls, category: str | None, score: float, classes_hash: str) -> Self | None:
        """None for none of the classes, and for a name that no answer may give a mask."""
        try:
            return cls.model_validate(
                {"category": category, "score": score, "classes_hash": classes_hash}
            )
        except ValidationError:
            return None


class Proposal(_Stored):
    """A pre-filled mask: `bbox` is XYWH, `point_coords` the (x, y) clicks that made it, if any.

    `source` says what found it: `grid`, a grid of points, or `detector`, whose score in [0, 1] is
    `detection_score` and whose version `detector_version`. `suggestion` says what it may show.
    """

    proposal_id: Annotated[str, Field(min_length=1, max_length=200)]
    segmentation: Segmentation
    # Lists and no Sequence, which pydantic checks in Python.
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    area: int
    predicted_iou: float
    stability_score: float
    point_coords: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = []
    source: str = "grid"
    detection_score: float | None = None
    detector_version: str | None = None
    suggestion: Suggestion | None = None

    @classmethod
    def of(
        cls,
        mask: Rle,
        *,
        proposal_id: str,
        predicted_iou: float,
        stability_score: float,
        points: Sequence[tuple[float, float]] = (),
        source: str = "grid",
        detection_score: float | None = None,
        detector_version: str | None = None,
        suggestion: Suggestion | None = None,
    ) -> Self:
        """A mask as a proposal; `points` are the (x, y) clicks that made it."""
        x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
        return cls(
            proposal_id=proposal_id,
            segmentation=mask,
            bbox=[x0, y0, x1 - x0, y1 - y0],
            area=rle.area(mask),
            predicted_iou=predicted_iou,
            stability_score=stability_score,
            point_coords=[list(point) for point in points],
            source=source,
            detection_score=detection_score,
            detector_version=detector_version,
            suggestion=suggestion,
        )

    @property
    def score(self) -> float:
        """What thresholds go by."""
        sure = 1.0 if self.detection_score is None else self.detection_score
        return self.predicted_iou * self.stability_score * sure


class ItemPayload(_Stored):
    """All proposals of an item, and those `withheld`: nobody is sent them.

    What people make of an image without them shows how good they are.
    """

    proposals: list[Proposal] = []
    withheld: list[Proposal] = []

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        both = [*self.proposals, *self.withheld]
        if len({proposal.proposal_id for proposal in both}) != len(both):
            raise ValueError("proposals: must each have a proposal_id of their own")
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for the queue."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises PayloadError."""
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            refuse(error, PayloadError)


def as_stored(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The proposals that are shown, as `to_dict` wrote them, without the checks of `from_dict`.

    For each claim and each answer: to check the masks of 40 proposals takes longer than the rest.
    """
    return list(payload.get("proposals", ()))


def offered(payload: Mapping[str, Any], categories: Collection[str]) -> list[dict[str, Any]]:
    """`as_stored`, without suggestions that no answer may have: `categories` if there are any."""
    proposals = as_stored(payload)
    if not categories:
        return proposals
    return [
        proposal if _may_be(proposal.get("suggestion"), categories) else _bare(proposal)
        for proposal in proposals
    ]


def _may_be(suggestion: Mapping[str, Any] | None, categories: Collection[str]) -> bool:
    return suggestion is None or suggestion["category"] in categories


def _bare(proposal: dict[str, Any]) -> dict[str, Any]:
    return {**proposal, "suggestion": None}


def proposal_ids(payload: Mapping[str, Any]) -> set[str]:
    """The ids of the proposals that are shown, which an answer must decide on."""
    return {proposal["proposal_id"] for proposal in as_stored(payload)}
