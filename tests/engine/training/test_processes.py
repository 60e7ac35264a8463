"""A training in processes of its own: killed and started again, and shared among several."""

import math
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
from torch import nn

from engine.training.distributed import Team

SCRIPT = Path(__file__).parent / "fit_scenes.py"
PROJECT = Path(__file__).parents[3]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def command(*options: str, folder: Path, steps: int) -> list[str]:
    return [sys.executable, *options, str(SCRIPT), str(folder), str(steps)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}


def losses(folder: Path) -> dict[int, str]:
    """The loss of each step, the last one noted where a step was done twice."""
    file = folder / "losses.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return {int(step): loss for step, loss in (line.split() for line in lines)}


@pytest.fixture
def fit() -> Callable[[Path, int], None]:
    """The same training in this process."""
    found: Callable[[Path, int], None] = runpy.run_path(str(SCRIPT))["fit"]
    return found


# Three starts of Python with torch take some seconds.
def test_a_training_that_was_killed_goes_on_to_the_same_losses_and_weights(
    tmp_path: Path, fit: Callable[[Path, int], None]
) -> None:
    steps, killed, whole = 12, tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    fit(whole, steps)
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
    last = f"{steps:04}.checkpoint"
    found, wanted = (load_file(folder / last) for folder in (killed, whole))
    assert found.keys() == wanted.keys()
    for tensors in (found, wanted):
        # The last column is the seconds that a step took.
        tensors["records"] = tensors["records"][:, :-1]
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


# Two more processes, and torchrun itself.
def test_two_processes_give_the_gradients_and_the_weights_of_one(
    tmp_path: Path, fit: Callable[[Path, int], None]
) -> None:
    steps, alone, shared = 4, tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    fit(alone, steps)
    ran = subprocess.run(
        command(*TORCHRUN, folder=shared, steps=steps),
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert sorted(file.name for file in shared.iterdir()) == sorted(
        file.name for file in alone.iterdir()
    )
    assert len((shared / "losses.txt").read_text().splitlines()) == steps, "only the first writes"
    one, two = (
        [load_file(folder / f"{n:04}.checkpoint") for n in (1, steps)] for folder in (alone, shared)
    )
    assert one[0].keys() == two[0].keys()
    for name, value in one[0].items():
        if name.startswith("optimiser."):
            difference = (value - two[0][name]).abs().max()
            assert difference <= 1e-5 * value.abs().max(), name
    # Adam turns rounding errors of gradients near 0 into whole steps, and a click may move by them.
    assert distance(one[1], two[1]) <= 0.1 * distance(one[1], one[0])


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Euclidean, between two checkpoints' weights."""
    names = [name for name in one if name.startswith("model.")]
    return math.sqrt(sum(float((one[name] - other[name]).square().sum()) for name in names))


def test_each_image_is_one_process_s() -> None:
    shares = [list(Team(rank=rank, size=3).share(8)) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_fewer_images_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_images: must be at least 4, .* but got 3"):
        Team(rank=0, size=4).share(3)


def test_processes_with_other_weights_or_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    team, model = Team(rank=0, size=2), nn.Linear(2, 2)
    others: list[tuple[int, int]] = []

    def noted(_: Team, items: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [*items, *(others or items)]

    monkeypatch.setattr(Team, "gather", noted)
    team.check_alike(3, model)
    others.append((4, 0))
    with pytest.raises(ValueError, match="same in every process, but they are at steps 3, 4"):
        team.check_alike(3, model)
