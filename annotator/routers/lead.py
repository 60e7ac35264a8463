"""/api/lead/...: what only a lead sees and does."""

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from annotator.access import CallerNow, lead_only
from annotator.lead_messages import Kind, LeadItems, LeadOverview, State
from annotator.problems import ProblemError
from annotator.routers.items import REFUSALS, UNAVAILABLE, ItemId
from storage.queue.oversight import Oversight
from storage.queue.review import ReviewQueue
from storage.queue.statistics import overview

_log = logging.getLogger(__name__)
_MOST = 200

After = Annotated[
    str,
    Query(pattern=r"^[0-9A-Za-z._:-]{0,200}$", description="Behind this item: the last `next`."),
]
Limit = Annotated[int, Query(ge=1, le=_MOST)]
_CONFLICT: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    409: {**REFUSALS[409], "description": "The item is in another state by now."},
}


def lead_router(queue: ReviewQueue) -> APIRouter:
    """The half of the API that is about others' work."""
    router = APIRouter(prefix="/api/lead", tags=["lead"], dependencies=[Depends(lead_only)])
    oversight = Oversight(queue.database)

    @router.get("/overview", responses=UNAVAILABLE)
    def lead_overview() -> LeadOverview:
        """Progress, people, models, who holds what, the last day's hours, what is set aside."""
        return LeadOverview.of(overview(queue.database))

    @router.get("/items", responses={422: REFUSALS[422], **UNAVAILABLE})
    def lead_items(
        state: State, kind: Kind | None = None, after: After = "", limit: Limit = 50
    ) -> LeadItems:
        """Items in one state, of one kind or all, by id."""
        return LeadItems.of(oversight.items(state, kind, after=after, limit=limit + 1), limit)

    @router.post("/items/{item_id}/release", status_code=204, responses=_CONFLICT)
    def release(item_id: ItemId, caller: CallerNow) -> None:
        """End somebody's lease; what they still send for it is refused, and their draft is kept."""
        holder = oversight.release(item_id)
        _tell(caller.name, f"released item {item_id}, which {holder!a} held")

    @router.post("/items/{item_id}/reopen", status_code=204, responses=_CONFLICT)
    def reopen(item_id: ItemId, caller: CallerNow) -> None:
        """Have a finished item, or one that was set aside, done once more; its answer stays."""
        if not queue.reopen(item_id):
            raise ProblemError(
                409,
                "is_open",
                f"item {item_id}: waits or is held already",
                "Look again: somebody has reopened it.",
            )
        _tell(caller.name, f"reopened item {item_id}")

    return router


def _tell(lead: str | None, what: str) -> None:
    # A warning, as it undoes what others did; and so it is seen where nobody has set up logging.
    _log.warning("lead %s %s", ascii(lead) if lead else "(nobody signs in here)", what)
