"""The embedding of one image: a value that can be kept, sent, and asked for masks many times."""

import json
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load, save
from torch import Tensor

from engine.geometry import Frame
from engine.model.sam import Features

_HEADER_KEY = "embedding"


@dataclass(frozen=True, kw_only=True)
class ImageEmbedding:
    """features (C, h, w), skips ((C/4, 2h, 2w), (C/8, 4h, 4w)) or None, and their frame.

    `encoder_id` names the encoder's weights: only a model with the same encoder may decode it.
    """

    features: Tensor
    skips: tuple[Tensor, Tensor] | None
    frame: Frame
    encoder_id: str

    @property
    def vector(self) -> npt.NDArray[np.float64]:
        """(C,) the mean of the features: what the image is like as a whole."""
        return np.asarray(self.features.mean(dim=(1, 2)).double().numpy())

    def batch(self) -> Features:
        """As a batch of one image."""
        skips = None if self.skips is None else (_alone(self.skips[0]), _alone(self.skips[1]))
        return Features(_alone(self.features), skips)

    def as_kept(self) -> Self:
        """As `from_bytes` gives it after `to_bytes`: what was kept and what is new decode alike."""
        skips = self.skips
        if skips is not None:
            skips = (skips[0].half().float(), skips[1].half().float())
        return replace(self, features=self.features.half().float(), skips=skips)

    def to_bytes(self) -> bytes:
        """A safetensors file in float16, which halves it and moves logits by under 0.01."""
        tensors = {"features": self.features}
        if self.skips is not None:
            tensors |= {"skip_2x": self.skips[0], "skip_4x": self.skips[1]}
        header = {
            "encoder_id": self.encoder_id,
            "original_hw": self.frame.original_hw,
            "side": self.frame.side,
        }
        return save(
            {name: value.half().contiguous() for name, value in tensors.items()},
            metadata={_HEADER_KEY: json.dumps(header)},
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`, in float32."""
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER_KEY])
        tensors = {name: value.float() for name, value in load(data).items()}
        skips = (tensors["skip_2x"], tensors["skip_4x"]) if "skip_2x" in tensors else None
        height, width = header["original_hw"]
        return cls(
            features=tensors["features"],
            skips=skips,
            frame=Frame(original_hw=(height, width), side=header["side"]),
            encoder_id=header["encoder_id"],
        )


def _alone(part: Tensor) -> Tensor:
    """(C, h, w) -> (1, C, h, w), channels last in memory, as the decoder's convolutions want it."""
    return part[None].contiguous(memory_format=torch.channels_last)


def as_pixels(tensor: Tensor) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in 0..255."""
    return tensor.permute(2, 0, 1).unsqueeze(0).to(torch.float32)
