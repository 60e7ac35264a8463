"""`maskloop clip train --processes` as a command that is killed, or loses a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.clip.weights import load

STEPS = 60
FEW = ["--fresh", "--batch", "6", "--holdout", "0", "--device", "cpu", "--json"]


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    folder = tmp_path / "captioned"
    folder.mkdir()
    for number in range(12):
        shade = np.full((16, 16, 3), 20 * number, dtype=np.uint8)
        Image.fromarray(shade).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a box {number}")
    return folder


def started(folder: Path, out: Path, *, steps: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "flows.cli.app", "clip", "train", str(folder)]
    options = ["--out", str(out), "--steps", str(steps), "--processes", "2"]
    return subprocess.Popen(
        [*command, *options, *FEW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def helper_of(process: "subprocess.Popen[str]") -> int:
    """The process that it started to train with it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    [found] = [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return found


def checkpoint_of(process: "subprocess.Popen[str]", folder: Path) -> Path:
    """Waits for the first state that it keeps."""
    while not (found := list(folder.glob("*.checkpoint"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    [path] = found
    return path


def test_killed_it_leaves_no_process_and_goes_on_to_the_same_end(
    captioned: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    out = tmp_path / "shared.safetensors"
    with started(captioned, out, steps=STEPS) as process:
        checkpoint_of(process, tmp_path)
        helper = helper_of(process)
        process.kill()
    while Path(f"/proc/{helper}").exists():
        time.sleep(0.01)
    assert not out.exists()
    with started(captioned, out, steps=STEPS) as process:
        printed, errors = process.communicate()
    assert process.returncode == 0, errors
    shared = json.loads(printed)
    assert (shared["processes"], shared["resumed_at"]) == (2, 50)
    assert not list(tmp_path.glob("*.checkpoint"))
    alone = tmp_path / "alone.safetensors"
    said = cli("clip", "train", captioned, "--out", alone, "--steps", STEPS, *FEW)
    assert said.code == 0
    one = json.loads(said.out)
    assert (one["processes"], one["resumed_at"]) == (1, 0)
    assert shared["loss"] == pytest.approx(one["loss"], rel=1e-2)
    picture = np.full((16, 16, 3), 90, dtype=np.uint8)
    likeness = load(alone).embed_images([picture]) @ load(out).embed_images([picture]).T
    assert likeness.item() > 0.99


def test_a_process_that_is_lost_ends_it_with_a_line(captioned: Path, tmp_path: Path) -> None:
    with started(captioned, tmp_path / "o.safetensors", steps=100_000) as process:
        kept = checkpoint_of(process, tmp_path)
        os.kill(helper_of(process), signal.SIGKILL)
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        "error: clip train: process 2 of 2 was ended by signal 9; the same command goes on from "
        "its checkpoint, also with other --processes"
    )
    assert kept.exists()


@pytest.mark.parametrize("count", [0, 7])
def test_more_processes_than_pairs_of_a_step_are_refused(
    captioned: Path, tmp_path: Path, cli: Callable[..., Any], count: int
) -> None:
    out = tmp_path / "o.safetensors"
    said = cli("clip", "train", captioned, "--out", out, *FEW, "--processes", count)
    assert said.code == 2
    assert said.errors[-1] == (
        f"error: --processes: must be from 1 to 6, the pairs of a step, but got {count}"
    )
