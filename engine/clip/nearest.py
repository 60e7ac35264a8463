"""The most similar of millions of unit vectors: exact, one block of float16 after the other."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.threads import image_workers

Block = NDArray[np.float16]

# So many rows in float32 stay in a core's cache.
_ROWS_AT_ONCE = 2048
_SIMILARITIES_AT_ONCE = 1 << 17
# Of one query: a block is several pieces, for all cores.
_MOST_ROWS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """For each query the rows that are most similar, best first, and how similar, in [-1, 1].

    rows: (Q, k) int64, counted through all blocks. similarities: (Q, k) float32. k is what was
    asked for, or all rows if there are fewer.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


def packed(vectors: NDArray[np.float32]) -> Block:
    """(N, D) unit vectors in half the bytes; a similarity changes by less than 0.001."""
    return np.ascontiguousarray(vectors, dtype=np.float16)


def nearest(queries: NDArray[np.float32], blocks: Iterable[Block], k: int) -> Nearest:
    """The `k` rows of all (N, D) `blocks` most similar to each of (Q, D) `queries`.

    Of equally similar rows the first comes first. Only one block need be in memory at a time.
    Raises ValueError for k below 1 or another D.
    """
    if k < 1:
        raise ValueError(f"k: must be at least 1, but got {k}")
    asked = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
    best = [_Best(k) for _ in queries]
    span = max(_ROWS_AT_ONCE, min(_MOST_ROWS, _SIMILARITIES_AT_ONCE // max(1, len(asked))))
    start = 0
    # A product is so short that torch's threads would mostly wait for each other.
    with image_workers(os.cpu_count() or 1) as workers:
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != asked.shape[1]:
                raise ValueError(
                    f"blocks: must be (N, {asked.shape[1]}) as the queries, but got {block.shape}"
                )
            starts = range(0, len(block), span)
            compare = partial(_compared, asked, torch.from_numpy(block), span)
            found = workers.in_order(compare, starts)
            for first, similar in zip(starts, found, strict=True):
                for one, row in zip(best, similar, strict=True):
                    one.take(row, start + first)
            start += len(block)
    count = min(k, start)
    return Nearest(
        rows=np.array([one.rows for one in best], dtype=np.int64).reshape(len(best), count),
        similarities=np.array([one.similarities for one in best], dtype=np.float32).reshape(
            len(best), count
        ),
    )


def _compared(asked: Tensor, block: Tensor, span: int, first: int) -> Tensor:
    """(Q, n) similarities of the `span` rows of `block` from `first` on."""
    rows = block[first : first + span]
    similar = torch.empty(len(asked), len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        few = slice(start, start + _ROWS_AT_ONCE)
        similar[:, few] = asked @ rows[few].float().T
    return similar


class _Best:
    """The `k` best rows so far of one query, best first."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.rows = np.empty(0, dtype=np.int64)
        self.similarities = np.empty(0, dtype=np.float32)

    def take(self, similar: Tensor, start: int) -> None:
        """Rows that follow all earlier ones, so that they lose where they are only as similar."""
        full = len(self.rows) == self._k
        if full:
            better = torch.nonzero(similar > float(self.similarities[-1])).flatten()
            if not len(better):
                return
        elif len(similar) > self._k:
            bar = torch.topk(similar, self._k, sorted=True).values[-1]
            better = torch.nonzero(similar >= bar).flatten()
        else:
            better = torch.arange(len(similar))
        rows = np.concatenate([self.rows, better.numpy() + start])
        values = np.concatenate([self.similarities, similar[better].numpy()])
        # Stable: earlier rows stand before later ones that are as similar.
        order = np.argsort(-values, kind="stable")[: self._k]
        self.rows, self.similarities = rows[order], values[order]
