"""How fast work goes, in words."""

import pytest

from flows import progress


@pytest.mark.parametrize(
    ("seconds", "done", "total", "words"),
    [
        (10.0, 5, 20, "0.5 images/s, 12 masks/s, 30 s left"),
        (1000.0, 5, 20, "0.005 images/s, 0.12 masks/s, 50 min left"),
        (10.0, 1, 5000, "0.1 images/s, 12 masks/s, 13.9 h left"),
        (10.0, 20, 20, "2 images/s, 12 masks/s, 0 s left"),
        (10.0, 0, 20, "0 images/s, 12 masks/s, 0 s left"),
    ],
)
def test_pace(
    monkeypatch: pytest.MonkeyPatch, seconds: float, done: int, total: int, words: str
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    pace = progress.Pace()
    now += seconds
    assert pace.words(done, total, images=done, masks=123) == words
