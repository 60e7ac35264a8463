"""/api/lead/pins: the images that leads want people to be given first."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from annotator.access import CallerNow, lead_only
from annotator.lead_messages import LeadPins, PinRequest
from annotator.problems import ProblemError
from annotator.routers.items import REFUSALS, UNAVAILABLE
from storage.queue.oversight import Oversight
from storage.queue.review import ReviewQueue

ImageId = Annotated[str, Path(pattern=r"^[0-9A-Za-z._:-]{1,200}$", examples=["7c9e6679e7f04cd3"])]
# Whose wish it is where nobody signs in.
_SOMEBODY = "a lead"
_REFUSED = {
    404: {**REFUSALS[404], "description": "The queue has no such image."},
    422: REFUSALS[422],
    **UNAVAILABLE,
}


def pins_router(queue: ReviewQueue) -> APIRouter:
    """The part of the lead's API that says what comes first."""
    router = APIRouter(prefix="/api/lead/pins", tags=["lead"], dependencies=[Depends(lead_only)])
    oversight = Oversight(queue.database)

    @router.get("", responses=UNAVAILABLE)
    def pins() -> LeadPins:
        """The images that are pinned, the oldest wish first."""
        return LeadPins.of(oversight.pins())

    @router.post("", status_code=204, responses=_REFUSED)
    def pin(request: PinRequest, caller: CallerNow) -> None:
        """Have an image come first, by its id or its file name."""
        images = oversight.images_named(request.image)
        if not images:
            raise ProblemError(
                404,
                "unknown",
                f"image: no item in the queue is of {request.image!a}",
                "Give an image's id or whole file name; what is not in the queue yet, `maskloop"
                " pin` takes.",
            )
        queue.pin(images, caller.name or _SOMEBODY)

    @router.delete("/{image_id}", status_code=204, responses=_REFUSED)
    def unpin(image_id: ImageId) -> None:
        """Give an image's items the place back that they had."""
        if not queue.unpin([image_id]):
            raise ProblemError(
                404,
                "unknown",
                f"image {image_id}: is not pinned",
                "Look again: it was answered, or somebody has unpinned it.",
            )

    return router
