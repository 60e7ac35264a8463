"""Meets a process that helps badly, and prints what that raises.

python lose_helper.py HOW: it runs out of memory, is wrong, or is gone at once.
"""

import os
import sys
from functools import partial

import torch

from engine.training.distributed import Team
from engine.training.spawned import helped


def help_badly(how: str, _: torch.device) -> None:
    Team.current().gather([1])
    if how == "memory":
        raise MemoryError("all of it")
    if how == "wrong":
        raise ValueError("weights: must be\nothers")
    os._exit(3)


if __name__ == "__main__":
    try:
        with helped(2, torch.device("cpu"), partial(help_badly, sys.argv[1])) as device:
            assert Team.current().gather([2]) == [2, 1]
            Team.current().gather([str(device)])
    except (MemoryError, RuntimeError) as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
    assert not torch.distributed.is_initialized()
