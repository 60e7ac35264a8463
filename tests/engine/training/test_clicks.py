import numpy as np
import pytest
import torch

from engine.training.clicks import NEGATIVE, POSITIVE, next_click, random_clicks


def disk(x: float, y: float, radius: float, size: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] + 0.5
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def brute_deepest(region: np.ndarray) -> float:
    """The largest distance from a pixel of `region` to one outside it, the border included."""
    padded = np.pad(region, 1)
    inside, outside = np.argwhere(padded), np.argwhere(~padded)
    distances = np.linalg.norm(inside[:, None] - outside[None], axis=2).min(axis=1)
    return float(distances.max())


def test_the_first_click_is_the_middle() -> None:
    x, y, label = next_click(disk(20, 35, 12))
    assert (abs(x - 20) <= 1, abs(y - 35) <= 1, label) == (True, True, POSITIVE)


def test_the_click_is_as_deep_as_brute_force_says() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        truth = random.random((12, 15)) < 0.7
        found = random.random((12, 15)) < 0.5
        x, y, label = next_click(truth, found)
        missing, extra = truth & ~found, found & ~truth
        region = missing if label == POSITIVE else extra
        assert region[int(y), int(x)]
        deepest = max(brute_deepest(missing), brute_deepest(extra))
        assert brute_deepest(region) == pytest.approx(deepest)


def test_too_much_is_taken_away() -> None:
    x, y, label = next_click(disk(20, 20, 8), disk(20, 20, 8) | disk(45, 45, 10))
    assert label == NEGATIVE
    assert disk(45, 45, 4)[int(y), int(x)]


def test_what_is_right_needs_no_click() -> None:
    with pytest.raises(ValueError, match="no click is needed"):
        next_click(disk(20, 20, 8), disk(20, 20, 8))


def test_random_clicks_lie_in_the_error_with_its_label() -> None:
    truth = torch.from_numpy(np.stack([disk(20, 20, 8), disk(30, 30, 9)]))
    logits = torch.where(torch.from_numpy(np.stack([disk(24, 20, 8)] * 2)), 3.0, -3.0)
    random = np.random.default_rng(0)
    for _ in range(20):
        places, labels = random_clicks(truth, logits, random.random(2))
        for row in range(2):
            x, y = (int(value) for value in places[row])
            assert bool(truth[row, y, x]) == (labels[row] == POSITIVE)
            assert bool(truth[row, y, x]) != bool(logits[row, y, x] > 0)


def test_random_clicks_on_a_perfect_mask_confirm_it() -> None:
    truth = torch.from_numpy(disk(20, 20, 8))[None]
    places, labels = random_clicks(truth, torch.where(truth, 3.0, -3.0), np.array([0.5]))
    assert labels.tolist() == [POSITIVE]
    assert bool(truth[0, int(places[0, 1]), int(places[0, 0])])
