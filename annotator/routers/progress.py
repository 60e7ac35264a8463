"""GET /api/health and /api/progress: whether the server works and how far people are."""

from typing import Annotated

from fastapi import APIRouter, Query

from annotator.messages import Counts, HealthAnswer, Problem, ProgressAnswer, RunCounts
from annotator.problems import unknown
from annotator.routers.items import REFUSALS, UNAVAILABLE
from storage.queue.review import ReviewQueue

RunId = Annotated[
    str | None,
    Query(pattern=r"^[0-9A-Za-z._:-]{1,200}$", description="Count this run as well."),
]


def health_router(queue: ReviewQueue) -> APIRouter:
    """What a machine that watches the server may ask without a token."""
    router = APIRouter(prefix="/api", tags=["progress"])

    @router.get("/health", responses=UNAVAILABLE)
    def health() -> HealthAnswer:
        """Whether the server answers and reaches its queue."""
        queue.last_seq()
        return HealthAnswer()

    return router


def progress_router(queue: ReviewQueue) -> APIRouter:
    """The half of the API that only looks."""
    router = APIRouter(prefix="/api", tags=["progress"])

    @router.get(
        "/progress",
        responses={
            404: {"model": Problem, "description": "There is no such run."},
            422: REFUSALS[422],
            **UNAVAILABLE,
        },
    )
    def progress(run_id: RunId = None) -> ProgressAnswer:
        """Items by state, over all runs and for one."""
        counts = Counts(**queue.counts())
        return ProgressAnswer(counts=counts, run=None if run_id is None else _run(queue, run_id))

    return router


def _run(queue: ReviewQueue, run_id: str) -> RunCounts:
    found = queue.progress(run_id)
    if found.total == 0:
        raise unknown(f"run {run_id}: has no items in the queue")
    return RunCounts(
        run_id=run_id,
        ready=found.ready,
        leased=found.leased,
        done=found.done,
        dead=found.dead,
    )
