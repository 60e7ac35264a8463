"""Answers to clicks on one image: of small objects those of a closer look.

There the model answers the same clicks again, with its first answer as the mask prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Boxes, Mask, Window, mask_to_box
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor, upscale_logits
from engine.model.prompts import Prompts

_NOTHING = -10.0


@dataclass(frozen=True)
class Look:
    """A window of an image as the model sees it."""

    window: Window
    image_hw: tuple[int, int]
    embedding: ImageEmbedding

    @classmethod
    def whole(cls, embedding: ImageEmbedding) -> Self:
        """The look at all of an image."""
        height, width = embedding.frame.original_hw
        return cls((0, 0, width, height), (height, width), embedding)

    @property
    def is_whole(self) -> bool:
        """Whether it shows all of the image."""
        return self.embedding.frame.original_hw == self.image_hw

    def prompts(self, prompts: Prompts, mask_logits: Tensor) -> Prompts:
        """Prompts in pixels of the image -> of the window, with these logits (N, h, w)."""
        corner = np.array(self.window[:2], dtype=np.float32)
        points, boxes = prompts.points, prompts.boxes
        return replace(
            prompts,
            points=None if points is None else points - corner,
            boxes=None if boxes is None else boxes - np.tile(corner, 2),
            mask_logits=mask_logits.float().numpy(),
        )

    @property
    def corners(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(x0, y0), (x1, y1) of the window."""
        return self.window[:2], self.window[2:]

    def holds(self, box: Boxes) -> bool:
        """Whether a box (4,) xyxy lies in the window."""
        x0, y0, x1, y1 = self.window
        return bool(x0 <= box[0] and y0 <= box[1] and box[2] <= x1 and box[3] <= y1)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One mask for one prompt: logits (h, w) in the frame of `look`, and the IoU expected of it."""

    logits: Tensor
    iou: float
    look: Look

    def mask(self) -> Mask:
        """(H, W) bool in the image."""
        inside = (upscale_logits(self.logits[None], self.look.embedding.frame)[0] > 0).numpy()
        if self.look.is_whole:
            return np.asarray(inside)
        mask = np.zeros(self.look.image_hw, dtype=np.bool_)
        x0, y0, x1, y1 = self.look.window
        mask[y0:y1, x0:x1] = inside
        return mask

    @property
    def area(self) -> float:
        """Of the mask, in pixels of the frame."""
        return float((self.logits > 0).sum()) * self._stride**2

    @property
    def box(self) -> Boxes:
        """(4,) xyxy around the mask in the image, to a cell; zeros for an empty mask."""
        cells = mask_to_box((self.logits > 0).numpy())
        if not cells.any():
            return cells
        low, high = (np.tile(np.array(corner, np.float32), 2) for corner in self.look.corners)
        # The last cells reach beyond the picture.
        return np.minimum(low + cells * (self._stride / self.look.embedding.frame.scale), high)

    @property
    def _stride(self) -> float:
        return self.look.embedding.frame.side / self.logits.shape[0]

    def seen_in(self, look: Look) -> Tensor:
        """(h, w) the logits as `look` would have them: nothing beyond the window of this one."""
        if look.window == self.look.window:
            return self.logits
        cells = round(look.embedding.frame.side / self._stride)
        # Where the middles of the look's cells lie, in (-1, 1) over the cells of this one.
        places = _middles(look, cells) - torch.tensor(self.look.window[:2], dtype=torch.float32)
        grid = places * (2 * self.look.embedding.frame.scale / self.look.embedding.frame.side) - 1
        raised = (self.logits.float() - _NOTHING)[None, None]
        there = F.grid_sample(raised, grid[None], align_corners=False, padding_mode="zeros")
        return there[0, 0] + _NOTHING


def _middles(look: Look, cells: int) -> Tensor:
    """(cells, cells, 2) the middle (x, y) of each cell of a frame, in pixels of the image."""
    frame = look.embedding.frame
    steps = (torch.arange(cells, dtype=torch.float32) + 0.5) * (frame.side / cells / frame.scale)
    x, y = torch.meshgrid(steps, steps, indexing="xy")
    return torch.stack([x, y], dim=-1) + torch.tensor(look.window[:2], dtype=torch.float32)


class InteractivePredictor:
    """Answers prompts on one image; the answers to one prompt may look at different windows.

    `embed` gives the embedding of a window, so that whoever asks often can keep it.
    """

    def __init__(
        self,
        predictor: Predictor,
        embedding: ImageEmbedding,
        embed: Callable[[Window], ImageEmbedding],
    ) -> None:
        self._predictor = predictor
        self._whole = Look.whole(embedding)
        self._embed = embed

    @classmethod
    def on(
        cls, predictor: Predictor, pixels: npt.NDArray[np.uint8], embedding: ImageEmbedding
    ) -> Self:
        """On an image (H, W, 3) uint8 RGB whose embedding is known."""
        return cls(predictor, embedding, lambda window: embed_window(predictor, pixels, window))

    def look(self, window: Window | None) -> Look:
        """The look at a window, or at the whole image.

        Raises ValueError for a window that is not in the image, or of a model that takes none.
        """
        if window is None or window == self._whole.window:
            return self._whole
        x0, y0, x1, y1 = window
        height, width = self._whole.image_hw
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"window: must be in the image, {width} x {height}, but got {window}")
        if self._predictor.closer_look is None:
            raise ValueError("window: must be none, for this model sees whole images only")
        return Look(window, self._whole.image_hw, self._embed(window))

    def answered(self, logits: npt.NDArray[np.float32], window: Window | None) -> Answer:
        """An answer that was given earlier, from its logits (h, w).

        Raises ValueError as `look` does, and for logits of another size than those of the window.
        """
        look = self.look(window)
        expected = self._predictor.logits_hw(look.embedding.frame)
        if logits.shape != expected:
            raise ValueError(f"mask_logits: must have shape {expected}, but got {logits.shape}")
        return Answer(logits=torch.from_numpy(logits), iou=0.0, look=look)

    def answer(
        self, prompt: Prompts, window: Window | None, *, multimask: bool
    ) -> tuple[Answer, ...]:
        """One prompt whose logits, if it has some, were answered in `window`; raises as `answered`.

        Gives three answers when `multimask`, else one.
        """
        if prompt.mask_logits is None:
            return self.first(prompt, multimask=multimask)[0]
        earlier = self.answered(prompt.mask_logits[0], window)
        return self.again(prompt, [earlier], multimask=multimask)[0]

    def first(self, prompts: Prompts, *, multimask: bool) -> list[tuple[Answer, ...]]:
        """N prompts on the whole image -> for each three answers when `multimask`, else one."""
        answers = self._answers(self._whole, prompts, multimask=multimask)
        return [self._closer(given, prompts[row : row + 1]) for row, given in enumerate(answers)]

    def again(
        self, prompts: Prompts, previous: Sequence[Answer], *, multimask: bool = False
    ) -> list[tuple[Answer, ...]]:
        """The same for N prompts that each go on from an earlier answer, in its look or closer."""
        singles = [prompts[row : row + 1] for row in range(len(prompts))]
        looks = [self._next_look(*pair) for pair in zip(singles, previous, strict=True)]
        answers: dict[int, tuple[Answer, ...]] = {}
        for window in dict.fromkeys(look.window for look in looks):
            rows = [row for row, look in enumerate(looks) if look.window == window]
            look = looks[rows[0]]
            logits = torch.stack([previous[row].seen_in(look) for row in rows])
            asked = look.prompts(prompts[rows], logits)
            answers |= dict(zip(rows, self._answers(look, asked, multimask=multimask), strict=True))
        return [
            self._closer(answers[row], single) if looks[row].is_whole else answers[row]
            for row, single in enumerate(singles)
        ]

    def _next_look(self, prompt: Prompts, previous: Answer) -> Look:
        box = _around([previous.box, *_boxes(prompt)])
        look = previous.look
        return look if look.is_whole or look.holds(box) else self._look_at(box)

    def _look_at(self, box: Boxes) -> Look:
        closer = self._predictor.closer_look
        return self.look(closer.window(box, self._whole.image_hw) if closer else None)

    def _closer(self, answers: tuple[Answer, ...], prompt: Prompts) -> tuple[Answer, ...]:
        """The answers seen closer, those for which that is worth it."""
        closer = self._predictor.closer_look
        if closer is None:
            return answers
        best = max(answers, key=lambda answer: answer.iou)
        if best.area >= closer.max_area:
            return answers
        look = self._look_at(_around([best.box, *_boxes(prompt)]))
        if look.is_whole:
            return answers
        logits = torch.stack([answer.seen_in(look) for answer in answers])
        repeated = look.prompts(prompt[[0] * len(answers)], logits)
        nearer = self._answers(look, repeated, multimask=False)
        # A whole that does not fit would be cut.
        return tuple(
            new if look.holds(old.box) else old for old, (new,) in zip(answers, nearer, strict=True)
        )

    def _answers(
        self, look: Look, prompts: Prompts, *, multimask: bool
    ) -> list[tuple[Answer, ...]]:
        given = self._predictor.predict(look.embedding, prompts, multimask=multimask)
        return [
            tuple(
                Answer(logits=logits, iou=float(iou), look=look)
                for logits, iou in zip(row, ious, strict=True)
            )
            for row, ious in zip(given.logits, given.iou, strict=True)
        ]


def embed_window(
    predictor: Predictor, pixels: npt.NDArray[np.uint8], window: Window
) -> ImageEmbedding:
    """The embedding of a window of (H, W, 3) uint8 RGB, for a predictor with a `closer_look`."""
    assert predictor.closer_look is not None, "others do not ask for windows"
    x0, y0, x1, y1 = window
    return predictor.embed(pixels[y0:y1, x0:x1], side=predictor.closer_look.side)


def _boxes(prompt: Prompts) -> list[Boxes]:
    """Around each click of one prompt, and its box."""
    boxes = [] if prompt.boxes is None else [prompt.boxes[0]]
    if prompt.points is not None and prompt.labels is not None:
        boxes += [np.tile(point, 2) for point in prompt.points[0][prompt.labels[0] >= 0]]
    return boxes


def _around(boxes: Sequence[Boxes]) -> Boxes:
    """(4,) xyxy around all boxes but those of empty masks."""
    real = np.stack([box for box in boxes if np.any(box)] or [np.zeros(4, dtype=np.float32)])
    return np.concatenate([real[:, :2].min(axis=0), real[:, 2:].max(axis=0)])
