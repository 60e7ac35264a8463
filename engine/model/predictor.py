"""Prompts in, masks out: `embed` an image once, then `predict` masks for prompts on it."""

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Frame, Mask
from engine.model.closer_look import CloserLook
from engine.model.device import computing_in
from engine.model.embedding import ImageEmbedding, as_pixels
from engine.model.prompt_encoder import PromptTensors
from engine.model.prompts import Prompts
from engine.model.sam import Features, PromptableSam
from engine.model.text.reader import TextReader
from engine.precision import Precision

Pixels = npt.NDArray[np.uint8]
_Item = TypeVar("_Item")
# What a core's cache holds.
_FRAMES_AT_ONCE = 8
_IMAGES_AT_ONCE = 8
# Numbers in the cells of all prompts. More leave the cache; with fewer prompts than the latter,
# weights are read too often.
_CELLS_AT_ONCE = 1 << 21
_FEWEST_AT_ONCE = 8
# Prompts that see the same cells, of which only a few are in memory at a time.
_CLICKS_AT_ONCE = 64
# Parameters.
_SMALL = 50_000_000
# While a GPU computes on one image, cores finish another and read a third.
_IMAGES_ON_GPU = 3


@dataclass(frozen=True)
class LikelyMasks:
    """K masks of single clicks on one image, out of three a click.

    logits: (K, h, w) in the frame, positive inside; beyond the picture, but for one row and one
    column, they mean nothing. iou: (K,) the IoU that the model predicts, which may pass 1 by a
    little; which: (K,) int64, their places among all three masks of the first click, of the second,
    and so on, in order. All where the model computes.
    """

    logits: Tensor
    iou: Tensor
    which: Tensor


@dataclass(frozen=True)
class Prediction:
    """Masks for N prompts: M each.

    logits: (N, M, h, w) float32 in the frame, positive inside; iou: (N, M) float32, the IoU that
    the model expects, in [0, 1]; presence: (N,) float32, how likely there is what a text means, in
    [0, 1]; None for prompts without text.
    """

    logits: Tensor
    iou: Tensor
    frame: Frame
    presence: Tensor | None = None

    def masks(self) -> Mask:
        """(N, M, H, W) bool in the original image."""
        num, each = self.logits.shape[:2]
        full = upscale_logits(self.logits.flatten(0, 1), self.frame) > 0
        masks: Mask = full.reshape(num, each, *self.frame.original_hw).numpy()
        return masks

    def best(self) -> npt.NDArray[np.int64]:
        """(N,) the mask of each prompt that the model expects most of."""
        return self.iou.argmax(dim=1).numpy()


def upscale_logits(logits: Tensor, frame: Frame) -> Tensor:
    """(N, h, w) in the frame -> (N, H, W) in the original image, bilinear as in SAM."""
    height, width = frame.resized_hw
    in_frame = F.interpolate(logits[:, None], (frame.side, frame.side), mode="bilinear")
    cropped = in_frame[..., :height, :width]
    return F.interpolate(cropped, frame.original_hw, mode="bilinear")[:, 0]


def to_frame(pixels: npt.NDArray[np.uint8], frame: Frame) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, h, w) float32 in 0..255, resized to fit the frame as SAM does."""
    height, width = frame.resized_hw
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return as_pixels(torch.from_numpy(np.array(resized)))


def framed(model: PromptableSam, pixels: Pixels, frame: Frame, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, S, S) on `device`, resized into the frame and normalised."""
    # Resized on the CPU wherever it computes: devices differ in how they round.
    picture = model.normalised(to_frame(pixels, frame).to(device))
    height, width = frame.resized_hw
    # Padded after normalising, as in SAM: the border is the mean colour.
    return F.pad(picture, (0, frame.side - width, 0, frame.side - height))


