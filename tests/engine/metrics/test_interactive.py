"""Clicks are placed, answered and counted as the protocol says."""

from typing import Any

import numpy as np
import pytest

from engine.metrics.interactive import ClickTrace, click_traces, random_click_ious
from engine.model.interactive import InteractivePredictor

BANDS = [(2, 22), (30, 40)]


def on(model: Any) -> InteractivePredictor:
    pixels = np.zeros((64, 64, 3), np.uint8)
    return InteractivePredictor.on(model, pixels, model.embed(pixels))


def traces(bands: Any, model: Any, **changes: Any) -> list[ClickTrace]:
    truths = np.stack([bands.mask(*band) for band in model.bands])
    settings = {"num_clicks": 10, "num_needed": 5, "target": 0.85} | changes
    return click_traces(on(model), truths, **settings)


def test_iou_follows_the_clicks(bands: Any) -> None:
    model = bands.model(BANDS, growth=(5, 8, 10, 15, 20, 20, 20, 20, 20, 20))
    wide, narrow = traces(bands, model)
    assert [wide.at(click) for click in (1, 3, 5)] == [0.25, 0.5, 1.0]
    assert [narrow.at(click) for click in (1, 3, 5)] == [0.5, 1.0, 1.0]
    assert (wide.num_clicks_to(0.85), narrow.num_clicks_to(0.85)) == (5, 3)
    assert len(wide.ious) == len(narrow.ious) == 10


def test_a_round_is_one_call_and_only_the_first_has_three_answers(bands: Any) -> None:
    model = bands.model(BANDS, growth=(5, 8, 10, 15, 17, 17, 18, 20, 20, 20))
    traces(bands, model)
    # The narrow one is perfect after click 3, the wide one reaches 0.85 at click 5.
    assert model.asked == [(2, 1, True), (2, 2, False), (2, 3, False), (1, 4, False), (1, 5, False)]


def test_what_misses_the_target_goes_on_to_the_end(bands: Any) -> None:
    model = bands.model(BANDS[:1], growth=(5,) * 9 + (19,))
    (trace,) = traces(bands, model)
    assert len(model.asked) == 10
    assert trace.num_clicks_to(0.85) == 10
    (failed,) = traces(bands, bands.model(BANDS[:1], growth=(5,) * 10))
    assert failed.num_clicks_to(0.85) == 10
    assert failed.at(5) == 0.25


def test_the_logits_of_the_answer_that_counted_go_back(bands: Any) -> None:
    model = bands.model(BANDS, growth=(5, 8, 10, 15, 20))
    traces(bands, model, num_clicks=5)
    first, second = model.logits_seen[:2]
    assert first is None
    assert second.shape == (2, 64, 64)
    # Of three answers the one expected to be best has 5 columns.
    np.testing.assert_array_equal((second > 0).sum(axis=(1, 2)), [5 * 64, 5 * 64])


def test_iou_at_a_click_may_fall(bands: Any) -> None:
    model = bands.model(BANDS[:1], growth=(18, 4, 4, 4, 4))
    (trace,) = traces(bands, model, num_clicks=5)
    assert trace.at(1) == 0.9
    assert trace.at(5) == 0.2
    assert trace.num_clicks_to(0.85) == 1


def test_an_empty_answer_is_no_crash(bands: Any) -> None:
    model = bands.model(BANDS[:1], growth=(0, 0, 0, 0, 0))
    (trace,) = traces(bands, model, num_clicks=5)
    assert trace.ious.tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("ious", "target", "clicks"),
    [
        pytest.param([0.9, 0.1, 0.1], 0.85, 1, id="at once"),
        pytest.param([0.1, 0.85, 0.1], 0.85, 2, id="exactly"),
        pytest.param([0.1, 0.2, 0.3], 0.85, 3, id="never"),
    ],
)
def test_number_of_clicks(ious: list[float], target: float, clicks: int) -> None:
    trace = ClickTrace(ious=np.array(ious), expected_iou=0.5, oracle_iou=0.5)
    assert trace.num_clicks_to(target) == clicks


def test_of_three_answers_the_model_may_choose_a_worse_one(bands: Any) -> None:
    # It expects 0.9 of the first answer, which is the band and 4 columns more; the last has 2 more.
    model = bands.model([(2, 22)], growth=(20,) * 10, overshoot=4)
    (trace,) = traces(bands, model, num_clicks=2, num_needed=2)
    assert trace.at(1) == pytest.approx(20 / 24)
    assert trace.oracle_iou == pytest.approx(20 / 22)
    assert trace.expected_iou == pytest.approx(0.9)


def test_a_random_click_is_inside_and_asks_for_three_answers(bands: Any) -> None:
    model = bands.model([(2, 22), (30, 40)], growth=(5,))
    shape = np.zeros((64, 64), dtype=bool)
    shape[7, [3, 5]] = shape[20, 9] = True
    clicks = on(model)
    for seed in range(20):
        random_click_ious(clicks, shape[None], np.random.default_rng(seed))
    clicked = {tuple(points[0, 0].tolist()) for points in model.points_seen}
    assert clicked == {(3.5, 7.5), (5.5, 7.5), (9.5, 20.5)}
    assert model.asked == [(1, 1, True)] * 20
    both = np.stack([bands.mask(*band) for band in model.bands])
    ious = random_click_ious(clicks, both, np.random.default_rng(0))
    assert ious.tolist() == [0.25, 0.5]
