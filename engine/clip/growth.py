"""More words for a CLIP of ours: what it knew before, it says as before."""

from collections.abc import Iterable

import torch
from torch import Tensor

from engine.clip.config import NANO, ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import Vocabulary, tokens_of

_TABLE = "token_embedding.weight"


def unknown_tokens(clip: Clip, texts: Iterable[str]) -> tuple[int, ...]:
    """The tokens of `texts`, rising, that `clip` does not tell apart; none but for `nano-clip`."""
    if clip.config.architecture != NANO:
        return ()
    return tuple(sorted(set(tokens_of(texts)) - set(clip.config.tokens)))


def grown(clip: Clip, texts: Iterable[str]) -> Clip:
    """A CLIP, on the CPU, that knows all tokens of `texts` too; `clip` itself if that does already.

    Each token that `clip` knew has its row as it was, and so each of its texts its embedding, bit
    for bit. A new one begins at random, as its number in open_clip's vocabulary alone decides.
    """
    fresh = unknown_tokens(clip, texts)
    if not fresh:
        return clip
    config = ClipConfig(tokens=tuple(sorted({*clip.config.tokens, *fresh})))
    vocabulary = Vocabulary(config)
    other = Clip.new(config, seed=0).computing(batch=clip.batch)
    state = {name: value.cpu() for name, value in clip.module.state_dict().items()}
    known = state[_TABLE]
    rows = [_beginning(token, known) for token in config.tokens]
    table = torch.stack([known[0], known[0], *rows, known[0], known[0]])
    table[vocabulary.rows_of(clip.config.tokens)] = known
    other.module.load_state_dict({**state, _TABLE: table})
    other.frame = clip.frame
    return other


def _beginning(token: int, known: Tensor) -> Tensor:
    """A row as wide as the `known` ones, by chance that the token alone decides."""
    chance = torch.Generator().manual_seed(token)
    row: Tensor = torch.randn(known.shape[1], generator=chance) * known.std()
    return row
