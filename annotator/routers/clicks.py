"""POST /api/items/{item_id}/predict: a prompt in, masks out."""

from collections.abc import Sequence
from typing import Any

import anyio
import numpy as np
from anyio import to_thread
from fastapi import APIRouter

from annotator.desk import Subject, Subjects
from annotator.messages import Logits, PredictAnswer, PredictedMask, PredictRequest
from annotator.ports import ClickModels
from annotator.problems import invalid, unknown
from annotator.routers.access import MAY_SEE
from annotator.routers.items import REFUSALS, ItemId
from engine import rle
from engine.model.interactive import Answer
from engine.model.prompts import Prompts


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

    return router


def _answer(
    models: ClickModels, subjects: Subjects, item_id: str, request: PredictRequest
) -> PredictAnswer:
    subject = subjects.find(item_id)
    try:
        request.check_inside(subject.hw)
        answers = _predict(models, subject, request)
    except ValueError as error:
        raise invalid(str(error)) from error
    except LookupError as error:
        raise unknown(f"item {item_id}: its image or its model is gone") from error
    return PredictAnswer(model_version=subject.model_version, masks=_masks(answers))


def _predict(models: ClickModels, subject: Subject, request: PredictRequest) -> Sequence[Answer]:
    prompt = Prompts(
        points=np.array([request.points], dtype=np.float32) if request.points else None,
        labels=np.array([request.labels], dtype=np.int64) if request.labels else None,
        boxes=None if request.box is None else np.array([request.box], dtype=np.float32),
        mask_logits=None if request.logits is None else request.logits.to_array()[None],
    )
    return models.predict(
        subject.image_id,
        subject.model_version,
        prompt,
        window=request.window,
        multimask=request.wants_multimask,
    )


def _masks(answers: Sequence[Answer]) -> tuple[PredictedMask, ...]:
    """In the model's order."""
    shapes = rle.encode(np.stack([answer.mask() for answer in answers]))
    return tuple(
        PredictedMask(
            segmentation=shape,
            predicted_iou=answer.iou,
            logits=Logits.of(answer.logits.numpy()),
            window=None if answer.look.is_whole else answer.look.window,
        )
        for shape, answer in zip(shapes, answers, strict=True)
    )
