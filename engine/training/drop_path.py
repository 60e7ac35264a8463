"""Stochastic depth (Huang et al., 2016) for encoders that were built without it.

Hooks on the residual branches, so no module and no weight has another name. They act only inside
`dropping_by`: everywhere else the encoder is what it was. Threads share one encoder, so what is
dropped depends on the image's key alone, never on a generator that they share.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from engine.model.depth import residual_branches

Key = tuple[int, ...]
_keys: ContextVar[Sequence[Key] | None] = ContextVar("keys", default=None)


def drop_paths(encoder: nn.Module, rate: float) -> None:
    """Let `encoder` drop branches inside `dropping_by`, each block more often, the last at `rate`.

    Raises ValueError for an encoder whose branches are unknown.
    """
    blocks = residual_branches(encoder)
    rates = np.linspace(0, rate, len(blocks))
    branches = [
        (branch, float(rate)) for block, rate in zip(blocks, rates, strict=True) for branch in block
    ]
    for number, (branch, own_rate) in enumerate(branches):
        branch.register_forward_hook(partial(_scaled, number, own_rate))


@contextmanager
def dropping_by(*keys: Key) -> Iterator[None]:
    """Of the images that this thread encodes meanwhile, each loses the branches its key draws."""
    token = _keys.set(keys)
    try:
        yield
    finally:
        _keys.reset(token)


def _scaled(
    number: int, rate: float, _module: nn.Module, _inputs: object, output: Tensor
) -> Tensor | None:
    """The branch's output, or nothing, at the same mean; None lets it be."""
    keys = _keys.get()
    if keys is None or rate == 0:
        return None
    kept = [np.random.default_rng([*key, number, 4]).random() >= rate for key in keys]
    # A branch that works in windows has several rows of each image, one image after the other.
    rows = torch.tensor(kept, device=output.device).repeat_interleave(len(output) // len(keys))
    return output / (1 - rate) * rows.reshape(-1, *[1] * (output.ndim - 1))
