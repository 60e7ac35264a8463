"""Processes that help this one to train: it starts them, and they are gone when it is."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import torch
import torch.distributed as dist

from engine.model.device import is_out_of_memory
from engine.training.distributed import meet

# What a helper does on the device that it is given, in step with who started it.
Work = Callable[[torch.device], object]

_READY = "ready"
# How long after a connection broke it may take until it is known at which end.
_LOSS_TIMEOUT_S = 5.0
_END_TIMEOUT_S = 10.0


class HelperError(RuntimeError):
    """A process that helped has ended before its work was done."""


@contextmanager
def helped(size: int, device: torch.device, work: Work) -> Iterator[torch.device]:
    """Meet `size - 1` processes that are started here and do `work`; gives this one's device.

    On "cuda" each has a GPU, this one the first; on "cpu" they share the cores. This one is the
    first of their `engine.training.distributed.Team`. `work` goes to them as multiprocessing's
    spawn sends it; they end with this process, however that ends, and do not hear Ctrl+C.
    Where one of them ends too early, raises MemoryError if its memory ran out, else HelperError.
    """
    if size == 1:
        yield device
        return
    threads = torch.get_num_threads()
    each = max(1, threads // size)
    with TemporaryDirectory() as folder:
        place = _Place(type=device.type, file=Path(folder) / "meeting", size=size, threads=each)
        helpers = [_Helper.started(rank, place, work) for rank in range(1, size)]
        try:
            for helper in helpers:
                helper.wait_until_ready()
            torch.set_num_threads(each)
            own = place.met(0)
            with _losses_named(helpers):
                yield own
            dist.destroy_process_group()
            for helper in helpers:
                helper.process.join(_END_TIMEOUT_S)
        finally:
            torch.set_num_threads(threads)
            for helper in helpers:
                helper.end()
            if dist.is_initialized():
                dist.destroy_process_group()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where processes meet, on which type of device, how many, with how many threads each."""

    type: str
    file: Path
    size: int
    threads: int

    def met(self, rank: int) -> torch.device:
        where = f"file://{self.file}"
        return meet(self.type, rank, init_method=where, rank=rank, world_size=self.size)


@dataclass(frozen=True, kw_only=True)
class _Helper:
    """A helper as seen by who started it."""

    name: str
    process: SpawnProcess
    heard: Connection

    @classmethod
    def started(cls, rank: int, place: _Place, work: Work) -> Self:
        context = multiprocessing.get_context("spawn")
        heard, said = context.Pipe(duplex=False)
        process = context.Process(target=_help, args=(rank, place, said, work), daemon=True)
        process.start()
        said.close()
        return cls(name=f"process {rank + 1} of {place.size}", process=process, heard=heard)

    def wait_until_ready(self) -> None:
        """Whoever meets waits long for one that does not come. Raises HelperError."""
        try:
            self.heard.recv()
        except EOFError as error:
            raise HelperError(f"{self.name} {self._ending()}") from error

    def loss(self) -> tuple[int, Exception] | None:
        """Why it ended too early, if it did; first what comes of no other process's end."""
        if not self.heard.poll():
            return None
        try:
            known, is_of_memory = self.heard.recv()
        except EOFError:
            ending = self._ending()
            return (0, HelperError(f"{self.name} {ending}")) if self.process.exitcode else None
        what = f"{self.name}: {known}"
        return (1, MemoryError(what)) if is_of_memory else (2, HelperError(what))

    def end(self) -> None:
        """It is gone when this returns."""
        self.process.terminate()
        self.process.join(_END_TIMEOUT_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.heard.close()

    def _ending(self) -> str:
        self.process.join(_END_TIMEOUT_S)
        code = self.process.exitcode or 0
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


@contextmanager
def _losses_named(helpers: Sequence[_Helper]) -> Iterator[None]:
    """A connection that broke becomes the reason why."""
    try:
        yield
    except RuntimeError as error:
        is_of_torch = type(error) is RuntimeError or isinstance(error, dist.DistError)
        if not is_of_torch or is_out_of_memory(error):
            raise
        wait([helper.heard for helper in helpers], _LOSS_TIMEOUT_S)
        losses = [loss for helper in helpers if (loss := helper.loss()) is not None]
        if not losses:
            raise
        raise min(losses, key=lambda loss: loss[0])[1] from error


def _help(rank: int, place: _Place, said: Connection, work: Work) -> None:
    """What a helper runs."""
    # Ctrl+C goes to every process of a terminal's group; who started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(place.threads)
    said.send(_READY)
    try:
        work(place.met(rank))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        said.send((reason, is_out_of_memory(error)))
        # What else there is to say, the one that started it says.
        os._exit(1)
    dist.destroy_process_group()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "it was started by another"
    parent.join()
    os._exit(1)
