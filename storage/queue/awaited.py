"""The review queue for a server's event loop: what every annotator asks for all the time."""

from storage.failpoints import failpoint
from storage.queue.grouped import Writes
from storage.queue.leases import Claim
from storage.queue.review import ReviewQueue
from storage.queue.submissions import Draft, SubmitResult
from storage.queue.work import Lease


class AwaitedQueue:
    """Calls of `ReviewQueue` that do and raise the same, and are awaited."""

    def __init__(self, queue: ReviewQueue) -> None:
        self._work = queue.work
        self._writes = Writes(queue.database)

    async def claim(self, annotator: str, *, is_lead: bool) -> Lease | None:
        """Lease an item to `annotator`; None when there is nothing for them to do."""
        lease = await self._writes.run(self._work.claim(annotator, is_lead=is_lead))
        failpoint("lease.after_commit")
        return lease

    async def heartbeat(self, held: Claim) -> float:
        """Keep a lease alive; returns the seconds it now has."""
        return await self._writes.run(self._work.heartbeat(held))

    async def submit(self, draft: Draft) -> SubmitResult:
        """Accept an answer and finish its item; the same answer again changes nothing."""
        result = await self._writes.run(self._work.submit(draft))
        failpoint("submit.after_commit")
        return result
