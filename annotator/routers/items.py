"""Leases and answers: POST /api/lease and /api/items/{item_id}/..."""

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Header, Path, Response
from fastapi.concurrency import run_in_threadpool

from annotator.access import Caller, CallerNow
from annotator.config import AnnotatorConfig
from annotator.desk import BatchWatch, Tally
from annotator.handout import Handout
from annotator.messages import (
    Counts,
    HeartbeatAnswer,
    HeldRequest,
    Lease,
    LeaseAnswer,
    LeaseRequest,
    Problem,
    SubmitAnswer,
    SubmitRequest,
)
from annotator.offers import Offers
from annotator.pace import paced
from annotator.problems import invalid
from annotator.reply import reply
from annotator.submission import SubmissionError
from storage.queue.awaited import AwaitedQueue
from storage.queue.leases import Claim
from storage.queue.review import ReviewQueue
from storage.queue.submissions import Draft

ItemId = Annotated[str, Path(pattern=r"^[0-9A-Za-z._:-]{1,200}$", examples=["7c9e6679e7f04cd3"])]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[0-9A-Za-z._:-]{8,200}$",
        description="Made when work on the item starts, the same for each try to submit it.",
        examples=["5b1f3a0e6d2c4c0f9f0e8a7b6c5d4e3f"],
    ),
]

UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The queue cannot be reached; see Retry-After."}
}
NOT_LET_IN: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Sign in, or send a token."},
    403: {"model": Problem, "description": "Not for this caller, or without X-CSRF-Token."},
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such item."},
    409: {"model": Problem, "description": "The lease is no longer yours."},
    422: {"model": Problem, "description": "A field cannot be accepted; the message names it."},
    **UNAVAILABLE,
}


def items_router(
    queue: ReviewQueue,
    config: AnnotatorConfig,
    watch: BatchWatch,
    handout: Handout,
) -> APIRouter:
    """The half of the API that hands out items and takes answers."""
    router = APIRouter(prefix="/api", tags=["items"])
    awaited, tally, offers = AwaitedQueue(queue), Tally(queue), Offers(queue)

    @router.post(
        "/lease", response_model=LeaseAnswer, responses={422: REFUSALS[422], **UNAVAILABLE}
    )
    async def lease(request: LeaseRequest, caller: CallerNow) -> Response:
        """Claim the next item; whoever holds one gets it again, with the same token."""
        claimed = await awaited.claim(caller.signs(request.annotator), is_lead=caller.is_lead)
        if claimed is None:
            # Whoever reads that nothing is left decides by these counts whether to wait.
            return reply(LeaseAnswer(lease=None, counts=Counts(**await tally.now())))
        counts = Counts(**await tally.lately())

        def granted() -> Response:
            offers.keep(claimed)
            given = Lease(
                item=handout.work_item(claimed.item),
                lease_token=claimed.lease_token,
                expires_in_s=claimed.expires_in_s,
                heartbeat_s=config.heartbeat_s,
            )
            return reply(LeaseAnswer(lease=given, counts=counts))

        return await paced(granted, is_short=handout.is_short(claimed.item))

    @router.post("/items/{item_id}/heartbeat", response_model=HeartbeatAnswer, responses=REFUSALS)
    async def heartbeat(item_id: ItemId, request: HeldRequest, caller: CallerNow) -> Response:
        """Keep a lease alive while somebody works."""
        left = await awaited.heartbeat(_held(item_id, request, caller))
        return reply(HeartbeatAnswer(expires_in_s=left))

    @router.post(
        "/items/{item_id}/submit",
        status_code=201,
        response_model=SubmitAnswer,
        responses=REFUSALS,
    )
    async def submit(
        item_id: ItemId,
        request: SubmitRequest,
        key: IdempotencyKey,
        caller: CallerNow,
        tasks: BackgroundTasks,
    ) -> Response:
        """Answer an item; the same request again changes nothing and gets the same answer."""
        held = _held(item_id, request, caller)
        offer = await offers.find(item_id, request.lease_token)
        answer = request.submission

        def drafted() -> Draft:
            answer.check(offer.proposed, offer.hw, config.categories)
            return Draft.of(held, key, answer.to_dict())

        try:
            draft = await paced(drafted, is_short=answer.is_short)
        except SubmissionError as error:
            # Of an item that is somebody else's, the caller hears only that it is not theirs.
            await run_in_threadpool(queue.check_held, item_id, held.lease_token, held.annotator)
            raise invalid(f"submission.{error}") from error
        result = await awaited.submit(draft)
        if watch.is_listening:
            tasks.add_task(watch.look, offer.run_id)
        replayed = {"Idempotent-Replayed": str(result.replayed).lower()}
        return reply(SubmitAnswer(**result.response), result.status, replayed)

    @router.post("/items/{item_id}/skip", status_code=204, responses=REFUSALS)
    def skip(
        item_id: ItemId, request: HeldRequest, caller: CallerNow, tasks: BackgroundTasks
    ) -> None:
        """Leave an item for later or for somebody else; after five leases it is set aside."""
        run_id = queue.item(item_id).run_id
        queue.skip(item_id, request.lease_token, caller.signs(request.annotator))
        tasks.add_task(watch.look, run_id)

    @router.post("/items/{item_id}/release", status_code=204, responses=REFUSALS)
    def release(item_id: ItemId, request: HeldRequest, caller: CallerNow) -> None:
        """Give an item back as if it had not been claimed."""
        queue.release(item_id, request.lease_token, caller.signs(request.annotator))

    return router


def _held(item_id: str, request: HeldRequest, caller: Caller) -> Claim:
    name = caller.signs(request.annotator)
    return Claim(item_id=item_id, lease_token=request.lease_token, annotator=name)
