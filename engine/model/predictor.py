"""Prompts in, masks out: `embed` an image once, then `predict` masks for prompts on it."""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Frame, Mask
from engine.model.closer_look import CloserLook
from engine.model.embedding import ImageEmbedding, as_pixels
from engine.model.prompts import Prompts
from engine.model.sam import PromptableSam, only_image


@dataclass(frozen=True)
class Prediction:
    """Masks for N prompts: M each.

    logits: (N, M, h, w) float32 in the frame, positive inside; iou: (N, M) float32, the IoU that
    the model expects, in [0, 1].
    """

    logits: Tensor
    iou: Tensor
    frame: Frame

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
    """(H, W, 3) uint8 -> (1, 3, h, w) float32 in 0..255, resized to fit the frame."""
    resized = F.interpolate(
        as_pixels(torch.from_numpy(pixels.copy())),
        frame.resized_hw,
        mode="bilinear",
        antialias=True,
    )
    return resized.round().clamp(0, 255)


class Predictor:
    """One model version, ready to answer. Without state between calls; safe to share by threads.

    It computes on `device`, to which it moves the model; what goes in and comes out is on the CPU.
    """

    def __init__(
        self, model: PromptableSam, *, version: str, device: torch.device | str = "cpu"
    ) -> None:
        self._device = torch.device(device)
        self._model = model.eval().to(self._device)
        self.version = version

    @property
    def frame_side(self) -> int:
        """The longest side of an image as the model sees it."""
        return int(self._model.side)

    @property
    def closer_look(self) -> CloserLook | None:
        """What to look at again, for a model that is quick enough."""
        return cast("CloserLook | None", self._model.closer_look)

    @cached_property
    def encoder_id(self) -> str:
        """16 hex digits that name the image encoder's weights."""
        return cast("str", self._model.encoder_id())

    @torch.inference_mode()
    def embed(self, pixels: npt.NDArray[np.uint8], *, side: int | None = None) -> ImageEmbedding:
        """(H, W, 3) uint8 RGB -> its embedding; raises ValueError for another array.

        `side`: of a frame smaller than the model's own, for a model with a `closer_look`.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels: must be (H, W, 3) uint8, but got {pixels.shape} {pixels.dtype}"
            )
        frame = Frame(original_hw=(pixels.shape[0], pixels.shape[1]), side=side or self.frame_side)
        # Resized on the CPU wherever it computes: devices differ in how they round.
        picture = self._model.normalised(to_frame(pixels, frame).to(self._device))
        height, width = frame.resized_hw
        # Padded after normalising, as in SAM: the border is the mean colour.
        padded = F.pad(picture, (0, frame.side - width, 0, frame.side - height))
        features = self._model.encode(padded).to(torch.device("cpu"))
        skips = None if features.skips is None else (features.skips[0][0], features.skips[1][0])
        return ImageEmbedding(
            features=features.embedding[0], skips=skips, frame=frame, encoder_id=self.encoder_id
        )

    @torch.inference_mode()
    def predict(
        self, embedding: ImageEmbedding, prompts: Prompts, *, multimask: bool
    ) -> Prediction:
        """Three masks a prompt when `multimask` (for ambiguous prompts), else one.

        Raises ValueError when another encoder made `embedding`.
        """
        if embedding.encoder_id != self.encoder_id:
            raise ValueError(
                f"embedding: must be of encoder {self.encoder_id}, but is of {embedding.encoder_id}"
            )
        tensors = prompts.to_tensors(embedding.frame, self.logits_hw(embedding.frame)).to(
            self._device
        )
        features = embedding.batch().to(self._device)
        logits, iou = self._model.decode(features, only_image(len(prompts)), tensors)
        which = slice(1, None) if multimask else slice(0, 1)
        return Prediction(
            logits[:, which].cpu(), iou[:, which].clamp(0.0, 1.0).cpu(), embedding.frame
        )

    def logits_hw(self, frame: Frame) -> tuple[int, int]:
        """The size of the masks that it gives and takes for a frame."""
        height, width = self._model.logits_hw
        return height * frame.side // self.frame_side, width * frame.side // self.frame_side
