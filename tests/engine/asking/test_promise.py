"""Thresholds that keep the promise about accepted proposals."""

import numpy as np
import pytest
from scipy.stats import binom

from engine.asking.promise import (
    SIZES,
    Judged,
    lower_bound,
    overdispersion,
    size_classes,
    thresholds,
)


def judged(
    scores: np.ndarray, accepted: np.ndarray, *, area: int = 400, per_image: int = 1
) -> Judged:
    return Judged(
        scores=scores.astype(np.float64),
        areas=np.full(len(scores), area),
        accepted=accepted.astype(np.bool_),
        images=np.arange(len(scores)) // per_image,
    )


def people(seed: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether people accepted: as often as the score says."""
    random = np.random.default_rng(seed)
    scores = random.uniform(0.5, 1.0, num)
    return scores, random.random(num) < scores


@pytest.mark.parametrize(("accepted", "judged_"), [(1, 1), (59, 59), (58, 59), (95, 100), (7, 40)])
def test_the_bound_is_the_share_at_which_so_many_would_be_luck(accepted: int, judged_: int) -> None:
    bound = lower_bound(accepted, judged_)
    assert binom.sf(accepted - 1, judged_, bound) == pytest.approx(0.05)


def test_nothing_accepted_promises_nothing() -> None:
    assert lower_bound(0, 0) == lower_bound(0, 10) == 0.0


def test_59_in_a_row_promise_95_percent_and_58_do_not() -> None:
    for num, kept in ((58, False), (59, True)):
        scores = np.linspace(0.5, 1.0, num)
        found = thresholds(judged(scores, np.ones(num)), 0.95).of_sizes[1]
        assert (found.least is not None) == kept
        assert found.num_judged == num


def test_the_threshold_is_the_lowest_that_holds() -> None:
    scores = np.linspace(0.0, 1.0, 1001)
    found = thresholds(judged(scores, scores > 0.5), 0.95).of_sizes[1]
    assert found.least is not None
    over = scores[scores >= found.least]
    assert 0.95 <= found.bound <= (over > 0.5).mean()
    # One place lower, where a fiftieth more of all is offered, it does not hold any more.
    lower = scores[scores >= found.least - 0.02]
    assert lower_bound(int((lower > 0.5).sum()), len(lower)) < 0.95


def test_little_data_is_stricter() -> None:
    few, many = (
        thresholds(judged(*people(0, num)), 0.8).of_sizes[1].least for num in (200, 20_000)
    )
    assert many is not None
    assert few is None or few > many


def test_the_promise_is_kept_on_what_was_not_seen() -> None:
    kept = 0
    for seed in range(100):
        found = thresholds(judged(*people(seed, 500)), 0.8).of_sizes[1]
        scores, accepted = people(1000 + seed, 5000)
        offered = accepted[scores >= (1.0 if found.least is None else found.least)]
        kept += bool(offered.mean() >= 0.8) if len(offered) else True
    # The risk is 5% for each threshold; the lowest of many that look good is a lucky one.
    assert kept >= 88


def test_masks_of_one_image_that_go_together_count_as_few() -> None:
    random = np.random.default_rng(0)
    of_image = random.random(40) < 0.9
    together = np.repeat(of_image, 10)
    images = np.arange(400) // 10
    assert overdispersion(together, images) == pytest.approx(10, rel=0.2)
    apart = random.random(400) < 0.9
    assert overdispersion(apart, images) == pytest.approx(1, abs=0.6)


def test_while_all_are_accepted_an_image_counts_as_one() -> None:
    for num_images, kept in ((58, False), (59, True)):
        num = 5 * num_images
        found = thresholds(judged(np.linspace(0, 1, num), np.ones(num), per_image=5), 0.95)
        assert (found.of_sizes[1].least is not None) == kept


def test_one_image_is_one_judgement() -> None:
    assert overdispersion(np.ones(50, dtype=bool), np.zeros(50, dtype=np.int64)) == 50
    found = thresholds(judged(np.linspace(0, 1, 80), np.ones(80), per_image=80), 0.95)
    assert found.of_sizes[1].least is None


def test_each_size_has_a_threshold_of_its_own() -> None:
    scores = np.tile(np.linspace(0, 1, 500), 2)
    areas = np.repeat([100, 5000], 500)
    accepted = np.concatenate([scores[:500] > 0.8, scores[500:] > 0.2])
    found = thresholds(
        Judged(scores=scores, areas=areas, accepted=accepted, images=np.arange(1000)), 0.9
    )
    tiny, small, medium, large = found.of_sizes
    assert (small.least, large.least) == (None, None)
    assert tiny.least is not None
    assert medium.least is not None
    assert tiny.least > medium.least
    assert found.offers(0.5, 5000)
    assert not found.offers(0.5, 100)
    assert not found.offers(1.0, 500)


def test_sizes_begin_at_the_sides_that_part_them() -> None:
    assert len(SIZES) == 4
    assert size_classes([1, 255, 256, 1023, 1024, 9215, 9216]).tolist() == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("promise", [0.0, 1.0, 1.5])
def test_a_promise_is_a_share(promise: float) -> None:
    with pytest.raises(ValueError, match="promise: must be between 0 and 1"):
        thresholds(judged(np.zeros(0), np.zeros(0)), promise)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one array of each"):
        Judged(
            scores=np.zeros(2),
            areas=np.zeros(3, dtype=np.int64),
            accepted=np.zeros(2, dtype=bool),
            images=np.zeros(2, dtype=np.int64),
        )
    with pytest.raises(ValueError, match="scores: must be finite"):
        judged(np.array([np.nan]), np.ones(1))
