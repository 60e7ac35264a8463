"""How well texts find their images, and images their texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.clip.model import Embeddings

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Recall:
    """For each k, the share of queries of which a right answer is among the first k, in [0, 1]."""

    texts_of_images: dict[int, float]
    images_of_texts: dict[int, float]


def recall_at(
    images: Embeddings,
    texts: Embeddings,
    ks: Sequence[int] = (1, 5, 10),
    *,
    alike: NDArray[np.int64] | None = None,
) -> Recall:
    """R@k both ways, for (N, D) unit vectors of which the same rows belong together.

    alike: (N,) or (N, K), rows that have the same number, in any of the K columns, are right
    answers to each other. What is as similar as the best right answer comes before it, so that a
    model that finds all the same finds nothing.
    Raises ValueError without rows, or for k below 1.
    """
    if len(images) != len(texts) or not len(images):
        raise ValueError(
            f"images, texts: must be as many, at least 1, but got {len(images)} and {len(texts)}"
        )
    if min(ks) < 1:
        raise ValueError(f"ks: must be at least 1 each, but got {tuple(ks)}")
    groups = (np.arange(len(images)) if alike is None else alike).reshape(len(images), -1)
    return Recall(
        texts_of_images=_one_way(images, texts, groups, ks),
        images_of_texts=_one_way(texts, images, groups, ks),
    )


def _one_way(
    queries: Embeddings, answers: Embeddings, groups: NDArray[np.int64], ks: Sequence[int]
) -> dict[int, float]:
    wrong_before: list[NDArray[np.int64]] = []
    for first in range(0, len(queries), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        similar = queries[rows] @ answers.T
        right = (groups[rows, None] == groups[None, :]).any(axis=-1)
        best = np.where(right, similar, -np.inf).max(axis=1)
        wrong_before.append(((similar >= best[:, None]) & ~right).sum(axis=1))
    ranks = np.concatenate(wrong_before)
    return {k: float((ranks < k).mean()) for k in ks}
