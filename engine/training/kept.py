"""What a frozen image encoder makes of each crop, kept in memory, so that it is made once."""

from collections.abc import Callable
from threading import Lock

from torch import Tensor

from engine.model.sam import Features

View = tuple[int, int]
"""An image and the number of its crop."""


class KeptFeatures:
    """Features by view, up to `capacity_mb` megabytes; threads may share it.

    Once full, what is in it stays: views come back in turn, so that giving up the oldest would give
    up each just before it is wanted again.
    """

    def __init__(self, capacity_mb: int) -> None:
        self._left = capacity_mb * 2**20
        self._kept: dict[View, Features] = {}
        self._lock = Lock()

    def of(self, view: View | None, make: Callable[[], Features]) -> Features:
        """The features of `view`, made if they are not here; None is a crop that never returns."""
        if view is None:
            return make()
        with self._lock:
            kept = self._kept.get(view)
        return self._keep(view, make()) if kept is None else kept

    def _keep(self, view: View, features: Features) -> Features:
        size = _bytes(features.embedding) + sum(map(_bytes, features.skips or ()))
        with self._lock:
            if view not in self._kept and size <= self._left:
                self._kept[view] = features
                self._left -= size
        return features


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
