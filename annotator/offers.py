"""What people were offered, against which their answers are checked."""

from dataclasses import dataclass
from typing import Self

from fastapi.concurrency import run_in_threadpool

from annotator.item import proposal_ids
from annotator.memory import Memory
from storage.queue.items import Item
from storage.queue.review import ReviewQueue
from storage.queue.work import Lease

# An item with more than these is read again for its answer, so that the memory stays small.
_MOST_PROPOSALS = 500


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The part of an item that an answer must fit; `hw` is its image's size in pixels."""

    run_id: str
    hw: tuple[int, int]
    proposed: frozenset[str]

    @classmethod
    def of(cls, item: Item) -> Self:
        """What an item offers."""
        return cls(
            run_id=item.run_id,
            hw=(item.height, item.width),
            proposed=frozenset(proposal_ids(item.payload)),
        )


class Offers:
    """Remembers the offers of leases, so that proposals are not read again for each answer.

    By lease and not by item: one that was withdrawn may be enqueued again with other proposals.
    """

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue
        self._known: Memory[tuple[str, int], Offer] = Memory()

    def keep(self, lease: Lease) -> None:
        """Remember what was leased."""
        offer = Offer.of(lease.item)
        if len(offer.proposed) <= _MOST_PROPOSALS:
            self._known.keep((lease.item.item_id, lease.lease_token), offer)

    async def find(self, item_id: str, lease_token: int) -> Offer:
        """What an item offers under a lease; raises UnknownItem, QueueUnavailable.

        Where there is no such lease, what the item offers now.
        """
        found = self._known.find((item_id, lease_token))
        return found or Offer.of(await run_in_threadpool(self._queue.item, item_id))
