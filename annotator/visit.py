"""One item as the simulated annotator works on it: look, decide, fix, add."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from annotator import eye
from annotator.client import Work
from annotator.hand import Attempt, Effort, Hand, Skill
from annotator.messages import PredictAnswer, PredictRequest
from annotator.slips import Slips
from annotator.submission import AddedMask, Decision
from engine import rle
from engine.metrics.matching import match
from engine.rle import Rle

_AS_MANY_AS_IT_TAKES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """How a simulated person works.

    `num_clicks_per_image` is the budget of an item. A proposal is accepted from IoU `accept_iou`
    on, corrected from `fix_iou` on, else rejected; a clicked mask is good at `target_iou`. After
    `max_clicks_per_mask` a mask is drawn with a brush, which costs `drawing_clicks` clicks.
    Objects under `min_area` pixels are overlooked. A share `slip_rate` of the masks is sent beside
    its object, or not at all. Times are what submissions report; nobody sleeps.
    """

    num_clicks_per_image: int = 60
    max_clicks_per_mask: int = 5
    accept_iou: float = 0.85
    fix_iou: float = 0.5
    target_iou: float = 0.85
    min_area: int = 10
    drawing_clicks: int = 8
    slip_rate: float = 0.0
    jitter_px: float = 1.0
    seconds_per_decision: float = 2.0
    seconds_per_click: float = 1.5
    seconds_per_drawing: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_clicks_per_image", "max_clicks_per_mask", "drawing_clicks", "min_area"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("accept_iou", "target_iou"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in (0, 1], got {getattr(self, name)}")
        if not 0 < self.fix_iou <= self.accept_iou:
            raise ValueError(
                f"fix_iou: must be in (0, accept_iou], {self.accept_iou}, got {self.fix_iou}"
            )
        if not 0 <= self.slip_rate <= 1:
            raise ValueError(f"slip_rate: must be in [0, 1], got {self.slip_rate}")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.startswith(("seconds", "jitter", "seed")) and not 0 <= value < math.inf:
                raise ValueError(f"{item.name}: must be 0 or more, got {value}")

    @classmethod
    def careful(cls, **changes: Any) -> Self:
        """Whoever leaves nothing but exact masks: with the brush where clicks do not get there."""
        exact = {"accept_iou": 1.0, "target_iou": 1.0, "min_area": 1}
        return cls(**{"num_clicks_per_image": _AS_MANY_AS_IT_TAKES, **exact, **changes})

    @property
    def skill(self) -> Skill:
        """The part that concerns one mask."""
        return Skill(
            target_iou=self.target_iou,
            max_clicks=self.max_clicks_per_mask,
            drawing_clicks=self.drawing_clicks,
            seconds_per_click=self.seconds_per_click,
            seconds_per_drawing=self.seconds_per_drawing,
            jitter_px=self.jitter_px,
        )


class Desk(Protocol):
    """Where an annotator sits: shows an image and answers clicks on it, as `AnnotatorClient`."""

    def pixels(self, work: Work) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of the item's image."""

    def predict(self, work: Work, request: PredictRequest) -> PredictAnswer:
        """Masks for one prompt."""

    def heartbeat(self, work: Work) -> float:
        """Keep the lease alive; returns the seconds that it now has."""


class Visit:
    """One item, its truth and its budget; asks the server as the page would."""

    def __init__(
        self, client: Desk, work: Work, truth: Sequence[Rle], config: SimulationConfig
    ) -> None:
        self._client = client
        self._work = work
        self._truth = truth
        self._config = config
        self._effort = Effort(config.num_clicks_per_image)
        # Named by the image, so that the order in which items are claimed changes nothing.
        seed = (config.seed, int(work.item.image_id[:16], 16))
        self._hand = Hand(self._ask, config.skill, self._effort, np.random.default_rng(seed))
        # Of its own, so that who slips works as steadily in between as who does not.
        self._slips = Slips(config.slip_rate, np.random.default_rng((*seed, 1)))
        self._next_beat = time.monotonic() + work.heartbeat_s
        pixels = client.pixels(work)
        self._prominence = [eye.prominence(pixels, mask) for mask in truth]
        self._done: set[int] = set()

    @property
    def seconds(self) -> float:
        """The time that a person would have taken."""
        return self._effort.seconds

    @property
    def complete(self) -> bool:
        """Whether every object that a person would see has its mask, as far as they know."""
        return not self._missing()

    def decide(self) -> tuple[Decision, ...]:
        """A decision on each proposal, in their order; corrections start with what stands out."""
        proposals = self._work.item.proposals
        pairs = match(
            [proposal.segmentation for proposal in proposals], self._truth, self._config.fix_iou
        )
        self._effort.seconds += self._config.seconds_per_decision * len(proposals)
        decided: dict[int, Decision] = {}
        for index in sorted(pairs, key=lambda index: -self._prominence[pairs[index][0]]):
            target, iou = pairs[index]
            decided[index] = self._decision(index, target, iou)
            if decided[index].action != "rejected":
                self._done.add(target)
        return tuple(
            self._slips.in_decision(decided[index], proposal.segmentation)
            if index in decided
            else Decision(proposal_id=proposal.proposal_id, action="rejected")
            for index, proposal in enumerate(proposals)
        )

    def add_missing(self) -> tuple[AddedMask, ...]:
        """New masks of the objects that no proposal shows, as far as the budget goes."""
        added = []
        for target in sorted(self._missing(), key=lambda target: -self._prominence[target]):
            attempt = self._hand.add(self._truth[target])
            if attempt is not None:
                added.append(self._slips.in_added(_added(attempt)))
                self._done.add(target)
        return tuple(mask for mask in added if mask is not None)

    def _missing(self) -> list[int]:
        return [
            index
            for index, mask in enumerate(self._truth)
            if index not in self._done and rle.area(mask) >= self._config.min_area
        ]

    def _decision(self, index: int, target: int, iou: float) -> Decision:
        proposal = self._work.item.proposals[index]
        if iou >= self._config.accept_iou:
            return Decision(proposal_id=proposal.proposal_id, action="accepted")
        attempt = self._hand.fix(proposal, self._truth[target])
        if attempt is None:
            return Decision(proposal_id=proposal.proposal_id, action="rejected")
        return Decision(
            proposal_id=proposal.proposal_id,
            action="edited",
            segmentation=attempt.segmentation,
            clicks=attempt.clicks,
            drawn=attempt.drawn,
        )

    def _ask(self, request: PredictRequest) -> PredictAnswer:
        if time.monotonic() >= self._next_beat:
            self._client.heartbeat(self._work)
            self._next_beat = time.monotonic() + self._work.heartbeat_s
        return self._client.predict(self._work, request)


def _added(attempt: Attempt) -> AddedMask:
    assert attempt.segmentation is not None, "a finished mask has its shape"
    return AddedMask(segmentation=attempt.segmentation, clicks=attempt.clicks, drawn=attempt.drawn)
