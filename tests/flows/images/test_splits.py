"""Splits by hash; near-duplicates and images of one source in one group."""

from itertools import combinations

import numpy as np
import pytest

from flows.images.splits import NEAR_DUPLICATE_BITS, group_images, split_of, unit_hash


def test_a_hash_depends_on_seed_and_key_alone() -> None:
    assert unit_hash(1, "a") == unit_hash(1, "a")
    assert len({unit_hash(1, "a"), unit_hash(2, "a"), unit_hash(1, "b")}) == 3


def test_hashes_are_spread_evenly() -> None:
    values = np.array([unit_hash(0, str(number)) for number in range(4000)])
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert values.min() >= 0
    assert values.max() < 1
    assert counts.min() > 320


@pytest.mark.parametrize(
    ("gold", "labelled", "sides"),
    [
        (0.0, 1.0, {"train"}),
        (1.0, 0.0, {"gold"}),
        (0.0, 0.0, {"unlabelled"}),
        (0.5, 0.5, {"gold", "train"}),
        (0.2, 0.3, {"gold", "train", "unlabelled"}),
    ],
)
def test_fractions_bound_the_sides(gold: float, labelled: float, sides: set[str]) -> None:
    found = {split_of(str(n), seed=0, gold=gold, labelled=labelled) for n in range(200)}
    assert found == sides


def test_more_labels_keep_those_there_were() -> None:
    few, many = (
        {n for n in range(500) if split_of(str(n), seed=0, gold=0.2, labelled=share) == "train"}
        for share in (0.1, 0.4)
    )
    assert few < many


def slow_groups(hashes: dict[str, int], same_source: list[list[str]]) -> dict[str, str]:
    """Compare everybody with everybody until nothing changes."""
    group = {key: key for key in hashes}
    pairs = [
        (a, b)
        for a, b in combinations(hashes, 2)
        if (hashes[a] ^ hashes[b]).bit_count() <= NEAR_DUPLICATE_BITS
    ]
    pairs += [pair for keys in same_source for pair in combinations(keys, 2)]
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            if group[a] != group[b]:
                group[a] = group[b] = min(group[a], group[b])
                changed = True
    return group


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_the_slow_way(seed: int) -> None:
    random = np.random.default_rng(seed)
    hashes: dict[str, int] = {}
    for number in range(60):
        value = int(random.integers(2**63))
        for copy in range(int(random.integers(1, 4))):
            for bit in random.integers(0, 64, int(random.integers(0, 4))):
                value ^= 1 << int(bit)
            hashes[f"{number:02d}-{copy}"] = value
    keys = sorted(hashes)
    sources = [list(random.choice(keys, 3, replace=False)) for _ in range(5)]
    assert group_images(hashes, sources) == slow_groups(hashes, sources)


def test_a_long_burst_of_one_frame_is_one_group() -> None:
    hashes = {f"{number:05d}": 12345 for number in range(20_000)}
    assert set(group_images(hashes).values()) == {"00000"}
