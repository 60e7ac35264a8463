"""How a stage tells what it is doing, whoever listens: a terminal, Prefect, or nobody."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Progress(Protocol):
    """Listens to a stage."""

    def step(self, what: str, done: int, total: int) -> None:
        """`done` of `total` of `what` are finished."""

    def note(self, text: str) -> None:
        """One line that the user should read."""


class Silent:
    """Listens to nothing."""

    def step(self, what: str, done: int, total: int) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""


_listener: ContextVar[Progress] = ContextVar("_listener", default=Silent())  # noqa: B039 -- stateless


def listener() -> Progress:
    """Who listens in this context. A Prefect flow's parameters are JSON, so this travels beside."""
    return _listener.get()


@contextmanager
def listening(progress: Progress) -> Iterator[None]:
    """Let `progress` hear every stage that runs inside the block."""
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


class Pace:
    """How fast work goes since it began, and how long it will take."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def words(self, done: int, total: int, **counts: int) -> str:
        """Such as `1.2 images/s, 34 masks/s, 3 min left`: each of `counts` a second."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        rates = [f"{_short(count / seconds)} {name}/s" for name, count in counts.items()]
        left = seconds / done * (total - done) if done else 0.0
        return ", ".join([*rates, f"{_duration(left)} left"])


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
