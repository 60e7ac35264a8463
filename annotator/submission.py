"""What an annotator answers: a decision on each proposal, the masks that were missing, the clicks.

One model for everybody: the page and the simulated annotator write it, the server checks it against
the item, the queue keeps `to_dict()`, and flows' merge reads it back with `parse`.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Set
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from annotator.wire import (
    FromList,
    Label,
    PlainName,
    PromptBox,
    Score,
    Segmentation,
    SpokenText,
    Wire,
    refuse,
)
from engine import rle
from engine.rle import Rle
from engine.short_codes import short_area

_DAY_S = 86_400.0
_MAX_CLICKS = 1_000
_MAX_MASKS = 20_000
_MANY = 300

Seconds = Annotated[float, Field(ge=0, le=7 * _DAY_S)]


class SubmissionError(ValueError):
    """A submission that cannot be accepted; the message names the field."""


class Click(Wire):
    """One click, `at_s` seconds after the item was opened, and the mask it produced.

    `x`, `y` in pixels of the original image; `label` 1 adds, 0 removes.
    """

    x: Annotated[float, Field(ge=0, examples=[12.5])]
    y: Annotated[float, Field(ge=0, examples=[8.0])]
    label: Label
    at_s: Annotated[Seconds, Field(examples=[3.2])] = 0.0
    predicted_iou: Score | None = None
    segmentation: Segmentation | None = None


Clicks = Annotated[tuple[Click, ...], FromList, Field(max_length=_MAX_CLICKS)]


class Decision(Wire):
    """What became of one proposal; `segmentation` is the new mask of an edited one.

    `box` is a prompt that the person drew; `drawn` says that a brush finished the mask, so the last
    click did not produce it; `category` names what an accepted or edited mask shows, where the
    project has categories.
    """

    proposal_id: Annotated[str, Field(min_length=1, max_length=200)]
    action: Literal["accepted", "edited", "rejected"]
    segmentation: Segmentation | None = None
    clicks: Clicks = ()
    box: PromptBox | None = None
    category: PlainName | None = None
    drawn: bool = False

    @model_validator(mode="after")
    def _mask_only_when_edited(self) -> Self:
        if (self.action == "edited") != (self.segmentation is not None):
            raise ValueError("segmentation: must be there for an edited proposal, and only then")
        return self


class AddedMask(Wire):
    """A mask that no proposal had; `category` where the project has categories.

    `text` is what found it, and `predicted_iou` how good it then seemed.
    """

    segmentation: Segmentation
    clicks: Clicks = ()
    box: PromptBox | None = None
    text: SpokenText | None = None
    predicted_iou: Score | None = None
    category: PlainName | None = None
    drawn: bool = False


class Submission(Wire):
    """The whole answer to an item; `seconds` is the time spent on it.

    `complete` says that every object of the image has a mask now, so that the rest is background.
    """

    decisions: Annotated[tuple[Decision, ...], FromList, Field(max_length=_MAX_MASKS)] = ()
    added: Annotated[tuple[AddedMask, ...], FromList, Field(max_length=_MAX_MASKS)] = ()
    complete: bool = False
    seconds: Seconds = 0.0

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Read a body; raises SubmissionError. The inverse of `to_dict`."""
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            refuse(error, SubmissionError)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; equal submissions give equal ones."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def parts(self) -> list[Decision | AddedMask]:
        """Everything that may have clicks."""
        return [*self.decisions, *self.added]

    @property
    def is_short(self) -> bool:
        """Whether `check` and `to_dict` take no longer than a few milliseconds."""
        return len(self.decisions) + len(self.added) + self.num_clicks <= _MANY

    @property
    def num_clicks(self) -> int:
        """Clicks that were logged."""
        return sum(len(part.clicks) for part in self.parts)

    def check(
        self, proposed: Set[str], hw: tuple[int, int], categories: Collection[str] = ()
    ) -> None:
        """Raise SubmissionError unless this answers an item whose image has size `hw`.

        `proposed` are the ids of its proposals.

        Each proposal is decided exactly once, each mask has the image's size and at least one
        pixel, each click and box lies in the image, and each category is one of `categories`, if
        the project has any.
        """
        self._check_decisions(proposed)
        for field, part in self._named_parts():
            _check_category(field, part, categories)
            _check_part(field, part, hw)

    def _check_decisions(self, proposed: Set[str]) -> None:
        for index, decision in enumerate(self.decisions):
            if decision.proposal_id not in proposed:
                raise SubmissionError(
                    f"decisions[{index}].proposal_id: must be a proposal of this item, "
                    f"got {decision.proposal_id!a}"
                )
        times = Counter(decision.proposal_id for decision in self.decisions)
        for proposal_id in sorted(proposed):
            if times[proposal_id] != 1:
                raise SubmissionError(
                    f"decisions: must have each proposal once, got {proposal_id!a} "
                    f"{times[proposal_id]} times"
                )

    def _named_parts(self) -> Iterator[tuple[str, Decision | AddedMask]]:
        """Each part by the field that it is."""
        for index, decision in enumerate(self.decisions):
            yield f"decisions[{index}]", decision
        for index, added in enumerate(self.added):
            yield f"added[{index}]", added


def _check_part(field: str, part: Decision | AddedMask, hw: tuple[int, int]) -> None:
    if part.segmentation is not None:
        _check_mask(f"{field}.segmentation", part.segmentation, hw)
    if part.box is not None:
        _check_inside(f"{field}.box", part.box[2:], hw)
    for position, click in enumerate(part.clicks):
        _check_click(f"{field}.clicks[{position}]", click, hw)


def _check_category(field: str, part: Decision | AddedMask, known: Collection[str]) -> None:
    if known and part.category is not None and part.category not in known:
        raise SubmissionError(
            f"{field}.category: must be one of {', '.join(known)}, got {part.category!a}"
        )


def _check_mask(field: str, mask: Rle, hw: tuple[int, int]) -> None:
    _check_size(field, mask, hw)
    area = short_area(mask)
    if (rle.area(mask) if area is None else area) == 0:
        raise SubmissionError(f"{field}: must have at least one pixel, got an empty mask")


def _check_click(field: str, click: Click, hw: tuple[int, int]) -> None:
    _check_inside(field, (click.x, click.y), hw)
    if click.segmentation is not None:
        _check_size(f"{field}.segmentation", click.segmentation, hw)


def _check_inside(field: str, place: tuple[float, float], hw: tuple[int, int]) -> None:
    height, width = hw
    x, y = place
    if not (x <= width and y <= height):
        raise SubmissionError(
            f"{field}: must be in the image, {width} wide and {height} high, got ({x}, {y})"
        )


def _check_size(field: str, mask: Rle, hw: tuple[int, int]) -> None:
    if mask.size != hw:
        raise SubmissionError(
            f"{field}.size: must be the image's {list(hw)}, got {list(mask.size)}"
        )
