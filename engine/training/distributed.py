"""Several processes that train one model, each on its share of a step's images.

`torchrun --nproc-per-node N -m MODULE` starts them, or `engine.training.spawned`. All have the same
images, configuration and checkpoint; what they add up is what one process would have.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Item = TypeVar("Item")


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Meet the other processes, if `torchrun` started this one; gives the device it computes on.

    device: "cpu" or "cuda", of which each process on a machine takes its own.
    """
    if not dist.is_torchelastic_launched():
        yield torch.device(device)
        return
    try:
        yield meet(torch.device(device).type, dist.get_node_local_rank())
    finally:
        dist.destroy_process_group()


def meet(device_type: str, place: int, **where: Any) -> torch.device:
    """Meet the other processes; gives the device this one computes on, the GPU of number `place`.

    where: as `torch.distributed.init_process_group` takes it; nothing: as `torchrun` says.
    """
    own = torch.device(device_type)
    if own.type == "cuda":
        own = torch.device("cuda", place)
        torch.cuda.set_device(own)
    dist.init_process_group("gloo" if own.type == "cpu" else "cpu:gloo,cuda:nccl", **where)
    return own


@dataclass(frozen=True, kw_only=True)
class Team:
    """The processes of a training and which of them this is; the first, of rank 0, writes."""

    rank: int
    size: int

    @classmethod
    def current(cls) -> Self:
        """Those that have met; one alone where none have."""
        if not dist.is_initialized():
            return cls(rank=0, size=1)
        return cls(rank=dist.get_rank(), size=dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes for all."""
        return self.rank == 0

    def share(self, count: int, setting: str = "batch_images") -> range:
        """Which of `count` items are this process's; raises ValueError if too few for all."""
        if count < self.size:
            raise ValueError(
                f"{setting}: must be at least {self.size}, the number of processes, but got {count}"
            )
        return range(self.rank, count, self.size)

    def gather(self, items: list[Item]) -> list[Item]:
        """The items of all processes, in each of them."""
        if self.size == 1:
            return items
        lists: list[list[Item]] = [[] for _ in range(self.size)]
        dist.all_gather_object(lists, items)
        return [item for some in lists for item in some]

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        """The (N, ...) tensors of all processes, of which N may differ, in each of them."""
        if self.size == 1:
            return [rows]
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        lengths = [int(count) for count in counts]
        # Collectives take tensors of one shape only.
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return [part[:length] for part, length in zip(parts, lengths, strict=True)]

    def add_up(
        self, parameters: Sequence[nn.Parameter], slopes: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The sum over processes for each parameter, None where none of them has a slope."""
        if self.size == 1:
            return list(slopes)
        known = torch.tensor([slope is not None for slope in slopes], dtype=torch.int32)
        known = known.to(parameters[0].device)
        dist.all_reduce(known, dist.ReduceOp.MAX)
        return [
            _sum(parameter, slope) if anywhere else None
            for parameter, slope, anywhere in zip(parameters, slopes, known.tolist(), strict=True)
        ]

    def check_alike(self, step: int, model: nn.Module) -> None:
        """Raises ValueError unless all are at one step with the same weights."""
        if self.size == 1:
            return
        found = self.gather([(step, _checksum(model))])
        if len(set(found)) > 1:
            steps = ", ".join(str(step) for step, _ in found)
            raise ValueError(
                "model and checkpoint: must be the same in every process, but they are at steps "
                f"{steps} or have other weights; let all of them read one folder"
            )


def _sum(parameter: nn.Parameter, slope: Tensor | None) -> Tensor:
    total = torch.zeros_like(parameter) if slope is None else slope
    # Collectives take tensors in the usual order of memory only.
    flat = total.detach().contiguous()
    dist.all_reduce(flat)
    return total.copy_(flat) if flat.data_ptr() != total.data_ptr() else total


def _checksum(model: nn.Module) -> int:
    checksum = 0
    for parameter in model.parameters():
        checksum = zlib.crc32(parameter.detach().cpu().numpy().tobytes(), checksum)
    return checksum
