"""What texts are learnt from: images' features, things on them, and vectors that mean some."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Frame, Mask
from engine.model.sam import Features
from engine.training.text_config import TextTrainingConfig


@dataclass(frozen=True, kw_only=True)
class TextSample:
    """One image and prompts on it.

    features: of one image; targets (M, h, w) float32 in [0, 1], its things at the decoder's
    resolution; vectors (P, D), centred CLIP embeddings; meant (P, M) bool, the things that each
    means, none for what is absent. The first prompts are those that mean something.
    """

    features: Features
    targets: Tensor
    vectors: Tensor
    meant: Tensor


class TextSource(Protocol):
    """What a training of text prompts asks of its data."""

    def __len__(self) -> int:
        """How many images there are."""

    @property
    def clip_fingerprint(self) -> str:
        """Names the CLIP whose vectors these are."""

    @property
    def text_centre(self) -> Tensor:
        """(D,) what was taken off the embeddings of texts."""

    def sample(
        self, index: int, random: np.random.Generator, config: TextTrainingConfig
    ) -> TextSample:
        """Image `index` with `present_per_image` and `absent_per_image` prompts.

        The same draws always give the same.
        """


@dataclass(frozen=True)
class TextBatch:
    """B samples together: T targets of all; prompts N, on images `image_index` (N,), rising.

    meant (N, T) bool; present (N,) bool; drawn (N,) bool, which the decoder answers;
    target_index (T,), which image a target is on.
    """

    features: Features
    targets: Tensor
    vectors: Tensor
    meant: Tensor
    image_index: Tensor
    drawn: Tensor
    target_index: Tensor

    @classmethod
    def joined(cls, samples: Sequence[TextSample], config: TextTrainingConfig) -> Self:
        """Those samples in one batch."""
        drawn = [_drawn(sample.meant.any(dim=1), config.drawn_per_image) for sample in samples]
        prompts = torch.tensor([len(sample.vectors) for sample in samples])
        things = torch.tensor([len(sample.targets) for sample in samples])
        numbers = torch.arange(len(samples))
        return cls(
            features=Features.joined([sample.features for sample in samples]),
            targets=torch.cat([sample.targets for sample in samples]),
            vectors=torch.cat([sample.vectors for sample in samples]),
            meant=_apart([sample.meant for sample in samples]),
            image_index=numbers.repeat_interleave(prompts),
            drawn=torch.cat(drawn),
            target_index=numbers.repeat_interleave(things),
        )

    @property
    def present(self) -> Tensor:
        """(N,) bool."""
        return self.meant.any(dim=1)

    def to(self, device: torch.device) -> Self:
        """The same on `device`, in float32."""
        return type(self)(
            self.features.to(device, torch.float32),
            *(
                part.to(device)
                for part in (
                    self.targets,
                    self.vectors,
                    self.meant,
                    self.image_index,
                    self.drawn,
                    self.target_index,
                )
            ),
        )


def _apart(each: Sequence[Tensor]) -> Tensor:
    """(P, M) bool of several samples -> (N, T), where nothing means what is on another image."""
    joined = torch.zeros(sum(len(own) for own in each), sum(own.shape[1] for own in each)).bool()
    row = column = 0
    for own in each:
        joined[row : row + len(own), column : column + own.shape[1]] = own
        row, column = row + len(own), column + own.shape[1]
    return joined


def _drawn(present: Tensor, count: int) -> Tensor:
    """The first `count` that are present, and half as many that are not."""
    chosen = torch.zeros_like(present)
    chosen[present.nonzero()[:count, 0]] = True
    chosen[(~present).nonzero()[: (count + 1) // 2, 0]] = True
    return chosen


def targets_of(masks: Mask, frame: Frame, logits_hw: tuple[int, int]) -> Tensor:
    """(M, H, W) bool -> (M, h, w) float32, the share of each cell of the frame that is inside."""
    full = torch.from_numpy(masks)[:, None].float()
    height, width = frame.resized_hw
    shrunk = frame.scale < 1
    resized = F.interpolate(full, (height, width), mode="bilinear", antialias=shrunk)
    padded = F.pad(resized, (0, frame.side - width, 0, frame.side - height))
    return F.avg_pool2d(padded, frame.side // logits_hw[0])[:, 0]


def draw_some(random: np.random.Generator, count: int, among: int) -> npt.NDArray[np.int64]:
    """`count` numbers below `among`, each as often as the next one."""
    rounds = -(-count // among)
    return np.concatenate([random.permutation(among) for _ in range(rounds)])[:count]
