"""A CLIP: images and texts to unit vectors of one space."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.clip import architectures
from engine.clip.config import NANO, ClipConfig
from engine.clip.frames import Frame, Pixels
from engine.clip.masked_attention import masked_features
from engine.clip.vocabulary import Vocabulary
from engine.identity import canonical_json
from engine.model.device import computing_in
from engine.precision import Precision
from engine.threads import each_image

# Up to so many parameters, batches side by side on a core each are quicker than one on all.
_SMALL = 20_000_000

Embeddings = NDArray[np.float32]


class Clip:
    """One set of weights, ready to embed. Without state between calls; safe to share by threads.

    `batch` images or texts are embedded at once, on `device`; what comes out is float32.
    """

    def __init__(
        self,
        config: ClipConfig,
        module: nn.Module,
        frame: Frame,
        *,
        vocabulary: Vocabulary | None = None,
        batch: int = 64,
    ) -> None:
        self.config = config
        self.module: Any = module.eval()  # open_clip's classes have no types
        self.frame = frame
        self.vocabulary = vocabulary or Vocabulary(config)
        self.device = torch.device("cpu")
        self.batch = batch
        self._precision: Precision = "float32"

    @classmethod
    def new(cls, config: ClipConfig, *, seed: int) -> Self:
        """One with random weights; raises ValueError for an architecture that cannot be had."""
        architectures.check_architecture(config.architecture)
        vocabulary = Vocabulary(config)
        size = vocabulary.size if config.architecture == NANO else None
        module = architectures.build(config, seed=seed, vocabulary_size=size)
        frame = architectures.frame_of(config.architecture, module)
        return cls(config, module, frame, vocabulary=vocabulary)

    def copied(self, device: torch.device | str) -> Self:
        """The same, with weights of its own, on `device`, in evaluation mode."""
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)  # of weights that may change
        other.device = torch.device(device)
        other.module = copy.deepcopy(self.module).to(other.device).eval()
        return other

    def computing(
        self,
        *,
        device: torch.device | str | None = None,
        precision: Precision | None = None,
        batch: int | None = None,
    ) -> Self:
        """The same weights, elsewhere or otherwise; raises ValueError for a batch below 1."""
        if batch is not None and batch < 1:
            raise ValueError(f"batch: must be at least 1, but got {batch}")
        other = copy.copy(self)
        if device is not None and torch.device(device) != self.device:
            other = self.copied(device)
        other._precision = precision or self._precision
        other.batch = batch or self.batch
        return other

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return architectures.dim_of(self.config.architecture)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of what the image tower sees."""
        return self.frame.hw

    @cached_property
    def fingerprint(self) -> str:
        """Names what decides an embedding: architecture, tokens, frame and all weights."""
        digest = hashlib.sha256(canonical_json([self.config, self.frame]).encode())
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return f"{self.config.architecture}-{digest.hexdigest()[:16]}"

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The words of a text that it never learnt, and cannot tell from others like that."""
        return self.vocabulary.unknown_words(text)

    def embed_images(self, images: Sequence[Pixels]) -> Embeddings:
        """(H, W, 3) uint8 RGB each, of any sizes -> (N, D) unit vectors.

        Raises ValueError that names the image for anything else.
        """

        def embedded(first: int) -> Tensor:
            fitted = self.frame.fit(images[first : first + self.batch])
            return self.encode_images(self.frame.normalised(fitted.to(self.device)))

        return self._in_batches(embedded, len(images))

    def embed_masked(self, images: Sequence[Pixels], inside: Sequence[Pixels]) -> Embeddings:
        """N pictures of `image_size`, of which only the patches of a mask are looked at -> (N, D).

        inside: (h, w) uint8 each, 255 in the mask and 0 outside. Raises ValueError for anything
        else, and for an architecture that cannot.
        """
        architectures.check_masked_attention(self.config.architecture, self.module)
        for place, (image, mask) in enumerate(zip(images, inside, strict=True)):
            if not image.shape[:2] == mask.shape == self.image_size:
                raise ValueError(
                    f"images[{place}], inside[{place}]: must be of {self.image_size}, but got "
                    f"{image.shape[:2]} and {mask.shape}"
                )

        def embedded(first: int) -> Tensor:
            few = slice(first, first + self.batch)
            fitted = self.frame.fit(images[few]).to(self.device)
            masks = torch.from_numpy(np.stack(inside[few])).to(self.device)
            return self.encode_masked(self.frame.normalised(fitted), masks.float() / 255)

        return self._in_batches(embedded, len(images))

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """N texts -> (N, D) unit vectors; raises ValueError for one text alone, not in a list."""
        if isinstance(texts, str):
            raise ValueError(f"texts: must be a list of texts, but got {texts!r}")

        def embedded(first: int) -> Tensor:
            tokens = self.vocabulary(texts[first : first + self.batch])
            return self.encode_texts(tokens.to(self.device))

        return self._in_batches(embedded, len(texts))

    def encode_images(self, normalised: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, D) unit vectors in float32, with gradients where they are on."""
        with computing_in(self._precision, self.device):
            found = self.module.encode_image(normalised)
        return F.normalize(found.float(), dim=-1)

    def encode_masked(self, normalised: Tensor, inside: Tensor) -> Tensor:
        """The same of patches that are `inside`, (N, h, w) in [0, 1], alone."""
        with computing_in(self._precision, self.device):
            found = masked_features(self.module.visual, normalised, inside)
        return F.normalize(found.float(), dim=-1)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """(N, context) -> (N, D) unit vectors in float32, with gradients where they are on."""
        with computing_in(self._precision, self.device):
            found = self.module.encode_text(tokens)
        return F.normalize(found.float(), dim=-1)

    def _in_batches(self, embedded: Callable[[int], Tensor], count: int) -> Embeddings:
        starts = range(0, count, self.batch)
        size = sum(parameter.numel() for parameter in self.module.parameters())
        beside = self.device.type == "cpu" and size <= _SMALL
        rows = np.empty((count, self.dim), dtype=np.float32)

        def fill(first: int) -> None:
            with torch.inference_mode():
                rows[first : first + self.batch] = embedded(first).cpu().numpy()

        for _ in each_image(fill, starts, at_once=len(starts) if beside else 1):
            pass
        return rows
