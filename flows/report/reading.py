"""The store as the report reads it: one snapshot, so that all numbers of a page agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Store(Protocol):
    """What the report asks of the lake: rows of one snapshot."""

    def rows(
        self, sql: str, params: Sequence[Any] = (), *, snapshot: int | None = None
    ) -> list[dict[str, Any]]:
        """The rows that `sql` selects, as of `snapshot`."""

    def snapshot(self) -> int:
        """The number of the newest snapshot."""


@dataclass(frozen=True)
class Reading:
    """The store at one snapshot, so that all numbers of a page agree."""

    store: Store
    snapshot: int

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows that `sql` selects."""
        return self.store.rows(sql, params, snapshot=self.snapshot)
