"""Prompts and masks between the API's messages and the model."""

from collections.abc import Sequence

import numpy as np

from annotator.messages import Logits, PredictedMask, PredictRequest
from engine import rle
from engine.model.interactive import Answer
from engine.model.prompts import Prompts


def prompt_of(request: PredictRequest) -> Prompts:
    """The one prompt that a request is."""
    return Prompts(
        points=np.array([request.points], dtype=np.float32) if request.points else None,
        labels=np.array([request.labels], dtype=np.int64) if request.labels else None,
        boxes=None if request.box is None else np.array([request.box], dtype=np.float32),
        mask_logits=None if request.logits is None else request.logits.to_array()[None],
    )


def masks_of(answers: Sequence[Answer]) -> tuple[PredictedMask, ...]:
    """What the model answered to one prompt, in its order."""
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
