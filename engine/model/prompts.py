"""What asks a model for masks: clicks, boxes, texts, and the masks it gave before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from engine.geometry import Frame
from engine.model.prompt_encoder import BOTTOM_RIGHT, PADDING, TOP_LEFT, PromptTensors

_LOGIT_LIMIT = 16.0


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """N prompts on one image; positions in pixels of the original image.

    points: (N, K, 2) float (x, y); labels: (N, K) int, 1 positive, 0 negative, -1 no point;
    boxes: (N, 4) xyxy; mask_logits: (N, h, w) float32, `Prediction.logits` of one mask each;
    text: one for all N, or N of them, for a predictor that reads texts (`Predictor.reading`).
    At least one of points, boxes and text must be there; raises ValueError otherwise.
    """

    points: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.int64] | None = None
    boxes: npt.NDArray[np.float32] | None = None
    mask_logits: npt.NDArray[np.float32] | None = None
    text: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.points is None and self.boxes is None and self.text is None:
            raise ValueError("prompts: must have points, boxes or text, but got none of them")
        self._check_text()
        if (self.points is None) != (self.labels is None):
            raise ValueError("points and labels: must come together")
        if self.points is not None and self.labels is not None:
            _check_shape("points", self.points.shape, (len(self), self.points.shape[1], 2))
            _check_shape("labels", self.labels.shape, self.points.shape[:2])
            if not np.isin(self.labels, (-1, 0, 1)).all():
                raise ValueError(f"labels: must be -1, 0 or 1, but got {np.unique(self.labels)}")
        if self.boxes is not None:
            _check_shape("boxes", self.boxes.shape, (len(self), 4))
        if self.mask_logits is not None and len(self.mask_logits) != len(self):
            raise ValueError(f"mask_logits: must be {len(self)}, but got {len(self.mask_logits)}")

    def _check_text(self) -> None:
        if self.text is None:
            return
        if any(not text.strip() for text in self.texts):
            raise ValueError(f"text: must say something, but got {self.text!r}")
        if len(self.texts) != len(self):
            raise ValueError(f"text: must be 1 or {len(self)}, but got {len(self.texts)}")

    def __len__(self) -> int:
        first = self.points if self.points is not None else self.boxes
        if first is not None:
            return len(first)
        assert self.text is not None, "checked at construction"
        return 1 if isinstance(self.text, str) else len(self.text)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each of the N prompts; none where there is no text."""
        if self.text is None:
            return ()
        return (self.text,) * len(self) if isinstance(self.text, str) else self.text

    @classmethod
    def clicks(
        cls,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        mask_logits: npt.NDArray[np.float32] | None = None,
    ) -> Self:
        """One prompt of K clicks; `mask_logits` (h, w)."""
        return cls(
            points=np.asarray([points], dtype=np.float32).reshape(1, -1, 2),
            labels=np.asarray([labels], dtype=np.int64),
            mask_logits=None if mask_logits is None else mask_logits[None],
        )

    @classmethod
    def single_points(cls, points: npt.ArrayLike) -> Self:
        """(N, 2) -> N prompts of one positive click each."""
        array = np.asarray(points, dtype=np.float32).reshape(-1, 1, 2)
        return cls(points=array, labels=np.ones(array.shape[:2], dtype=np.int64))

    def __getitem__(self, which: slice | list[int]) -> Self:
        parts = {name: getattr(self, name) for name in ("points", "labels", "boxes", "mask_logits")}
        numbers = range(len(self))[which] if isinstance(which, slice) else which
        return type(self)(
            **{name: None if v is None else v[which] for name, v in parts.items()},
            text=tuple(self.texts[number] for number in numbers) if self.text else None,
        )

    def to_tensors(self, frame: Frame, logits_hw: tuple[int, int]) -> PromptTensors:
        """In frame pixels, as the prompt encoder takes them; raises ValueError for other logits."""
        points, labels = self._points(frame)
        logits = None
        if self.mask_logits is not None:
            _check_shape("mask_logits", self.mask_logits.shape[1:], logits_hw)
            logits = torch.from_numpy(np.ascontiguousarray(self.mask_logits, dtype=np.float32))
            logits = logits.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT).unsqueeze(1)
        return PromptTensors(points=points, labels=labels, mask_logits=logits)

    def _points(self, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
        points: list[npt.NDArray[np.float32]] = []
        labels: list[npt.NDArray[np.int64]] = []
        if self.points is not None and self.labels is not None:
            points.append(self.points)
            labels.append(self.labels)
        if self.boxes is not None:
            points.append(self.boxes.reshape(-1, 2, 2))
            labels.append(np.tile([TOP_LEFT, BOTTOM_RIGHT], (len(self), 1)))
        else:
            # As the original does: a prompt without a box ends in a point that is none.
            points.append(np.zeros((len(self), 1, 2), dtype=np.float32))
            labels.append(np.full((len(self), 1), PADDING))
        positions = frame.to_frame(np.concatenate(points, axis=1))
        return (
            torch.from_numpy(positions.astype(np.float32)),
            torch.from_numpy(np.concatenate(labels, axis=1).astype(np.int64)),
        )


def _check_shape(field: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{field}: must have shape {tuple(expected)}, but got {tuple(shape)}")
