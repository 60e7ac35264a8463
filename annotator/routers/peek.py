"""POST /api/peek: what comes next, so that a page can fetch it before it is needed."""

from fastapi import APIRouter, Response

from annotator.access import CallerNow
from annotator.handout import Handout
from annotator.messages import LeaseRequest, PeekAnswer
from annotator.reply import reply
from annotator.routers.items import REFUSALS, UNAVAILABLE
from storage.queue.review import ReviewQueue


def peek_router(queue: ReviewQueue, handout: Handout) -> APIRouter:
    """A look ahead."""
    router = APIRouter(prefix="/api", tags=["items"])

    @router.post("/peek", response_model=PeekAnswer, responses={422: REFUSALS[422], **UNAVAILABLE})
    def peek(request: LeaseRequest, caller: CallerNow) -> Response:
        """The item that a lease would give after the one held now; nothing is claimed."""
        found = queue.peek(caller.signs(request.annotator), is_lead=caller.is_lead)
        return reply(PeekAnswer(item=None if found is None else handout.work_item(found)))

    return router
