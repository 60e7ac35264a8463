"""Masks of an image as unit vectors: what a CLIP makes of several views of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from engine.clip.architectures import check_masked_attention
from engine.clip.model import Clip, Embeddings
from engine.clip.views import Pixels, Shown, ViewsConfig, shown
from engine.identity import config_hash
from engine.rle import Rle


@dataclass(frozen=True)
class MaskEncoder:
    """A CLIP and the views of a mask that it is shown.

    Raises ValueError for `attention` with a CLIP whose architecture does not allow it.
    """

    clip: Clip
    views: ViewsConfig = field(default_factory=ViewsConfig)

    def __post_init__(self) -> None:
        if "attention" in self.views.views:
            check_masked_attention(self.clip.config.architecture, self.clip.module)

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
            looks = [view for mask in few for view in shown(image, mask, self.views, side)]
            means = self._embedded(looks).reshape(len(few), -1, self.clip.dim).mean(axis=1)
            found[start : start + at_once] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return found

    def _embedded(self, looks: Sequence[Shown]) -> Embeddings:
        """(N, D), those that are looked at as a whole in batches of their own."""
        found = np.empty((len(looks), self.clip.dim), dtype=np.float32)
        whole = [place for place, look in enumerate(looks) if look.inside is None]
        found[whole] = self.clip.embed_images([looks[place].pixels for place in whole])
        masked = [
            (place, look.pixels, look.inside)
            for place, look in enumerate(looks)
            if look.inside is not None
        ]
        if masked:
            places, pictures, inside = (list(column) for column in zip(*masked, strict=True))
            found[places] = self.clip.embed_masked(pictures, inside)
        return found
