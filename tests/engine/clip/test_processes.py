"""A training on pairs in processes of its own: killed and started again, and shared by two."""

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "fit_pairs.py"
PROJECT = Path(__file__).parents[3]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def command(*options: str, folder: Path, steps: int, processes: int = 1) -> list[str]:
    return [sys.executable, *options, str(SCRIPT), str(folder), str(steps), str(processes)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}


def losses(folder: Path) -> dict[int, str]:
    """The loss of each step, the last one noted where a step was done twice."""
    file = folder / "losses.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return {int(step): loss for step, loss in (line.split() for line in lines)}


@pytest.fixture
def run() -> Callable[[Path, int], None]:
    """The same training in this process."""
    found: Callable[[Path, int], None] = runpy.run_path(str(SCRIPT))["run"]
    return found


# Three starts of Python with torch take some seconds.
def test_a_training_that_was_killed_goes_on_to_the_same_losses_and_weights(
    tmp_path: Path, run: Callable[[Path, int], None]
) -> None:
    steps, killed, whole = 12, tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    run(whole, steps)
    with subprocess.Popen(command(folder=killed, steps=steps), env=environment()) as process:
        while len(losses(killed)) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -9
    assert 3 <= len(losses(killed)) < steps
    subprocess.run(command(folder=killed, steps=steps), env=environment(), check=True)
    assert losses(killed) == losses(whole)
    assert list(losses(killed)) == list(range(1, steps + 1))
    found, wanted = (load_file(folder / f"{steps:04}.checkpoint") for folder in (killed, whole))
    assert found.keys() == wanted.keys()
    for tensors in (found, wanted):
        # The last column is the seconds that a step took.
        tensors["records"] = tensors["records"][:, :-1]
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


# Two more processes each time, and torchrun itself.
@pytest.mark.parametrize(
    ("options", "processes"), [(TORCHRUN, 1), ([], 2)], ids=["torchrun", "started by the first"]
)
def test_two_processes_have_the_loss_and_every_gradient_of_one(
    tmp_path: Path, run: Callable[[Path, int], None], options: list[str], processes: int
) -> None:
    steps, alone, shared = 3, tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    run(alone, steps)
    ran = subprocess.run(
        command(*options, folder=shared, steps=steps, processes=processes),
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert len((shared / "losses.txt").read_text().splitlines()) == steps, "only the first writes"
    for step, loss in losses(alone).items():
        assert float(losses(shared)[step]) == pytest.approx(float(loss), rel=1e-5)
    compare(alone / "0001.checkpoint", shared / "0001.checkpoint", "optimiser.", 1e-4)
    compare(alone / "0003.checkpoint", shared / "0003.checkpoint", "model.", 1e-3)


def compare(one: Path, other: Path, prefix: str, tolerance: float) -> None:
    """Each tensor of that prefix is the same up to a part of its largest entry."""
    expected, found = load_file(one), load_file(other)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        # Softmax does not see the biases of keys, and the optimiser enlarges rounding errors.
        if name.startswith(prefix) and not name.endswith("in_proj_bias"):
            largest = float(value.abs().max())
            difference = float((value - found[name]).abs().max())
            assert difference <= tolerance * largest, name
