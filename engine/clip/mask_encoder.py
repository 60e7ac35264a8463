"""Masks of an image as unit vectors: what a CLIP makes of several views of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from engine.clip.model import Clip, Embeddings
from engine.clip.views import Pixels, ViewsConfig, crops
from engine.identity import config_hash
from engine.rle import Rle


@dataclass(frozen=True)
class MaskEncoder:
    """A CLIP and the views of a mask that it is shown."""

    clip: Clip
    views: ViewsConfig = field(default_factory=ViewsConfig)

    @cached_property
    def encoder_id(self) -> str:
        """Names what decides a vector."""
        return f"{self.clip.fingerprint}-{config_hash(self.views)}"

    def vectors(self, image: Pixels, masks: Sequence[Rle]) -> Embeddings:
        """(N, D) unit vectors of N masks of `image` (H, W, 3): the mean of their views.

        Raises ValueError for an empty mask, or one of another image.
        """
        side = self.clip.image_size[0]
        at_once = max(1, self.clip.batch // len(self.views.views))
        found = np.empty((len(masks), self.clip.dim), dtype=np.float32)
        for start in range(0, len(masks), at_once):
            few = masks[start : start + at_once]
            pictures = [view for mask in few for view in crops(image, mask, self.views, side)]
            views = self.clip.embed_images(pictures).reshape(len(few), -1, self.clip.dim)
            means = views.mean(axis=1)
            found[start : start + at_once] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return found
