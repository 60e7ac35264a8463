"""GET /api/images/{image_id}: pictures, always encoded anew."""

from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Request, Response

from annotator.access import CallerNow
from annotator.messages import Problem
from annotator.ports import ImageSource
from annotator.problems import unknown
from annotator.routers.access import access_of
from engine.images import encode_png

ImageId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{32}$", examples=["9f86d081884c7d659a2feaa0c55ad015"])
]
# An id names the bytes, so what it shows can never change.
_FOR_EVER = "private, max-age=31536000, immutable"


def _may_see(image_id: ImageId, request: Request, caller: CallerNow) -> None:
    access_of(request).check_image(caller, image_id)


def images_router(images: ImageSource, at_once: int) -> APIRouter:
    """Pictures; at most `at_once` are encoded at a time."""
    router = APIRouter(prefix="/api", tags=["images"])
    turn = anyio.CapacityLimiter(at_once)

    def encoded(image_id: str) -> bytes:
        try:
            return encode_png(images.pixels(image_id))
        except LookupError as error:
            raise unknown(f"image {image_id}: no such image") from error

    @router.get(
        "/images/{image_id}",
        response_class=Response,
        dependencies=[Depends(_may_see)],
        responses={
            200: {"content": {"image/png": {}}, "description": "The picture as PNG, RGB."},
            304: {"description": "The caller has it already."},
            404: {"model": Problem, "description": "There is no such image."},
            422: {"model": Problem, "description": "Not an image id."},
        },
    )
    async def image(
        image_id: ImageId, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        """The picture, decoded and encoded anew: nothing else that the file held gets out."""
        headers = {"ETag": f'"{image_id}"', "Cache-Control": _FOR_EVER}
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        png = await to_thread.run_sync(encoded, image_id, limiter=turn)
        return Response(png, media_type="image/png", headers=headers)

    return router
