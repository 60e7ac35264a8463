"""Slows down whoever guesses secrets: failures by address, in memory, over the last minute."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

# A person who pastes the wrong thing tries two or three times; a typing mistake is not possible.
_MOST = 10
_WINDOW_S = 60.0
# Whoever has more addresses than this makes us forget the oldest, not run out of memory.
_MOST_ADDRESSES = 10_000


class Throttle:
    """How long an address must wait before it may show another secret; safe between threads."""

    def __init__(
        self,
        most: int = _MOST,
        window_s: float = _WINDOW_S,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> int:
        """Whole seconds until `address` may try again, 0 for now."""
        with self._lock:
            times = self._failed.get(_network(address))
            if times is None or len(times) < self._most:
                return 0
            return max(0, math.ceil(times[0] + self._window_s - self._clock()))

    def failed(self, address: str) -> None:
        """Remember a failure."""
        key = _network(address)
        with self._lock:
            times = self._failed.setdefault(key, deque(maxlen=self._most))
            times.append(self._clock())
            self._failed.move_to_end(key)
            while len(self._failed) > _MOST_ADDRESSES:
                self._failed.popitem(last=False)


def _network(address: str) -> str:
    """The address, or of IPv6 the network that one customer has for themselves."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))
