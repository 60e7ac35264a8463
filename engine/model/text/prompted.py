"""Text prompts for a promptable model, as an add-on that leaves the model as it is.

After SAM's appendix on text prompts (Kirillov et al., 2023): what asks is a CLIP embedding. In
training it is that of a mask's crop; afterwards that of a text takes its place.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.mask_decoder import BatchedMaskDecoder
from engine.model.prompt_encoder import PADDING, POSITIVE, PromptEmbedding, PromptTensors
from engine.model.sam import Features, PromptableSam
from engine.model.text.locator import Locator, peaks

_SOFTNESS = 0.25
_MAPS = 2


class TextEmbedder(Protocol):
    """What a CLIP must do to be asked by."""

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""

    @property
    def fingerprint(self) -> str:
        """Names its weights and all else that decides an embedding."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts -> (N, D) unit vectors."""

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The words of a text that it cannot tell from other unknown ones."""


class TextAnswer(NamedTuple):
    """Answers to N prompts.

    logits (N, 4, 4h, 4w) and iou (N, 4) as of `PromptableSam.decode`; presence (N,), the logit that
    there is what the text means; similarity (N, 2h, 2w), logits of where that may be.
    """

    logits: Tensor
    iou: Tensor
    presence: Tensor
    similarity: Tensor


class TextPrompted(nn.Module):
    """What a promptable model lacks to be asked by a CLIP embedding of `clip_dim` numbers.

    A map of where the text may be, a token, a mask decoder of its own that starts as the model's,
    and an answer to whether there is anything. A text without points or boxes clicks where its map
    is highest.
    """

    def __init__(self, model: PromptableSam, clip_dim: int) -> None:
        super().__init__()
        channels = int(model.prompt_encoder.embed_dim)
        self.clip_dim = clip_dim
        # CLIP's texts and images lie in two narrow cones (Liang et al., 2022): what all texts have
        # in common is taken off them, as training took off the crops what these have in common.
        self.register_buffer("text_centre", torch.zeros(clip_dim))
        self.with_fine = not model.prompt_encoder.dots_share_cells
        self.locator = Locator(channels, clip_dim, with_skips=self.with_fine)
        self.token = nn.Sequential(nn.Linear(clip_dim, channels), nn.LayerNorm(channels))
        self.map_proj = nn.Conv2d(_MAPS, channels, 1, bias=False)
        self.fine_proj = nn.Conv2d(_MAPS, channels // 4, 1, bias=False)
        # As built, it draws what the model draws for a click there.
        nn.init.zeros_(self.map_proj.weight)
        nn.init.zeros_(self.fine_proj.weight)
        decoder: BatchedMaskDecoder = copy.deepcopy(model.mask_decoder)
        self.mask_decoder = decoder.requires_grad_(True)
        last = nn.Linear(channels, 1)
        self.presence = nn.Sequential(nn.Linear(channels + 3, channels), nn.GELU(), last)
        # As built, a text is as likely there as the peak of its map.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def of_texts(self, embedded: Tensor) -> Tensor:
        """(N, D) a CLIP's embeddings of texts -> the vectors that `decode` takes."""
        return centred(embedded, torch.as_tensor(self.text_centre))

    def decode(
        self,
        model: PromptableSam,
        features: Features,
        image_index: Tensor,
        prompts: PromptTensors,
        vectors: Tensor,
        *,
        cells: Tensor | None = None,
    ) -> TextAnswer:
        """N prompts with vectors (N, clip_dim) on images `image_index` (N,).

        `cells` are `locator.cells(features)`, where they are known. No gradient goes from masks
        and presence into the map, nor into `model`.
        """
        if cells is None:
            cells = self.locator.cells(features)
        similarity = self.locator(cells, image_index, vectors)
        seen = similarity.detach()
        clicked, height = self.clicked(model, prompts, seen)
        with torch.no_grad():
            embedded = model.prompt_encoder.embed(clicked, features.embedding.shape[-1])
        own = features.of(image_index)
        places = model.prompt_encoder.places(features.embedding.shape[-1])
        token, logits, iou = self.mask_decoder.decode_with_token(
            own.embedding, places, self._added(embedded, seen, vectors), own.skips
        )
        with torch.autocast(token.device.type, enabled=False):
            signs = torch.cat([token.float(), _signs(seen, height)], dim=1)
            presence = height.float() + self.presence(signs)[:, 0]
        return TextAnswer(logits, iou, presence, similarity)

    def clicked(
        self, model: PromptableSam, prompts: PromptTensors, similarity: Tensor
    ) -> tuple[PromptTensors, Tensor]:
        """With a click on the map's peak in prompts that have no place yet, and the peaks (N,)."""
        cell, height = peaks(similarity)
        stride = model.side / (2 * model.prompt_encoder.image_embedding_size[0])
        unplaced = (prompts.labels == PADDING).all(dim=1)
        label = torch.where(unplaced, POSITIVE, PADDING)
        clicked = replace(
            prompts,
            points=torch.cat([prompts.points, (cell * stride)[:, None].to(prompts.points)], dim=1),
            labels=torch.cat([prompts.labels, label[:, None]], dim=1),
        )
        return clicked, height

    def _added(
        self, embedded: PromptEmbedding, similarity: Tensor, vectors: Tensor
    ) -> PromptEmbedding:
        """The prompts with the text's token and maps."""
        soft = torch.stack(
            [torch.tanh(similarity * _SOFTNESS), torch.sigmoid(similarity)], dim=1
        ).contiguous(memory_format=torch.channels_last)
        dense = embedded.dense + self.map_proj(F.avg_pool2d(soft, 2))
        fine = None
        if self.with_fine:
            assert embedded.fine is not None, "its prompt encoder gives them"
            fine = embedded.fine + self.fine_proj(soft)
        sparse = torch.cat([embedded.sparse, self.token(vectors)[:, None]], dim=1)
        return PromptEmbedding(sparse, dense, fine)


def centred(embedded: Tensor, centre: Tensor) -> Tensor:
    """(N, D) without `centre` (D,), as unit vectors."""
    return F.normalize(embedded - centre, dim=-1)


def _signs(similarity: Tensor, height: Tensor) -> Tensor:
    """(N, 3) what a map as a whole says: its peak, its highest cell, how much is likely."""
    flat = similarity.float().flatten(1)
    likely = torch.log1p(torch.sigmoid(flat).sum(dim=1))
    return torch.stack([height.float() / 4, flat.max(dim=1).values / 4, likely], dim=1)
