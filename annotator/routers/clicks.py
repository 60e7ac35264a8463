"""POST /api/items/{item_id}/predict: a prompt in, masks out."""

from typing import Any

import anyio
from anyio import to_thread
from fastapi import APIRouter

from annotator.answers import masks_of, prompt_of
from annotator.desk import Subjects
from annotator.messages import PredictAnswer, PredictRequest
from annotator.ports import ClickModels
from annotator.problems import ProblemError, invalid, unknown
from annotator.routers.access import MAY_SEE
from annotator.routers.items import REFUSALS, ItemId
from annotator.text_messages import FindAnswer, FindRequest, FoundMask
from engine.generation.by_text import TextMask


def clicks_router(models: ClickModels, subjects: Subjects, at_once: int) -> APIRouter:
    """The half of the API that thinks; at most `at_once` prompts are answered at a time."""
    router = APIRouter(prefix="/api", tags=["clicks"])
    turn = anyio.CapacityLimiter(at_once)
    responses: dict[int | str, dict[str, Any]] = {n: REFUSALS[n] for n in (404, 422, 503)}

    @router.post("/items/{item_id}/predict", responses=responses, dependencies=[MAY_SEE])
    async def predict(item_id: ItemId, request: PredictRequest) -> PredictAnswer:
        """Masks for clicks and a box on the item's image, by the item's own model version."""
        # On threads of its own: waiting clicks must not keep heartbeats waiting.
        return await to_thread.run_sync(_answer, models, subjects, item_id, request, limiter=turn)

    @router.post("/items/{item_id}/find", responses=responses, dependencies=[MAY_SEE])
    async def find(item_id: ItemId, request: FindRequest) -> FindAnswer:
        """All masks that a text means on the item's image, by the item's own model version."""
        return await to_thread.run_sync(_found, models, subjects, item_id, request, limiter=turn)

    return router


def _found(
    models: ClickModels, subjects: Subjects, item_id: str, request: FindRequest
) -> FindAnswer:
    subject = subjects.find(item_id)
    try:
        found = models.find(subject.image_id, subject.model_version, request.text)
    except ValueError as error:
        raise invalid(str(error)) from error
    except LookupError as error:
        raise _gone(item_id) from error
    return FindAnswer(
        model_version=subject.model_version,
        presence=found.presence,
        masks=tuple(
            FoundMask(segmentation=one.rle, score=one.score, predicted_iou=_share(one))
            for one in found.masks
        ),
    )


def _share(mask: TextMask) -> float:
    """Its predicted IoU, which a model may think beyond what there is."""
    return min(1.0, max(0.0, mask.predicted_iou))


def _gone(item_id: str) -> ProblemError:
    return unknown(f"item {item_id}: its image or its model is gone")


def _answer(
    models: ClickModels, subjects: Subjects, item_id: str, request: PredictRequest
) -> PredictAnswer:
    subject = subjects.find(item_id)
    try:
        request.check_inside(subject.hw)
        answers = models.predict(
            subject.image_id,
            subject.model_version,
            prompt_of(request),
            window=request.window,
            multimask=request.wants_multimask,
        )
    except ValueError as error:
        raise invalid(str(error)) from error
    except LookupError as error:
        raise _gone(item_id) from error
    return PredictAnswer(model_version=subject.model_version, masks=masks_of(answers))
