"""A small training on pairs as a process of its own, which tests start, kill, and start several of.

python fit_pairs.py FOLDER STEPS [PROCESSES]: the folder gets a checkpoint for each step, and
`losses.txt` with a line a step. Of so many processes it starts all others itself.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from engine.clip.config import ClipConfig, ClipTrainingConfig
from engine.clip.model import Clip
from engine.clip.pairs import ListedPairs
from engine.clip.trainer import FitReport, fit
from engine.clip.vocabulary import tokens_of
from engine.training.distributed import joined
from engine.training.spawned import helped

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 210), "grey": (128,) * 3}
SIDES = ("left", "right", "top", "bottom")


def drawn(count: int) -> ListedPairs:
    """A bar of a colour at a side of a dark picture, and what that is in words."""
    chance = np.random.default_rng(0)
    images, texts = [], []
    for _ in range(count):
        colour, side = chance.choice(list(COLOURS)), chance.choice(SIDES)
        picture = chance.integers(0, 40, (40, 40, 3)).astype(np.uint8)
        bar = np.index_exp[:, :12] if side in ("left", "right") else np.index_exp[:12]
        picture[bar] = COLOURS[colour]
        images.append(picture[::-1, ::-1] if side in ("right", "bottom") else picture)
        texts.append(f"a {colour} bar at the {side}")
    return ListedPairs(images=images, texts=texts)


class Folder:
    """A checkpoint for each step; the last is that of the highest number."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, step: int, blob: bytes) -> None:
        part = self._path / "part"
        part.write_bytes(blob)
        part.replace(self._path / f"{step:04}.checkpoint")

    def load(self) -> bytes | None:
        kept = sorted(self._path.glob("*.checkpoint"))
        return kept[-1].read_bytes() if kept else None


def run(folder: Path, steps: int, processes: int = 1) -> None:
    def note(report: FitReport) -> None:
        with (folder / "losses.txt").open("a") as file:
            file.write(f"{report.step} {report.loss!r}\n")

    if processes > 1:
        with helped(processes, torch.device("cpu"), partial(train, folder, steps)) as device:
            train(folder, steps, device, note)
    else:
        with joined("cpu") as device:
            train(folder, steps, device, note)


def train(
    folder: Path,
    steps: int,
    device: torch.device,
    note: Callable[[FitReport], None] = lambda _: None,
) -> None:
    pairs = drawn(24)
    clip = Clip.new(ClipConfig(tokens=tokens_of(pairs.texts)), seed=0)
    config = ClipTrainingConfig(
        steps=steps,
        batch_pairs=7,
        pairs_at_once=3,
        warmup_steps=2,
        # Unclipped, the optimiser's first moment after one step is a tenth of the gradient.
        clip_norm=1e9,
        checkpoint_every=1,
    )
    fit(clip, pairs, config, checkpoint=Folder(folder), on_step=note, device=device)


if __name__ == "__main__":
    run(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:]))