class Predictor:
    """One model version, ready to answer. Without state between calls; safe to share by threads.

    It computes on `device`, to which it moves the model, in float32; what goes in and comes out is
    on the CPU and float32, but for `candidates`.
    """

    def __init__(
        self, model: PromptableSam, *, version: str, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self._model = model.eval().to(self.device)
        self._precision: Precision = "float32"
        self._reader: TextReader | None = None
        self.version = version

    def reading(self, reader: TextReader) -> Self:
        """The same model, which answers texts, too; raises ValueError for another encoder's."""
        if reader.encoder_id != self.encoder_id:
            raise ValueError(
                f"text: must be an add-on of encoder {self.encoder_id}, "
                f"but is of {reader.encoder_id}"
            )
        other = copy.copy(self)
        other._reader = reader.on(self.device)
        return other

    @property
    def reads_text(self) -> bool:
        """Whether prompts may have a text."""
        return self._reader is not None

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The words of a text that mean nothing to it; raises ValueError without an add-on."""
        return self._text_reader().unknown_words(text)

    @torch.inference_mode()
    def similarity(self, embedding: ImageEmbedding, texts: Sequence[str]) -> Tensor:
        """(N, h, w) float32 on the CPU, in the frame: logits of where each of N texts may mean.

        Raises ValueError when another encoder made `embedding`, and without an add-on for texts.
        """
        self._check_encoder(embedding)
        reader = self._text_reader()
        features = embedding.batch().to(self.device)
        with computing_in(self._precision, self.device):
            return reader.similarity(features, texts).float().cpu()

    def computing_in(self, precision: Precision) -> Self:
        """The same model, computing in that precision."""
        if precision == self._precision:
            return self
        _ = self.encoder_id  # takes long for a large model, and is the same in every precision
        other = copy.copy(self)
        other._precision = precision
        return other

    @property
    def images_at_once(self) -> int:
        """How many images are quickest side by side (`engine.threads.each_image`).

        On a CPU, a large model would take its memory several times.
        """
        cores = len(os.sched_getaffinity(0))
        if self.device.type != "cpu":
            return min(_IMAGES_ON_GPU, cores)
        size = sum(parameter.numel() for parameter in self._model.parameters())
        return cores if size <= _SMALL else 1

    @property
    def frame_side(self) -> int:
        """The longest side of an image as the model sees it."""
        return int(self._model.side)

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the embedding of a whole image."""
        height, width = self._model.prompt_encoder.image_embedding_size
        return int(self._model.prompt_encoder.embed_dim), int(height), int(width)

    @property
    def closer_look(self) -> CloserLook | None:
        """What to look at again, for a model that is quick enough."""
        return cast("CloserLook | None", self._model.closer_look)

    @cached_property
    def encoder_id(self) -> str:
        """16 hex digits that name the image encoder's weights."""
        return cast("str", self._model.encoder_id())

    def embed(self, pixels: Pixels, *, side: int | None = None) -> ImageEmbedding:
        """(H, W, 3) uint8 RGB -> its embedding; raises ValueError for another array.

        `side`: of a frame smaller than the model's own, for a model with a `closer_look`.
        """
        return self.embed_each([pixels], side=side)[0]

    @torch.inference_mode()
    def embed_each(
        self, images: Sequence[Pixels], *, side: int | None = None
    ) -> list[ImageEmbedding]:
        """`embed` of several images, a few at a time together."""
        made: list[ImageEmbedding] = []
        for few in _in_parts(images, _FRAMES_AT_ONCE):
            frames = [_frame_of(pixels, side or self.frame_side) for pixels in few]
            padded = [
                framed(self._model, pixels, frame, self.device)
                for pixels, frame in zip(few, frames, strict=True)
            ]
            with computing_in(self._precision, self.device):
                encoded = self._model.encode(torch.cat(padded))
            features = encoded.to(torch.device("cpu"), torch.float32)
            for row, frame in enumerate(frames):
                skips = features.skips
                made.append(
                    ImageEmbedding(
                        features=features.embedding[row],
                        skips=None if skips is None else (skips[0][row], skips[1][row]),
                        frame=frame,
                        encoder_id=self.encoder_id,
                    )
                )
        return made

    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool
    ) -> Prediction:
        """Three masks a prompt when `multimask` (for ambiguous prompts), else one.

        Raises ValueError when another encoder made `embedding`.
        """
        return self._predict([embedding], [prompts], multimask=multimask)[0]

    def predict_each(
        self,
        embeddings: Sequence[ImageEmbedding],
        prompts: Sequence[Prompts],
        *,
        multimask: bool,
    ) -> list[Prediction]:
        """`predict` for one `Prompts` on each of several images, a few at a time together.

        All frames are of one side and all prompts have as many points, where a box counts for one
        more, and all or none have texts; raises ValueError otherwise.
        """
        shapes = {_shape(*pair) for pair in zip(embeddings, prompts, strict=True)}
        if len(shapes) > 1:
            raise ValueError(f"prompts: must be alike to be asked together, but got {shapes}")
        found: list[Prediction] = []
        for few in _in_parts(zip(embeddings, prompts, strict=True), _IMAGES_AT_ONCE):
            found += self._predict(*zip(*few, strict=True), multimask=multimask)
        return found

    @property
    def prompts_at_once(self) -> int:
        """How many prompts on one image are quickest together."""
        if self.device.type != "cpu":
            return 1024
        if self._model.prompt_encoder.dots_share_cells and self._precision == "float32":
            return _CLICKS_AT_ONCE
        cells = int(np.prod(self._model.prompt_encoder.image_embedding_size))
        channels = int(self._model.prompt_encoder.embed_dim)
        return max(_FEWEST_AT_ONCE, _CELLS_AT_ONCE // (cells * channels))

    @property
    def batches_at_once(self) -> int:
        """How many batches of prompts are quickest side by side, on as many cores as there are."""
        return torch.get_num_threads() if self.device.type == "cpu" else 1

    @torch.inference_mode()
    def candidates(
        self, embedding: ImageEmbedding, prompts: Prompts, *, min_iou: float
    ) -> LikelyMasks:
        """Of the three masks of each prompt those whose predicted IoU is over `min_iou`.

        What falls short is not drawn where the model can tell before. Raises ValueError when
        another encoder made `embedding`.
        """
        self._check_encoder(embedding)
        if prompts.text is not None:
            raise ValueError("text: must be none to ask for likely masks; ask by predict")
        hw = self.logits_hw(embedding.frame)
        tensors = prompts.to_tensors(embedding.frame, hw)
        index = torch.zeros(len(prompts), dtype=torch.int64, device=self.device)
        picture = _cells_of(embedding, hw)
        features, prompted = embedding.batch().to(self.device), tensors.to(self.device)
        with computing_in(self._precision, self.device):
            found = self._model.decode_above(min_iou, features, index, prompted, picture=picture)
        return LikelyMasks(*found)

    def _check_encoder(self, embedding: ImageEmbedding) -> None:
        if embedding.encoder_id != self.encoder_id:
            raise ValueError(
                f"embedding: must be of encoder {self.encoder_id}, but is of {embedding.encoder_id}"
            )

    @torch.inference_mode()
    def _predict(
        self,
        embeddings: Sequence[ImageEmbedding],
        prompts: Sequence[Prompts],
        *,
        multimask: bool,
    ) -> list[Prediction]:
        for embedding in embeddings:
            self._check_encoder(embedding)
        frames = [embedding.frame for embedding in embeddings]
        tensors = PromptTensors.joined(
            [
                own.to_tensors(frame, self.logits_hw(frame))
                for own, frame in zip(prompts, frames, strict=True)
            ]
        ).to(self.device)
        features = Features.joined([embedding.batch() for embedding in embeddings])
        counts = [len(own) for own in prompts]
        index = torch.arange(len(prompts)).repeat_interleave(torch.tensor(counts))
        asked = features.to(self.device), index.to(self.device), tensors
        texts = [text for own in prompts for text in own.texts]
        presence: Sequence[Tensor | None] = [None] * len(prompts)
        with computing_in(self._precision, self.device):
            if texts:
                answer = self._text_reader().decode(self._model, *asked, texts)
                logits, iou = answer.logits, answer.iou
                presence = torch.split(answer.presence.float().sigmoid().cpu(), counts)
            else:
                logits, iou = self._model.decode(*asked)
        which = slice(1, None) if multimask else slice(0, 1)
        masks = torch.split(logits[:, which].float().cpu(), counts)
        expected = torch.split(iou[:, which].float().clamp(0.0, 1.0).cpu(), counts)
        return [Prediction(*each) for each in zip(masks, expected, frames, presence, strict=True)]

    def _text_reader(self) -> TextReader:
        if self._reader is None:
            raise ValueError(
                "text: needs an add-on for texts and its CLIP, but this predictor has none; "
                "give it one by Predictor.reading"
            )
        return self._reader

    def logits_hw(self, frame: Frame) -> tuple[int, int]:
        """The size of the masks that it gives and takes for a frame."""
        height, width = self._model.logits_hw
        return height * frame.side // self.frame_side, width * frame.side // self.frame_side


def _cells_of(embedding: ImageEmbedding, logits_hw: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns of cells make the logits on which the picture leans."""
    frame, cells_hw = embedding.frame, embedding.features.shape[-2:]
    rows, columns = (
        # The last logit that shows the picture, and one more.
        min(cells, -(-(-(-shown * logits // frame.side) + 1) * cells // logits))
        for shown, logits, cells in zip(frame.resized_hw, logits_hw, cells_hw, strict=True)
    )
    return rows, columns


def _frame_of(pixels: Pixels, side: int) -> Frame:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels: must be (H, W, 3) uint8, but got {pixels.shape} {pixels.dtype}")
    return Frame(original_hw=(pixels.shape[0], pixels.shape[1]), side=side)


def _shape(embedding: ImageEmbedding, prompts: Prompts) -> tuple[int, int, bool]:
    """What prompts must share to be decoded together: the side of the frame, how many points."""
    num_points = 0 if prompts.points is None else prompts.points.shape[1]
    num_points += prompts.boxes is not None
    return embedding.frame.side, num_points, prompts.text is not None


def _in_parts(items: Iterable[_Item], size: int) -> Iterator[tuple[_Item, ...]]:
    rest = iter(items)
    while part := tuple(islice(rest, size)):
        yield part
