"""GET /api/items/{item_id}/image and .../tiles/...: pictures, always encoded anew."""

from collections.abc import Callable
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Path, Response

from annotator.desk import Subject, Subjects
from annotator.http_cache import FOR_EVER, IfNoneMatch, kept_already, to_keep
from annotator.ports import ImageSource
from annotator.problems import unknown
from annotator.routers.access import MAY_SEE
from annotator.routers.items import REFUSALS, ItemId
from engine.images import Pixels, encode_png
from engine.tiles import tile_window

_Place = Annotated[int, Path(ge=0, le=100_000)]
_PNG = "image/png"


def pictures_router(images: ImageSource, subjects: Subjects, at_once: int) -> APIRouter:
    """Pictures of items; at most `at_once` are decoded or encoded at a time."""
    router = APIRouter(prefix="/api/items/{item_id}", tags=["pictures"], dependencies=[MAY_SEE])
    turn = anyio.CapacityLimiter(at_once)
    responses: dict[int | str, dict[str, Any]] = {
        200: {"content": {_PNG: {}}, "description": "PNG, RGB."},
        304: {"description": "The caller has it already."},
        **{status: REFUSALS[status] for status in (404, 422, 503)},
    }

    async def answer(
        item_id: str, part: str, if_none_match: str | None, make: Callable[[Subject], Pixels]
    ) -> Response:
        subject = await to_thread.run_sync(subjects.find, item_id)
        # An image's id names its bytes, so what it shows can never change.
        tag = f'"{subject.image_id}{part}"'
        if (kept := kept_already(tag, if_none_match, FOR_EVER)) is not None:
            return kept
        png = await to_thread.run_sync(_encoded, make, subject, limiter=turn)
        return to_keep(png, _PNG, tag, FOR_EVER)

    @router.get("/image", response_class=Response, responses=responses)
    async def image(item_id: ItemId, if_none_match: IfNoneMatch = None) -> Response:
        """The picture, decoded and encoded anew: nothing else that the file held gets out."""
        return await answer(
            item_id, "", if_none_match, lambda subject: images.pixels(subject.image_id)
        )

    @router.get("/tiles/{level}/{column}/{row}", response_class=Response, responses=responses)
    async def tile(
        item_id: ItemId,
        level: _Place,
        column: _Place,
        row: _Place,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """512 pixels square of a level: 0 is the picture, each further one half as wide and high.

        Sizes are rounded up. Tiles at the right and at the bottom may be smaller; the last level is
        one tile.
        """

        def cut(subject: Subject) -> Pixels:
            window = tile_window(subject.hw, level, column, row)
            return images.part(subject.image_id, level, window)

        return await answer(item_id, f"-{level}-{column}-{row}", if_none_match, cut)

    return router


def _encoded(make: Callable[[Subject], Pixels], subject: Subject) -> bytes:
    try:
        pixels = make(subject)
    except ValueError as error:
        raise unknown(f"tile: {error}") from error
    except LookupError as error:
        raise unknown(f"image {subject.image_id}: is gone") from error
    return encode_png(pixels)
