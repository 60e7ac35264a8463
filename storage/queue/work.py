"""What annotators ask for all the time, as steps of a transaction that somebody else opens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, bindparam

from storage.failpoints import failpoint
from storage.queue import leases, submissions
from storage.queue.database import Database
from storage.queue.documents import check_name
from storage.queue.items import Item, item_of, select_items
from storage.queue.leases import Asker, Claim, QueueConfig
from storage.queue.prepared import Prepared
from storage.queue.schema import items
from storage.queue.submissions import Draft, SubmitResult

_Outcome = TypeVar("_Outcome")
Step = Callable[[Connection], _Outcome]
"""What one caller wants of a transaction that writes; an exception undoes it."""

_LEASED_ITEM = Prepared(
    select_items()
    .add_columns(items.c.lease_token, items.c.lease_expires)
    .where(items.c.item_id == bindparam("wanted"))
)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on an item for `expires_in_s` more seconds; writes show `lease_token`."""

    item: Item
    lease_token: int
    expires_in_s: float


class Work:
    """Makes the steps; each does and raises what the method of its name in `ReviewQueue` does."""

    def __init__(self, database: Database, config: QueueConfig) -> None:
        self._database = database
        self._config = config

    def claim(self, annotator: str, *, is_lead: bool) -> Step[Lease | None]:
        """Lease an item to `annotator`."""
        asker = Asker(annotator=check_name("annotator", annotator), is_lead=is_lead)

        def step(connection: Connection) -> Lease | None:
            now = self._database.now(connection)
            item_id = leases.claim(connection, asker, now, self._config)
            if item_id is None:
                return None
            [(*item, lease_token, expires)] = _LEASED_ITEM.rows(connection, {"wanted": item_id})
            return Lease(
                item=item_of(item),
                lease_token=lease_token,
                expires_in_s=max(0.0, expires - now),
            )

        return step

    def heartbeat(self, held: Claim) -> Step[float]:
        """Keep a lease alive."""

        def step(connection: Connection) -> float:
            now = self._database.now(connection)
            return leases.heartbeat(connection, held, now, self._config)

        return step

    def submit(self, draft: Draft) -> Step[SubmitResult]:
        """Accept an answer and finish its item."""

        def step(connection: Connection) -> SubmitResult:
            result = submissions.submit(connection, draft, self._database.now(connection))
            failpoint("submit.before_commit")
            return result

        return step
