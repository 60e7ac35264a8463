"""Stochastic depth (Huang et al., 2016) for encoders that were built without it.

Hooks on the residual branches, so no module and no weight has another name. They act only inside
`dropping_by`: everywhere else the encoder is what it was. Threads share one encoder, so what is
dropped depends on the image's key alone, never on a generator that they share.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import numpy as np
from torch import Tensor, nn

from engine.model.depth import residual_branches

_key: ContextVar[tuple[int, ...] | None] = ContextVar("key", default=None)


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
def dropping_by(*key: int) -> Iterator[None]:
    """Whatever this thread encodes meanwhile, one image, loses the branches that `key` draws."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


def _scaled(
    number: int, rate: float, _module: nn.Module, _inputs: object, output: Tensor
) -> Tensor | None:
    """The branch's output, or nothing, at the same mean; None lets it be."""
    key = _key.get()
    if key is None or rate == 0:
        return None
    if np.random.default_rng([*key, number, 4]).random() < rate:
        return output * 0
    return output / (1 - rate)
