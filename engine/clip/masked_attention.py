"""An image transformer that looks at a mask alone: patches outside it do not take part.

What is kept are the class token and the tokens of the mask's patches, at their own places: nobody
attends to another, as in MaskCLIP (Ding et al., 2022) but for training, so that the picture stays
as it is and no edge is seen that a grey background would draw.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Of a patch that takes part, at least so much is the mask's.
_SHARE = 0.25


def masked_features(tower: Any, normalised: Tensor, inside: Tensor) -> Tensor:
    """(N, 3, h, w) images and where on them the masks are, (N, h, w) in [0, 1] -> (N, D).

    tower: an open_clip `VisionTransformer` that `check_masked_attention` lets pass. A mask of which
    no patch has enough has the patches that have most of it; one too small to be seen has all.
    """
    keep = _patches_inside(inside, tower.patch_size)
    counts = keep.sum(dim=1)
    most = int(counts.max())
    # The patches that are kept, in their order; then what fills up to the longest row.
    places = keep.int().argsort(dim=1, descending=True, stable=True)[:, :most] + 1
    places = F.pad(places, (1, 0))
    embedded = tower._embeds(normalised)
    tokens = embedded.gather(1, places[..., None].expand(-1, -1, embedded.shape[-1]))
    beyond = torch.arange(most + 1, device=counts.device) > counts[:, None]
    unseen = beyond if bool(beyond.any()) else None
    for block in tower.transformer.resblocks:
        tokens = _through(block, tokens, unseen)
    pooled, _ = tower._pool(tokens)
    found: Tensor = pooled if tower.proj is None else pooled @ tower.proj
    return found


def _patches_inside(inside: Tensor, patch_hw: tuple[int, int]) -> Tensor:
    """(N, T) bool: the patches that take part, by rows."""
    shares = F.avg_pool2d(inside[:, None], patch_hw).flatten(1)
    return shares >= shares.amax(dim=1, keepdim=True).clamp(max=_SHARE)


def _through(block: Any, tokens: Tensor, unseen: Tensor | None) -> Tensor:
    """A `ResidualAttentionBlock`, which takes masks for each pair of tokens only: heads times L x L
    numbers an image, where one a token says it.
    """
    own = block.ln_1(tokens)
    seen, _ = block.attn(own, own, own, key_padding_mask=unseen, need_weights=False)
    tokens = tokens + block.ls_1(seen)
    passed: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return passed
