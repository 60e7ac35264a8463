"""Masks by a text: POST /api/items/{item_id}/find."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from annotator.wire import EXAMPLE_MASK, Score, Segmentation, SpokenText, Wire

_ANSWER: dict[str, Any] = {
    "model_version": "v1",
    "presence": 0.92,
    "masks": [{"segmentation": EXAMPLE_MASK, "score": 0.71, "predicted_iou": 0.88}],
}


class FindRequest(Wire):
    """What to look for on the item's image."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "a red mug"}]})

    text: SpokenText


class FoundMask(Wire):
    """A mask that the text may mean: how likely that is, and how good the model thinks it is."""

    segmentation: Segmentation
    score: Score
    predicted_iou: Score


class FindAnswer(Wire):
    """The masks, the likeliest first; none where there is rather nothing of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    model_version: str
    presence: Annotated[Score, Field(description="How likely there is what the text means.")]
    masks: tuple[FoundMask, ...]
