"""Which images are gold, labelled or neither: by hash, and never with near-duplicates apart."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

NEAR_DUPLICATE_BITS = 3
_BANDS = NEAR_DUPLICATE_BITS + 1
_BAND_BITS = 64 // _BANDS


def unit_hash(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing but `seed` and `key`."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Groups:
    """Disjoint sets of keys (union-find with path halving)."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._parent = {key: key for key in keys}

    def find(self, key: str) -> str:
        """The representative of the set of `key`: the smallest key in it."""
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def join(self, a: str, b: str) -> None:
        """Put the sets of `a` and `b` together."""
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low


def group_images(
    hashes: Mapping[str, int], same_source: Iterable[Sequence[str]] = ()
) -> dict[str, str]:
    """Image id -> group id, which is the smallest image id in the group.

    Two images share a group when their 64-bit difference hashes differ in at most
    NEAR_DUPLICATE_BITS bits or when one list of `same_source` names both. By the pigeonhole
    principle such hashes agree in one of NEAR_DUPLICATE_BITS + 1 bands, so only images in one
    bucket are compared.
    """
    groups = Groups(hashes)
    buckets: dict[tuple[int, int], list[str]] = defaultdict(list)
    for key, value in hashes.items():
        for band in range(_BANDS):
            buckets[band, value >> (band * _BAND_BITS) & (2**_BAND_BITS - 1)].append(key)
    for bucket in buckets.values():
        _join_near(bucket, hashes, groups)
    for keys in same_source:
        for key in keys[1:]:
            groups.join(keys[0], key)
    return {key: groups.find(key) for key in hashes}


def _join_near(bucket: Sequence[str], hashes: Mapping[str, int], groups: Groups) -> None:
    # Equal hashes are one image for this purpose: a burst of identical frames stays linear.
    by_hash: dict[int, str] = {}
    for key in bucket:
        first = by_hash.setdefault(hashes[key], key)
        groups.join(first, key)
    distinct = list(by_hash.items())
    for index, (value, key) in enumerate(distinct):
        for other, other_key in distinct[index + 1 :]:
            if (value ^ other).bit_count() <= NEAR_DUPLICATE_BITS:
                groups.join(key, other_key)


def split_of(group: str, *, seed: int, gold: float, labelled: float) -> str:
    """`gold`, `train` or `unlabelled`, for a whole group at once.

    One number per group decides: gold below `gold`, train from there to `gold + labelled`. Later
    imports with the same seed therefore put an image where it would have gone at first.
    """
    position = unit_hash(seed, group)
    if position < gold:
        return "gold"
    return "train" if position < gold + labelled else "unlabelled"
