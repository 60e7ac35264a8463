"""Bounds of memory, lowered where memory runs out all the same."""

from collections.abc import Callable
from typing import TypeVar

from engine.generation.config import GenerationConfig
from engine.model.device import is_out_of_memory, release_memory

Result = TypeVar("Result")


class Bounds:
    """The bounds of one image: of the config, and never more than is quickest."""

    def __init__(self, config: GenerationConfig, *, quickest_batch: int | None = None) -> None:
        batch = config.points_per_batch
        self._bounds = {
            "points_per_batch": batch if quickest_batch is None else min(batch, quickest_batch),
            "pixels_per_strip": config.pixels_per_strip,
        }
        self.savings: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The bound `name` as it is now."""
        return self._bounds[name]

    def within(self, name: str, work: Callable[[int], Result]) -> tuple[Result, int]:
        """What `work` gives for the bound `name`, and that bound: half of it when memory ran out.

        Raises as `work` does, also for memory once the bound is 1.
        """
        while True:
            bound = self._bounds[name]
            try:
                return work(bound), bound
            except (MemoryError, RuntimeError) as error:
                if bound == 1 or not is_out_of_memory(error):
                    raise
            # Only here is what the attempt held gone with its error.
            release_memory()
            self._bounds[name] = self.savings[name] = bound // 2
