"""How a stage tells what it is doing, whoever listens: a terminal, Prefect, or nobody."""

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
