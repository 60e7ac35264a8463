"""The answers of the lead's half of the API, as /docs shows them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field

from annotator.messages import Counts
from annotator.wire import Wire
from storage.queue.oversight import ItemState, PinnedImage
from storage.queue.people import Role
from storage.queue.statistics import Overview, Proposals, Work

State = Literal["ready", "leased", "done", "dead"]
Kind = Literal["assist", "gold", "second", "dispute", "audit"]


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


_Share = Annotated[float | None, Field(description="Of all proposals; null without any.")]


class PersonWork(Wire):
    """What one person has done; a mask is one accepted, edited or added."""

    name: str
    role: Role
    items: int
    masks: int
    seconds_per_mask: float | None
    clicks_per_mask: float | None
    last_seen: Annotated[
        datetime | None, Field(description="When they last answered an item or took one.")
    ]

    @classmethod
    def of(cls, work: Work) -> Self:
        """From the queue's count."""
        return cls(
            name=work.name,
            role=work.role,
            items=work.num_items,
            masks=work.num_masks,
            seconds_per_mask=_ratio(work.seconds, work.num_masks),
            clicks_per_mask=_ratio(work.num_clicks, work.num_masks),
            last_seen=work.last_at,
        )


class ModelProposals(Wire):
    """What became of the proposals of one model version, and what people had to add."""

    model_version: str
    num_accepted: int
    num_edited: int
    num_rejected: int
    num_added: int
    share_accepted: _Share
    share_edited: _Share
    share_rejected: _Share

    @classmethod
    def of(cls, found: Proposals) -> Self:
        """From the queue's count."""
        total = found.num_accepted + found.num_edited + found.num_rejected
        return cls(
            model_version=found.model_version,
            num_accepted=found.num_accepted,
            num_edited=found.num_edited,
            num_rejected=found.num_rejected,
            num_added=found.num_added,
            share_accepted=_ratio(found.num_accepted, total),
            share_edited=_ratio(found.num_edited, total),
            share_rejected=_ratio(found.num_rejected, total),
        )


class Holding(Wire):
    """Who holds what; below 0 the lease has run out, and the next who asks gets the item."""

    annotator: str
    item_id: str
    file_name: str
    held_s: float
    expires_in_s: float


class HourOfWork(Wire):
    """What was answered in the hour of the clock (UTC) from `starts_at` on."""

    starts_at: datetime
    items: int
    masks: int


class SetAsideItem(Wire):
    """An item that nobody is offered any more."""

    item_id: str
    file_name: str
    model_version: str
    reason: str


class LeadOverview(Wire):
    """The queue at this moment; `throughput` is the last 24 hours, the newest last."""

    model_config = _example(
        counts={"ready": 12, "leased": 1, "done": 30, "dead": 0},
        people=[
            {
                "name": "ada",
                "role": "annotator",
                "items": 30,
                "masks": 240,
                "seconds_per_mask": 11.5,
                "clicks_per_mask": 0.8,
                "last_seen": "2026-05-04T10:21:07Z",
            }
        ],
        models=[
            {
                "model_version": "v2",
                "num_accepted": 150,
                "num_edited": 30,
                "num_rejected": 20,
                "num_added": 60,
                "share_accepted": 0.75,
                "share_edited": 0.15,
                "share_rejected": 0.1,
            }
        ],
        holders=[
            {
                "annotator": "ada",
                "item_id": "7c9e6679e7f04cd3a0a3b1e3b0f9a1d2",
                "file_name": "plate-07.png",
                "held_s": 40.0,
                "expires_in_s": 105.0,
            }
        ],
        throughput=[{"starts_at": "2026-05-04T10:00:00Z", "items": 4, "masks": 31}],
        set_aside=[],
    )

    counts: Counts
    people: Sequence[PersonWork]
    models: Sequence[ModelProposals]
    holders: Sequence[Holding]
    throughput: Sequence[HourOfWork]
    set_aside: Annotated[
        Sequence[SetAsideItem],
        Field(description="At most 100; items withdrawn with their run are not among them."),
    ]

    @classmethod
    def of(cls, found: Overview) -> Self:
        """From the queue's count."""
        return cls(
            counts=Counts(**found.counts),
            people=[PersonWork.of(work) for work in found.people],
            models=[ModelProposals.of(model) for model in found.models],
            holders=[Holding(**vars(held)) for held in found.holders],
            throughput=[
                HourOfWork(starts_at=hour.starts_at, items=hour.num_items, masks=hour.num_masks)
                for hour in found.throughput
            ],
            set_aside=[SetAsideItem(**vars(item)) for item in found.set_aside],
        )


class LeadItem(Wire):
    """An item as a lead sees it: `annotator` holds it, or has finished it."""

    item_id: str
    image_id: str
    file_name: str
    state: State
    kind: Annotated[
        str,
        Field(
            description="assist: ordinary work; gold: a hidden check; second: a second look at what"
            " somebody did; dispute: two disagree, and a lead decides; audit: automatic masks."
            " Whoever works on an item is never told."
        ),
    ]
    is_pinned: bool
    model_version: str
    run_id: str
    iteration: int
    attempts: Annotated[int, Field(description="Leases since it was opened.")]
    skips: int
    dead_reason: str | None
    annotator: str | None
    answered_at: datetime | None


class LeadItems(Wire):
    """Some items of one state, by id; `next` is the `after` of the next call, null at the end."""

    items: Sequence[LeadItem]
    next: str | None

    @classmethod
    def of(cls, found: Sequence[ItemState], limit: int) -> Self:
        """At most `limit` of what was found; more than that means that there is a next call."""
        shown = [LeadItem.model_validate(vars(item)) for item in found[:limit]]
        return cls(items=shown, next=shown[-1].item_id if len(found) > limit else None)


class PinRequest(Wire):
    """An image by its id or its file name."""

    model_config = _example(image="plate-07.png")

    image: Annotated[str, Field(min_length=1, max_length=1000)]


class LeadPin(Wire):
    """An image that somebody wants first; `waits`: it is in the queue or held."""

    image_id: str
    file_name: Annotated[
        str | None, Field(description="Null while the queue has had no item of it.")
    ]
    pinned_by: str
    pinned_at: datetime
    waits: bool


class LeadPins(Wire):
    """All of them, the oldest wish first."""

    pins: Sequence[LeadPin]

    @classmethod
    def of(cls, found: Sequence[PinnedImage]) -> Self:
        """As the queue has them."""
        return cls(pins=[LeadPin(**vars(pin)) for pin in found])


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
