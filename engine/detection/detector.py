"""A one-class detector: boxes of objects, whatever they are.

As the paper's second stage has it (Kirillov et al., "Segment Anything", 2023, appendix: a Faster
R-CNN trained on the masks of the first stage with the class "object"), but FCOS (Tian et al.,
"FCOS: fully convolutional one-stage object detection", 2019), which learns from few images.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.detection.config import DetectorConfig
from engine.geometry import Boxes
from engine.model.sam import PromptableSam

_STRIDES = (8, 16, 32, 64)
_CHANNELS = 64
_CONVS = 1
_GROUPS = 32


@runtime_checkable
class Pyramidal(Protocol):
    """An encoder that gives its levels, at strides 4, 8, 16, 32 and 64."""

    level_channels: tuple[int, ...]

    def levels(self, frames: Tensor) -> Sequence[Tensor]:
        """(B, 3, S, S) -> (B, `level_channels`[i], S/k, S/k)."""


class _Pyramid(nn.Module):
    """Levels of one width made of a frozen encoder's.

    Of an encoder with one level, at stride 16, the others are made as in ViTDet (Li et al.,
    "Exploring plain vision transformer backbones for object detection", 2022).
    """

    out_channels = _CHANNELS

    def __init__(self, model: PromptableSam) -> None:
        super().__init__()
        # In a list, where torch does not look: the model is no part of the detector.
        self._model = [model]
        encoder = model.image_encoder
        width = int(model.prompt_encoder.embed_dim)
        self._has_levels = isinstance(encoder, Pyramidal)
        self.finer = nn.Identity() if self._has_levels else nn.ConvTranspose2d(width, width, 2, 2)
        widths = encoder.level_channels[1:] if self._has_levels else (width,) * len(_STRIDES)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, _CHANNELS, 3, padding=1, bias=False),
                nn.GroupNorm(_GROUPS, _CHANNELS),
                nn.ReLU(),
            )
            for channels in widths
        )

    def forward(self, frames: Tensor) -> "OrderedDict[str, Tensor]":
        levels = self._levels(frames)
        return OrderedDict(
            (str(number), smooth(level))
            for number, (smooth, level) in enumerate(zip(self.smooth, levels, strict=True))
        )

    def _levels(self, frames: Tensor) -> list[Tensor]:
        [model] = self._model
        encoder = model.image_encoder
        with torch.no_grad():
            if isinstance(encoder, Pyramidal):
                return list(encoder.levels(frames)[1:])
            embedding = model.encode(frames).embedding
        coarse = F.max_pool2d(embedding, 2)
        return [self.finer(embedding), embedding, coarse, F.max_pool2d(coarse, 2)]


@dataclass(frozen=True)
class Detections:
    """N boxes, best first: (N, 4) xyxy in pixels of the image, and their scores (N,) in [0, 1]."""

    boxes: Boxes
    scores: Boxes

    def __len__(self) -> int:
        return len(self.scores)


class Detector(nn.Module):
    """Finds boxes in frames of `model`, on whose encoder it stands; the encoder does not learn."""

    def __init__(self, model: PromptableSam, config: DetectorConfig) -> None:
        # torchvision takes seconds to import, and few look for boxes.
        from torchvision.models.detection import FCOS
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.fcos import FCOSHead

        super().__init__()
        self.side = model.side
        self.network = FCOS(
            _Pyramid(model),
            num_classes=1,
            anchor_generator=AnchorGenerator(
                tuple((stride,) for stride in _STRIDES), ((1.0,),) * len(_STRIDES)
            ),
            head=FCOSHead(_CHANNELS, num_anchors=1, num_classes=1, num_convs=_CONVS),
            # Frames come as the model wants them; a resize to their own size does nothing.
            min_size=model.side,
            max_size=model.side,
            image_mean=[0.0, 0.0, 0.0],
            image_std=[1.0, 1.0, 1.0],
            score_thresh=config.min_score,
            nms_thresh=config.nms_thresh,
            detections_per_img=config.max_boxes,
            topk_candidates=2 * config.max_boxes,
        )
        # At 0, as it comes, the rectifier behind it lets half of the sides learn nothing.
        nn.init.ones_(self.network.head.regression_head.bbox_reg.bias)

    def loss(self, frames: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """() how wrong it is on frames (B, 3, S, S) with objects in boxes (N, 4) xyxy of each."""
        targets = [
            {"boxes": own, "labels": torch.zeros(len(own), dtype=torch.int64, device=own.device)}
            for own in boxes
        ]
        losses: dict[str, Tensor] = self.network(list(frames), targets)
        return torch.stack(list(losses.values())).sum()

    def find(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, S, S) -> boxes (N, 4) xyxy in the frame and scores (N,), best first."""
        [found] = self.network(list(frame))
        return found["boxes"], found["scores"]
