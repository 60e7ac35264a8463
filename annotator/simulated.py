"""A simulated annotator: an ordinary client of the API that knows the truth of what it claims.

It does what a person does: accepts what is good, corrects by clicks what is promising, rejects the
rest, then adds what is missing, most prominent first, until its budget of clicks is spent.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from annotator.client import AnnotatorClient, LeaseLostError, Work
from annotator.signature import SIMULATED, is_simulated
from annotator.submission import Submission
from annotator.truth import Truth, TruthError
from annotator.visit import SimulationConfig, Visit
from engine.rle import Rle

_POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class SimulationSummary:
    """What was done: `num_clicks` are real clicks; masks drawn with a brush count in `num_drawn`.

    `num_lost` items went to somebody else before they were submitted.
    """

    num_items: int = 0
    num_accepted: int = 0
    num_edited: int = 0
    num_rejected: int = 0
    num_added: int = 0
    num_drawn: int = 0
    num_clicks: int = 0
    num_lost: int = 0
    seconds: float = 0.0

    def plus(self, submission: Submission) -> "SimulationSummary":
        """This and one more submitted item."""
        actions = [decision.action for decision in submission.decisions]
        return SimulationSummary(
            num_items=self.num_items + 1,
            num_accepted=self.num_accepted + actions.count("accepted"),
            num_edited=self.num_edited + actions.count("edited"),
            num_rejected=self.num_rejected + actions.count("rejected"),
            num_added=self.num_added + len(submission.added),
            num_drawn=self.num_drawn + sum(part.drawn for part in submission.parts),
            num_clicks=self.num_clicks + submission.num_clicks,
            num_lost=self.num_lost,
            seconds=self.seconds + submission.seconds,
        )


class SignatureError(ValueError):
    """The token is a person's."""


class SimulatedAnnotator:
    """Works through the queue; deterministic by seed, whatever the order of the items."""

    def __init__(
        self,
        client: AnnotatorClient,
        truth: Mapping[str, Sequence[Rle]] | Truth,
        config: SimulationConfig | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._truth = truth if isinstance(truth, Truth) else Truth(truth)
        self._config = config or SimulationConfig()
        self._sleep = sleep

    def work(
        self, *, wait_s: float = 0.0, on_item: Callable[[int], None] | None = None
    ) -> SimulationSummary:
        """Claim, annotate and submit until the queue has been empty for `wait_s` seconds.

        `on_item` hears the number of items done. Raises TruthError for an item whose image the
        truth does not know (the item is given back), and what the client raises.
        """
        summary, waited_s = SimulationSummary(), 0.0
        while True:
            work = self._client.claim()
            if work is not None:
                waited_s = 0.0
                summary = self._one(work, summary)
                if on_item is not None:
                    on_item(summary.num_items)
            elif waited_s >= wait_s:
                return summary
            else:
                self._sleep(_POLL_S)
                waited_s += _POLL_S

    def _one(self, work: Work, summary: SimulationSummary) -> SimulationSummary:
        try:
            submission = self.annotate(work)
            self._client.submit(work, submission)
        except LeaseLostError:
            return replace(summary, num_lost=summary.num_lost + 1)
        except TruthError:
            with suppress(LeaseLostError):
                self._client.release(work)
            raise
        return summary.plus(submission)

    def annotate(self, work: Work) -> Submission:
        """The answer to one item; raises TruthError, LeaseLostError."""
        truth = self._truth.of(work.item)
        visit = Visit(self._client, work, truth, self._config)
        decisions = visit.decide()
        added = visit.add_missing()
        return Submission(
            decisions=decisions, added=added, complete=visit.complete, seconds=visit.seconds
        )


def run_simulated(
    url: str,
    truth: Path,
    *,
    annotator: str | None = None,
    token: str | None = None,
    config: SimulationConfig | None = None,
    wait_s: float = 0.0,
    on_item: Callable[[int], None] | None = None,
) -> SimulationSummary:
    """Work through the queue of the server at `url` with the truth of a COCO file.

    It signs as `annotator`, by default as whom the token is, or as `simulated` where nobody signs
    in. Raises TruthError, SignatureError for a person's token, UnavailableError, ApiError;
    ValueError for a malformed url.
    """
    known = Truth.read(truth)
    with AnnotatorClient(url, annotator or SIMULATED, token=token) as client:
        if token is not None:
            client.annotator = _signature(client, annotator)
        return SimulatedAnnotator(client, known, config).work(wait_s=wait_s, on_item=on_item)


def _signature(client: AnnotatorClient, wanted: str | None) -> str:
    """What the server will have us sign with."""
    name = client.session().name
    if name is not None and not is_simulated(name):
        raise SignatureError(
            f"token: is {name}'s, and nobody may take a simulation for a person; "
            f"make one for it: maskloop annotators add {SIMULATED}-{name}"
        )
    return wanted or name or SIMULATED
