"""The annotator's server, put together from its parts."""

from collections.abc import Callable
from importlib.metadata import version

from fastapi import Depends, FastAPI

from annotator import problems
from annotator.access import Access
from annotator.config import AnnotatorConfig
from annotator.desk import BatchWatch, Subjects
from annotator.guard import Guard
from annotator.handout import Handout
from annotator.ports import ClickModels, ImageSource
from annotator.routers.clicks import clicks_router
from annotator.routers.decoders import decoders_router
from annotator.routers.items import NOT_LET_IN, items_router
from annotator.routers.lead import lead_router
from annotator.routers.pages import pages_router
from annotator.routers.peek import peek_router
from annotator.routers.pictures import pictures_router
from annotator.routers.pins import pins_router
from annotator.routers.progress import health_router, progress_router
from annotator.routers.session import session_router
from storage.queue.review import ReviewQueue

_ABOUT = """\
The review queue of maskloop over HTTP. Claim an item, decide on each of its proposals, add what is
missing, submit. Clicks are answered with masks by the model version that made the proposals.
Where people were added, programs send their token as `Authorization: Bearer TOKEN`, and browsers
sign in at `/api/session` and show its `csrf_token` as X-CSRF-Token when they write.
Every error has the form of *Problem*; 429 and 503 come with Retry-After."""


def create_app(
    *,
    queue: ReviewQueue,
    models: ClickModels,
    images: ImageSource,
    config: AnnotatorConfig,
    on_batch_done: Callable[[str], None] | None = None,
) -> FastAPI:
    """The API over these collaborators; where it listens is the caller's choice.

    `on_batch_done` is told a run's id, on a thread of the server, when enough of its items are
    finished (`config.batch_done_share`); it may hear the same run again after a restart.
    """
    app = FastAPI(
        title="maskloop annotator",
        version=version("maskloop"),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard, config=config)
    problems.install(app, config.retry_after_s)
    watch = BatchWatch(queue, config.batch_done_share, on_batch_done)
    app.state.access = access = Access(queue, config)
    app.include_router(session_router(access, config.categories))
    app.include_router(health_router(queue))
    handout, subjects = Handout(models, config.categories), Subjects(queue)
    for router in (
        items_router(queue, config, watch, handout),
        peek_router(queue, handout),
        clicks_router(models, subjects, config.clicks_at_once),
        decoders_router(models, subjects, config.clicks_at_once),
        pictures_router(images, subjects, config.images_at_once),
        progress_router(queue),
        lead_router(queue),
        pins_router(queue),
    ):
        app.include_router(router, dependencies=[Depends(access.admit)], responses=NOT_LET_IN)
    app.include_router(pages_router())
    return app
