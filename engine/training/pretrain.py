"""Make the weights that ship: `make pretrain` trains `nano` on drawn worlds, in five runs.

No real image and nobody's label is in them, so they may go anywhere. First all of it learns, then
the estimates of the masks' IoU alone, from masks that no longer change. The weights get a card;
`benchmarks/zero_shot.py --card` adds how good they are. Interrupted, the same command goes on from
its checkpoints. `torchrun --nproc-per-node N -m engine.training.pretrain` shares each batch among N
processes.
"""

import argparse
import hashlib
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from engine import rle
from engine.drawing.worlds import WorldStyle, draw_world
from engine.identity import config_hash
from engine.model import weights
from engine.model.card import ModelCard, TrainingData, write_card
from engine.model.device import device_named
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.training.checkpoint import FileCheckpointer
from engine.training.config import TrainingConfig
from engine.training.distributed import Team, joined
from engine.training.samples import LabelledImage
from engine.training.trainer import StepReport, train

_SIZES = ((320, 320), (256, 256), (240, 360), (360, 240), (320, 480), (480, 320), (448, 448))
# Far from the seeds of tests.
FIRST = 1_000_000
_PARTS_KEPT = 0.5
_AT_ONCE = 50


def world(index: int) -> LabelledImage:
    """World `index` with its masks; only among nuclei is what no mask covers background.

    Half of the parts are left out, or most of what a photograph's world asks for is a part.
    """
    style = WorldStyle(hw=_SIZES[index % len(_SIZES)], nucleus_radius=(4.0, 30.0))
    drawn = draw_world(FIRST + index, style)
    kinds = np.array(drawn.kinds)
    kept = (kinds != "part") | (np.random.default_rng(index).random(len(kinds)) < _PARTS_KEPT)
    complete = bool(np.isin(kinds, ("nucleus", "cell")).all())
    masks = rle.encode(drawn.masks[kept])
    return LabelledImage(image=drawn.image, masks=masks, complete=complete).measured()


class DrawnWorlds:
    """`count` worlds from number `first` on, all drawn beforehand; most of a megabyte each."""

    def __init__(self, count: int, first: int = 0) -> None:
        # Processes, since drawing is Python; as threads they would keep the training waiting.
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            drawn = pool.map(world, range(first, first + count), chunksize=_AT_ONCE)
            self._worlds = list(track(drawn, "worlds drawn", total=count))

    def __len__(self) -> int:
        return len(self._worlds)

    def load(self, index: int) -> LabelledImage:
        """The world that is number `index` of these."""
        return self._worlds[index]


def main() -> None:
    """Train, and write the weights as float16 with their card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--estimate-steps", type=int, default=300)
    parser.add_argument("--worlds", type=int, default=8000)
    parser.add_argument("--first-world", type=int, default=0, help="others than --start knows")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--at-once", type=int, default=64, help="of them together on a GPU")
    parser.add_argument("--start", type=Path, help="weights to go on from; default: random ones")
    parser.add_argument("--checkpoint", type=Path, default=Path("build/pretrain.safetensors"))
    parser.add_argument("--architecture", default="nano")
    parser.add_argument("--out", type=Path, default=weights.shipped())
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    known: ModelCard | None = None
    if options.start is None:
        architecture = ModelConfig(architecture=options.architecture)
        model = build_model(architecture, seed=0)
    else:
        model, known = weights.load_with_card(options.start)
        architecture = known.config
    worlds = DrawnWorlds(options.worlds, options.first_world)
    with joined(device_named(options.device).type) as device:
        for name, config in _phases(options):
            # Named by what is trained on what from where, so that another training starts anew.
            seen = f"{options.first_world}+{len(worlds)}"
            parts = (config_hash(config), seen, _sha256(model, architecture))
            key = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
            checkpoint = options.checkpoint.with_stem(f"{options.checkpoint.stem}-{name}-{key}")
            model = train(
                model,
                worlds,
                config,
                checkpoint=FileCheckpointer(checkpoint),
                on_step=_print,
                device=device,
                data_processes=_data_processes(device),
            ).model
        if Team.current().is_first:
            data = weights.to_bytes(model, architecture, dtype=torch.float16)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_bytes(data)
            write_card(options.out, _card(options, architecture, known, data))


def _sha256(model: PromptableSam, architecture: ModelConfig) -> str:
    return hashlib.sha256(weights.to_bytes(model, architecture)).hexdigest()


def _card(
    options: argparse.Namespace,
    architecture: ModelConfig,
    known: ModelCard | None,
    data: bytes,
) -> ModelCard:
    """What the weights are and, by the card of those they began with, all that they come from.

    Nothing yet of how good they are.
    """
    last = options.first_world + options.worlds - 1
    drawn = TrainingData(
        name=f"drawn worlds {options.first_world} to {last} (engine.drawing.worlds)",
        license="Apache-2.0",
        num_images=options.worlds,
        description="drawn by the project from seeds, with exact masks; no real image",
    )
    size = Team.current().size
    python = "python" if size == 1 else f"torchrun --nproc-per-node {size}"
    command = " ".join([f"{python} -m engine.training.pretrain", *sys.argv[1:]])
    described = (
        f"{options.steps} steps for the masks and {options.estimate_steps} for the estimates of "
        f"their IoU, {options.batch} crops each"
    )
    if known is not None:
        described = f"{known.description}; then {described}"
        command = f"{known.made_by}; {command}"
    return ModelCard(
        config=architecture,
        sha256=hashlib.sha256(data).hexdigest(),
        trained_on=(*(known.trained_on if known else ()), drawn),
        description=described,
        made_by=command,
    )


def _data_processes(device: torch.device) -> int:
    """For each of the team one for each core it has, but for those that feed the GPU."""
    if device.type == "cpu":
        return 0
    return max(1, len(os.sched_getaffinity(0)) // Team.current().size - 3)


def _phases(options: argparse.Namespace) -> list[tuple[str, TrainingConfig]]:
    """What learns first and what then, by name; none of no steps."""
    masks = TrainingConfig(
        steps=max(1, options.steps),
        batch_images=options.batch,
        images_at_once=options.at_once,
        masks_per_image=5,
        background_per_image=1,
        size_bias=0.3,
        extra_rounds=(1, 2, 4),
        extra_rounds_p=(0.55, 0.3, 0.15),
        learning_rate=2e-3,
        scratch_steps=0 if options.start else min(200, options.steps // 8),
        checkpoint_every=100,
        warmup_steps=100,
        ema=0.998,
    )
    estimates = replace(
        masks,
        steps=max(1, options.estimate_steps),
        masks_per_image=8,
        frozen=("masks",),
        scratch_steps=0,
        ema=0.99,
    )
    phases = []
    if options.steps:
        phases.append(("masks", masks))
    if options.estimate_steps:
        phases.append(("estimates", estimates))
    return phases


def _print(report: StepReport) -> None:
    if report.step % 20 == 0:
        sys.stdout.write(
            f"step {report.step}/{report.num_steps} loss {report.loss:.3f} iou {report.iou:.3f} "
            f"{report.seconds:.2f} s\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
