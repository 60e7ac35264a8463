"""Intervals over images, against drawing the images one by one."""

import numpy as np
import pytest

from engine.metrics.bootstrap import (
    ImageMeans,
    image_draws,
    interval,
    paired_differences,
    resampled_ratio,
)


def test_a_draw_takes_as_many_images_as_there_are() -> None:
    draws = image_draws(7, seed=0)
    assert draws.shape == (1000, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
    np.testing.assert_array_equal(draws, image_draws(7, seed=0))
    assert not np.array_equal(draws, image_draws(7, seed=1))


def test_a_ratio_counts_masks_not_images() -> None:
    random = np.random.default_rng(0)
    images = [random.random(num) for num in (1, 4, 9, 0, 2)]
    draws = image_draws(5, seed=1, resamples=50)
    found = resampled_ratio(draws, [image.sum() for image in images], list(map(len, images)))
    for ratio, draw in zip(found, draws, strict=True):
        drawn = [np.tile(image, times) for image, times in zip(images, draw, strict=True)]
        assert ratio == pytest.approx(np.concatenate(drawn).mean())


def test_a_draw_of_nothing_has_no_ratio_and_no_say() -> None:
    ratios = resampled_ratio(np.array([[2, 0], [1, 1], [0, 2]]), [0.0, 3.0], [0, 4])
    assert ratios.tolist() == pytest.approx([np.nan, 0.75, 0.75], nan_ok=True)
    found = interval(ratios)
    assert found is not None
    assert (found.low, found.high) == (0.75, 0.75)
    assert interval(np.full(3, np.nan)) is None


def test_the_interval_is_that_of_the_formula_for_means() -> None:
    values = np.random.default_rng(0).normal(0.6, 0.2, 400)
    found = interval(resampled_ratio(image_draws(400, seed=0), values, np.ones(400)))
    assert found is not None
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.003)
    assert found.high == pytest.approx(values.mean() + half, abs=0.003)


def test_what_is_hard_for_both_models_cancels_out() -> None:
    random = np.random.default_rng(0)
    hard = random.uniform(0.2, 0.9, 30)

    def model(better: float) -> list[ImageMeans]:
        noise = random.normal(0, 0.01, 30)
        return [
            ImageMeans(num_masks=3, metrics={"iou": value})
            for value in (hard + noise + better).tolist()
        ]

    old, new = model(0.0), model(0.02)
    paired = interval(paired_differences(new, old, ["iou"])[:, 0])
    assert paired is not None
    assert 0.01 < paired.low < 0.02 < paired.high < 0.03
    alone = interval(
        resampled_ratio(image_draws(30, seed=0), [m.metrics["iou"] for m in new], np.ones(30))
    )
    assert alone is not None
    assert alone.high - alone.low > 10 * (paired.high - paired.low)


def test_images_with_more_masks_weigh_more() -> None:
    new = [ImageMeans(num_masks=num, metrics={"a": value}) for num, value in ((1, 1.0), (9, 0.0))]
    old = [ImageMeans(num_masks=num, metrics={"a": 0.0}) for num in (1, 9)]
    values = set(np.round(paired_differences(new, old, ["a"])[:, 0], 6).tolist())
    assert values == {0.0, 0.1, 1.0}
