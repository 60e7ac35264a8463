"""What an item of the review queue carries: the masks that the model offers for an image.

flows writes it when it enqueues an image; server, page and simulated annotator read it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from annotator.wire import Segmentation, refuse


class PayloadError(ValueError):
    """A stored payload is not what this version writes."""


class _Stored(BaseModel):
    # Lenient where `Wire` is strict: we wrote it, and a newer version may have added fields.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Proposal(_Stored):
    """A pre-filled mask: `bbox` is XYWH, `point_coords` the (x, y) clicks that made it, if any."""

    proposal_id: Annotated[str, Field(min_length=1, max_length=200)]
    segmentation: Segmentation
    # Lists and no Sequence: each claim and each answer reads all of them, and pydantic checks a
    # Sequence in Python.
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    area: int
    predicted_iou: float
    stability_score: float
    point_coords: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = []


class ItemPayload(_Stored):
    """All proposals of an item."""

    proposals: list[Proposal] = []

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(self.ids()) != len(self.proposals):
            raise ValueError("proposals: must each have a proposal_id of their own")
        return self

    def ids(self) -> set[str]:
        """The ids of the proposals."""
        return {proposal.proposal_id for proposal in self.proposals}

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
