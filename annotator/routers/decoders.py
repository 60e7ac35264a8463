"""What a page needs to answer clicks by itself: embeddings of items, graphs that decode them."""

from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Path, Query, Response

from annotator.desk import Subjects
from annotator.http_cache import ASK_AGAIN, FOR_EVER, IfNoneMatch, kept_already, tag_of, to_keep
from annotator.ports import ClickModels
from annotator.problems import invalid, unknown
from annotator.routers.access import MAY_SEE
from annotator.routers.items import REFUSALS, ItemId
from engine.geometry import Window

_Version = Annotated[str, Path(pattern=r"^[0-9A-Za-z._:-]{1,200}$", examples=["v2"])]
_Side = Annotated[int, Path(ge=1, le=4096, examples=[512])]
_Revision = Annotated[
    str | None,
    Query(pattern=r"^[0-9A-Za-z._-]{1,100}$", description="As the decoder's urls have it."),
]
_WindowText = Annotated[
    str | None,
    Query(
        alias="window",
        pattern=r"^\d{1,5}(,\d{1,5}){3}$",
        description="x0,y0,x1,y1 in pixels of the image: that part, in a closer look's frame.",
        examples=["0,0,96,96"],
    ),
]
_SAFETENSORS = "application/octet-stream"
_ONNX = "application/octet-stream"


def decoders_router(models: ClickModels, subjects: Subjects, at_once: int) -> APIRouter:
    """Embeddings and graphs; at most `at_once` are made at a time."""
    router = APIRouter(prefix="/api", tags=["decoders"])
    turn = anyio.CapacityLimiter(at_once)

    @router.get(
        "/items/{item_id}/embedding",
        response_class=Response,
        responses=_responses("A safetensors file, float16."),
        dependencies=[MAY_SEE],
    )
    async def embedding(
        item_id: ItemId, window: _WindowText = None, if_none_match: IfNoneMatch = None
    ) -> Response:
        """`features` (C, h, w) and, of models that have them, `skip_2x` and `skip_4x`.

        The metadata `embedding` is JSON: encoder_id, original_hw, side.
        """
        content = await to_thread.run_sync(
            _embedding, models, subjects, item_id, window, limiter=turn
        )
        tag = tag_of(content)
        kept = kept_already(tag, if_none_match, ASK_AGAIN)
        return kept or to_keep(content, _SAFETENSORS, tag, ASK_AGAIN)

    @router.get(
        "/models/{version}/decoder/{side}",
        response_class=Response,
        responses=_responses("An ONNX graph."),
    )
    async def decoder(
        version: _Version,
        side: _Side,
        revision: _Revision = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Prompts on an embedding of a frame of that side -> four masks and their predicted IoU.

        `features`, `skip_2x`, `skip_4x`, `points` (1, K, 2) in pixels of the frame, `labels` (1, K)
        int64 (-1 none, 0 negative, 1 positive, 2 top left, 3 bottom right), `mask_logits` of an
        earlier answer, `has_mask` (1,) 1 or 0 -> `logits` (1, 4, h, w), `iou` (1, 4).
        """
        content, current = await to_thread.run_sync(_graph, models, version, side, limiter=turn)
        # Another workspace may have another model of this version at this address.
        keep = FOR_EVER if revision == current else ASK_AGAIN
        tag = tag_of(content)
        return kept_already(tag, if_none_match, keep) or to_keep(content, _ONNX, tag, keep)

    return router


def _responses(content: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {"application/octet-stream": {}}, "description": content},
        304: {"description": "The caller has it already."},
        **{status: REFUSALS[status] for status in (404, 422, 503)},
    }


def _embedding(models: ClickModels, subjects: Subjects, item_id: str, window: str | None) -> bytes:
    subject = subjects.find(item_id)
    try:
        return models.embedding(subject.image_id, subject.model_version, _window(window))
    except ValueError as error:
        raise invalid(str(error)) from error
    except LookupError as error:
        raise unknown(f"item {item_id}: its image or its model is gone") from error


def _window(text: str | None) -> Window | None:
    if text is None:
        return None
    x0, y0, x1, y1 = (int(number) for number in text.split(","))
    return x0, y0, x1, y1


def _graph(models: ClickModels, version: str, side: int) -> tuple[bytes, str]:
    """The graph, and the revision that it is of."""
    try:
        described = models.describe(version)
        if described is None:
            raise LookupError("decoded on the server")
        return models.decoder(version, side), described.revision
    except LookupError as error:
        raise unknown(f"decoder of {version}, {side}: {error}") from error
