"""Images with their texts, to learn from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.clip.frames import Pixels


class Pairs(Protocol):
    """What a training asks of its data; the same index always gives the same pair."""

    def __len__(self) -> int:
        """How many pairs there are."""

    def fetch(self, indices: Sequence[int]) -> tuple[list[Pixels], list[str]]:
        """For each index an image, (H, W, 3) uint8 RGB of any size, and its text."""


@runtime_checkable
class GroupedPairs(Pairs, Protocol):
    """Pairs that know which texts are as right as each other, beyond equal ones."""

    def alike(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """(N, K) where two pairs have a number in common, either's text is right for the other."""


def alike_of(pairs: Pairs, indices: Sequence[int], texts: Sequence[str]) -> NDArray[np.int64]:
    """(N, K) pairs with a number in common are no negatives to each other, as they say or by text.

    texts: those of the pairs.
    """
    return pairs.alike(indices) if isinstance(pairs, GroupedPairs) else equal_texts(texts)[:, None]


def equal_texts(texts: Sequence[str]) -> NDArray[np.int64]:
    """A number for each text, the same for the same text, in every process."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.array(
        [int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=np.int64
    )


@dataclass(frozen=True)
class ListedPairs:
    """Pairs in memory. Raises ValueError for lists of different lengths."""

    images: Sequence[Pixels]
    texts: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.texts):
            raise ValueError(
                f"texts: must be one for each of {len(self.images)} images, "
                f"but got {len(self.texts)}"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def fetch(self, indices: Sequence[int]) -> tuple[list[Pixels], list[str]]:
        """Those pairs."""
        return [self.images[i] for i in indices], [self.texts[i] for i in indices]


class Batches:
    """Which pairs are in the batch of a step: each once, in another order each time round.

    What is left over of a round is left out, so that no pair meets itself in a batch. Raises
    ValueError where not even one batch is whole.
    """

    def __init__(self, count: int, batch_pairs: int, seed: int) -> None:
        if count < batch_pairs:
            raise ValueError(
                f"batch_pairs: must be at most the number of pairs, {count}, but got {batch_pairs}"
            )
        self._batch = batch_pairs
        self._per_round = count // batch_pairs
        self._order = lru_cache(maxsize=2)(
            lambda turn: np.random.default_rng((seed, turn)).permutation(count)
        )

    def of_step(self, step: int) -> list[int]:
        """The indices, for steps counted from 0."""
        turn, place = divmod(step, self._per_round)
        chosen = self._order(turn)[place * self._batch : (place + 1) * self._batch]
        return [int(index) for index in chosen]
