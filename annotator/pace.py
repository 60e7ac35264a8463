"""Where to compute: what is short on the event loop, what is long on a thread beside it."""

from collections.abc import Callable
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool

_Result = TypeVar("_Result")


async def paced(work: Callable[[], _Result], *, is_short: bool) -> _Result:
    """What `work` returns; raises what it raises.

    A thread costs a third of a millisecond and its turns to compute, and the event loop has all
    other requests wait: short is what takes a few milliseconds at most.
    """
    return work() if is_short else await run_in_threadpool(work)
