"""An add-on for texts and the CLIP that it was trained with: what a predictor asks."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from engine.model.prompt_encoder import PromptTensors
from engine.model.sam import Features, PromptableSam
from engine.model.text.prompted import TextAnswer, TextEmbedder, TextPrompted


class TextReader:
    """`text` reads what `clip` makes of texts, for models whose image encoder is `encoder_id`.

    Raises ValueError for a CLIP whose vectors have another length.
    """

    def __init__(self, text: TextPrompted, clip: TextEmbedder, *, encoder_id: str) -> None:
        if clip.dim != text.clip_dim:
            raise ValueError(f"clip: must embed in {text.clip_dim} numbers, but does in {clip.dim}")
        self.encoder_id = encoder_id
        self.clip = clip
        self._text = text.eval()
        self._device = torch.device("cpu")

    def on(self, device: torch.device) -> Self:
        """The same, computing there."""
        other = copy.copy(self)
        other._text = self._text.to(device)
        other._device = device
        return other

    def decode(
        self,
        model: PromptableSam,
        features: Features,
        image_index: Tensor,
        prompts: PromptTensors,
        texts: Sequence[str],
    ) -> TextAnswer:
        """Answers to N prompts with N texts, as `TextPrompted.decode`."""
        return self._text.decode(model, features, image_index, prompts, self._vectors(texts))

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The words of a text that its CLIP never learnt."""
        return self.clip.unknown_words(text)

    def similarity(self, features: Features, texts: Sequence[str]) -> Tensor:
        """(N, 2h, 2w) logits of where each of N texts may mean, on one image."""
        locator = self._text.locator
        index = torch.zeros(len(texts), dtype=torch.int64, device=self._device)
        return torch.as_tensor(locator(locator.cells(features), index, self._vectors(texts)))

    def _vectors(self, texts: Sequence[str]) -> Tensor:
        """(N, D); a text that is asked for several times is embedded once."""
        known = list(dict.fromkeys(texts))
        embedded = torch.from_numpy(self.clip.embed_texts(known)).to(self._device)
        vectors = self._text.of_texts(embedded)
        return vectors[[known.index(text) for text in texts]]
