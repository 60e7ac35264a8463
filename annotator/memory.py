"""What was used last, for whoever would otherwise look it up again."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_REMEMBERED = 1_000

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Memory(Generic[_Key, _Value]):
    """The thousand values that were kept or found last; safe to share between threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: _Key) -> _Value | None:
        """The value of a key, None where it was never kept or is forgotten."""
        with self._lock:
            if key not in self._known:
                return None
            self._known.move_to_end(key)
            return self._known[key]

    def keep(self, key: _Key, value: _Value) -> None:
        """Remember a value, and forget the one that was used longest ago."""
        with self._lock:
            self._known[key] = value
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
