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

    `embed` gives the embeddings of windows, so that whoever asks often can keep them.
    """

    def __init__(
        self,
        predictor: Predictor,
        embedding: ImageEmbedding,
        embed: Callable[[Sequence[Window]], list[ImageEmbedding]],
    ) -> None:
        self._predictor = predictor
        self._whole = Look.whole(embedding)
        self._embed = embed

    @classmethod
    def on(
        cls, predictor: Predictor, pixels: npt.NDArray[np.uint8], embedding: ImageEmbedding
    ) -> Self:
        """On an image (H, W, 3) uint8 RGB whose embedding is known."""
        return cls(predictor, embedding, lambda windows: embed_windows(predictor, pixels, windows))

    def look(self, window: Window | None) -> Look:
        """The look at a window, or at the whole image.

        Raises ValueError for a window that is not in the image, or of a model that takes none.
        """
        return self._looks([window])[0]

    def _looks(self, windows: Sequence[Window | None]) -> list[Look]:
        whole = self._whole
        new = list(dict.fromkeys(w for w in windows if w is not None and w != whole.window))
        for window in new:
            self._check(window)
        looks = {None: whole, whole.window: whole} | {
            window: Look(window, whole.image_hw, embedding)
            for window, embedding in zip(new, self._embed(new), strict=True)
        }
        return [looks[window] for window in windows]

    def _check(self, window: Window) -> None:
        x0, y0, x1, y1 = window
        height, width = self._whole.image_hw
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"window: must be in the image, {width} x {height}, but got {window}")
        if self._predictor.closer_look is None:
            raise ValueError("window: must be none, for this model sees whole images only")

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
        [answers] = self._answers([(self._whole, prompts)], multimask=multimask)
        return self._closer(answers, _singles(prompts))

    def again(
        self, prompts: Prompts, previous: Sequence[Answer], *, multimask: bool = False
    ) -> list[tuple[Answer, ...]]:
        """The same for N prompts that each go on from an earlier answer, in its look or closer."""
        singles = _singles(prompts)
        looks = self._next_looks(singles, previous)
        answers: dict[int, tuple[Answer, ...]] = {}
        # Whole images and windows have frames of two sizes.
        for is_whole in (True, False):
            rows_by_window: dict[Window, list[int]] = {}
            for row, look in enumerate(looks):
                if look.is_whole == is_whole:
                    rows_by_window.setdefault(look.window, []).append(row)
            asked = [
                (looks[rows[0]], _moved(prompts[rows], looks[rows[0]], [previous[r] for r in rows]))
                for rows in rows_by_window.values()
            ]
            given = self._answers(asked, multimask=multimask)
            for rows, own in zip(rows_by_window.values(), given, strict=True):
                answers |= dict(zip(rows, own, strict=True))
        whole = [row for row, look in enumerate(looks) if look.is_whole]
        nearer = self._closer([answers[row] for row in whole], [singles[row] for row in whole])
        answers |= dict(zip(whole, nearer, strict=True))
        return [answers[row] for row in range(len(looks))]

    def _next_looks(self, prompts: Sequence[Prompts], previous: Sequence[Answer]) -> list[Look]:
        """That of each answer, or where its window does not hold prompt and answer a wider one."""
        looks = [answer.look for answer in previous]
        wider: dict[int, Boxes] = {}
        for row, (prompt, answer) in enumerate(zip(prompts, previous, strict=True)):
            box = _around([answer.box, *_boxes(prompt)])
            if not (answer.look.is_whole or answer.look.holds(box)):
                wider[row] = box
        for row, look in zip(wider, self._looks_at(list(wider.values())), strict=True):
            looks[row] = look
        return looks

    def _looks_at(self, boxes: Sequence[Boxes]) -> list[Look]:
        closer, hw = self._predictor.closer_look, self._whole.image_hw
        return self._looks([closer.window(box, hw) if closer else None for box in boxes])

    def _closer(
        self, answers: Sequence[tuple[Answer, ...]], prompts: Sequence[Prompts]
    ) -> list[tuple[Answer, ...]]:
        """The answers to each prompt seen closer, those for which that is worth it."""
        result = list(answers)
        closer = self._predictor.closer_look
        if closer is None:
            return result
        small: dict[int, Boxes] = {}
        for row, given in enumerate(answers):
            best = max(given, key=lambda answer: answer.iou)
            if best.area < closer.max_area:
                small[row] = _around([best.box, *_boxes(prompts[row])])
        looks = dict(zip(small, self._looks_at(list(small.values())), strict=True))
        looks = {row: look for row, look in looks.items() if not look.is_whole}
        asked = [
            (look, _moved(prompts[row][[0] * len(answers[row])], look, answers[row]))
            for row, look in looks.items()
        ]
        nearer = self._answers(asked, multimask=False)
        for (row, look), new in zip(looks.items(), nearer, strict=True):
            # A whole that does not fit would be cut.
            result[row] = tuple(
                one if look.holds(old.box) else old
                for old, (one,) in zip(answers[row], new, strict=True)
            )
        return result

    def _answers(
        self, asked: Sequence[tuple[Look, Prompts]], *, multimask: bool
    ) -> list[list[tuple[Answer, ...]]]:
        """For each look, all of them of one size, the answers to its prompts."""
        embeddings = [look.embedding for look, _ in asked]
        given = self._predictor.predict_each(
            embeddings, [prompts for _, prompts in asked], multimask=multimask
        )
        return [
            [
                tuple(
                    Answer(logits=logits, iou=float(iou), look=look)
                    for logits, iou in zip(row, ious, strict=True)
                )
                for row, ious in zip(own.logits, own.iou, strict=True)
            ]
            for (look, _), own in zip(asked, given, strict=True)
        ]


def embed_windows(
    predictor: Predictor, pixels: npt.NDArray[np.uint8], windows: Sequence[Window]
) -> list[ImageEmbedding]:
    """Embeddings of windows of (H, W, 3) uint8 RGB, for a predictor with a `closer_look`."""
    if not windows:
        return []
    assert predictor.closer_look is not None, "others do not ask for windows"
    parts = [pixels[y0:y1, x0:x1] for x0, y0, x1, y1 in windows]
    return predictor.embed_each(parts, side=predictor.closer_look.side)


def _singles(prompts: Prompts) -> list[Prompts]:
    return [prompts[row : row + 1] for row in range(len(prompts))]


def _moved(prompts: Prompts, look: Look, previous: Sequence[Answer]) -> Prompts:
    """Prompts that go on from an answer each, as `look` would have them."""
    return look.prompts(prompts, torch.stack([answer.seen_in(look) for answer in previous]))


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
