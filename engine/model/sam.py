"""A promptable model as training and generation call it: encode once, decode many prompts."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from engine.model.closer_look import CloserLook
from engine.model.mask_decoder import BatchedMaskDecoder
from engine.model.prompt_encoder import MixedPromptEncoder, PromptEmbedding, PromptTensors
from engine.model.sam_parts import Sam


class Features(NamedTuple):
    """What the decoder needs of B images: embedding (B, C, h, w) and the skips, finest last."""

    embedding: Tensor
    skips: tuple[Tensor, Tensor] | None

    @classmethod
    def joined(cls, each: Sequence[Self]) -> Self:
        """Those of several images, of one encoder, in one."""
        if len(each) == 1:
            return each[0]
        embedding = torch.cat([features.embedding for features in each])
        skips = [features.skips for features in each if features.skips is not None]
        if not skips:
            return cls(embedding, None)
        twice, four_times = (torch.cat(levels) for levels in zip(*skips, strict=True))
        return cls(embedding, (twice, four_times))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Self:
        """The same on `device`, and as `dtype`."""
        skips = self.skips
        if skips is not None:
            skips = (skips[0].to(device, dtype), skips[1].to(device, dtype))
        return type(self)(self.embedding.to(device, dtype), skips)

    def of(self, image_index: Tensor) -> Self:
        """The features of image `image_index[n]` for each prompt n; an only image's as they are."""
        if len(self.embedding) == 1:
            return self
        skips = None
        if self.skips is not None:
            skips = (self.skips[0][image_index], self.skips[1][image_index])
        return type(self)(self.embedding[image_index], skips)


class PromptableSam(Sam):
    """A `Sam` whose three parts are called for batches, with gradients where torch keeps them.

    segment_anything's own `forward` is `no_grad` and takes one image a call. `closer_look`: for a
    model that is quick enough to encode a window of an image for one click.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: MixedPromptEncoder,
        mask_decoder: BatchedMaskDecoder,
        *,
        side: int,
        pixel_mean: list[float],
        pixel_std: list[float],
        closer_look: CloserLook | None = None,
    ) -> None:
        super().__init__(image_encoder, prompt_encoder, mask_decoder, pixel_mean, pixel_std)
        self.side = side
        self.closer_look = closer_look

    def encoder_id(self) -> str:
        """16 hex digits that name the image encoder's weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.image_encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def encode(self, frames: Tensor) -> Features:
        """(B, 3, S, S) normalised frames -> their features; S is `side`, or a closer look's."""
        encoded = self.image_encoder(frames.contiguous(memory_format=torch.channels_last))
        if isinstance(encoded, tuple):
            return Features(*encoded)
        return Features(encoded, None)

    def decode(
        self, features: Features, image_index: Tensor, prompts: PromptTensors
    ) -> tuple[Tensor, Tensor]:
        """N prompts on images `image_index` (N,) -> logits (N, 4, h, w), predicted IoU (N, 4).

        (h, w) are `logits_hw` for frames of `side`, and as much smaller as the frames are.
        """
        logits, iou = self.mask_decoder.decode(*self._asked(features, image_index, prompts))
        return logits, iou

    def decode_above(
        self,
        min_iou: float,
        features: Features,
        image_index: Tensor,
        prompts: PromptTensors,
        *,
        picture: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the three masks of each of N prompts those with a predicted IoU over `min_iou`.

        -> logits (K, h, w), predicted IoU (K,), which of the 3 N they are (K,). `picture`: rows and
        columns of the embedding beyond which masks need not be drawn.
        """
        asked = self._asked(features, image_index, prompts)
        height, width = picture or features.embedding.shape[2:]
        logits, iou, which = self.mask_decoder.decode_above(min_iou, *asked, (height, width))
        return logits, iou, which

    def _asked(
        self, features: Features, image_index: Tensor, prompts: PromptTensors
    ) -> tuple[Tensor, Tensor, PromptEmbedding, tuple[Tensor, Tensor] | None]:
        """What the mask decoder takes."""
        cells = features.embedding.shape[-1]
        embedded = self.prompt_encoder.embed(prompts, cells)
        own = features.of(image_index)
        return own.embedding, self.prompt_encoder.places(cells), embedded, own.skips

    @property
    def logits_hw(self) -> tuple[int, int]:
        """The size of the masks that the decoder gives and takes."""
        height, width = self.prompt_encoder.mask_input_size
        return int(height), int(width)

    def normalised(self, frames: Tensor) -> Tensor:
        """(B, 3, side, side) in 0..255 -> zero mean and unit variance, roughly."""
        return torch.as_tensor((frames - self.pixel_mean) / self.pixel_std)
