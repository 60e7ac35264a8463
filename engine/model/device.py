"""Where a model computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.precision import Precision


def device_named(name: str) -> torch.device:
    """The device that torch calls `name`; `auto` is a GPU where torch sees one, else the CPU.

    Raises ValueError for a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    seen = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= seen:
        raise ValueError(
            f"must be a device that is there, but got {name!r} and torch sees {seen} GPUs; "
            'set "auto" or "cpu", or install a torch that fits the driver'
        )
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a GPU's memory or this process's ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # Of the CPU's allocator torch says so in words only.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def release_memory() -> None:
    """Give back what torch keeps of a GPU's memory for later, so that other sizes find room."""
    torch.cuda.empty_cache()


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Where that is "bfloat16", matrix products and convolutions keep 8 bits of each factor.

    As torch's autocast has it: norms and softmax stay in float32. Quick on processors made for it.
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


@contextmanager
def quick_products(device: torch.device) -> Iterator[None]:
    """A GPU's float32 matrix products keep 10 bits of each factor (TF32), which is enough to learn.

    For training only; elsewhere torch's default holds, by which convolutions alone may do so.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
