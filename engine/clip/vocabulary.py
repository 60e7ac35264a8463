"""Texts as the numbers that a text tower takes."""

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from engine.clip import architectures
from engine.clip.config import NANO, ClipConfig

# What is no token of a text, in the order of its ids: the first ones, and the last.
_BEFORE = 2  # padding, and whatever is not known
_AFTER = 2  # the start, and the end, which a text tower knows by its being the largest
_UNKNOWN = 1


def tokens_of(texts: Iterable[str]) -> tuple[int, ...]:
    """The ids, rising, of all tokens in `texts`: what `ClipConfig.tokens` is made of."""
    encode = architectures.byte_pairs().encode
    return tuple(sorted({int(token) for text in set(texts) for token in encode(text)}))


class Vocabulary:
    """What a CLIP knows of language. Raises ValueError where its tokenizer cannot be had."""

    def __init__(self, config: ClipConfig) -> None:
        self._own = config.architecture == NANO
        if self._own:
            self._places = {token: _BEFORE + i for i, token in enumerate(config.tokens)}
            self._encode = architectures.byte_pairs().encode
        else:
            self._tokenize = architectures.tokenizer_of(config.architecture)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """N texts -> (N, context) int64; what does not fit into the context is cut off."""
        if not self._own:
            return self._tokenize(list(texts))
        rows = torch.zeros(len(texts), architectures.NANO_CONTEXT, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            known = [self._places.get(token, _UNKNOWN) for token in self._encode(text)]
            known = [self.size - 2, *known[: len(row) - _AFTER], self.size - 1]
            row[: len(known)] = torch.tensor(known)
        return rows

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Those of `text` that are one unknown token here, in their order; open_clip's know all."""
        if not self._own:
            return ()
        words = dict.fromkeys(re.findall(r"[^\W_]+", text.lower()))
        return tuple(word for word in words if not self._places.keys() >= set(self._encode(word)))

    def rows_of(self, tokens: Iterable[int]) -> list[int]:
        """The numbers of `nano-clip`'s texts that stand for `tokens` it knows, in their order.

        Before them those of padding and of what is not known, behind them those of start and end.
        """
        ends = range(self.size - _AFTER, self.size)
        return [*range(_BEFORE), *(self._places[token] for token in tokens), *ends]

    @property
    def size(self) -> int:
        """How many different numbers there are in texts of `nano-clip`."""
        assert self._own, "open_clip's architectures say it themselves"
        return _BEFORE + len(self._places) + _AFTER
