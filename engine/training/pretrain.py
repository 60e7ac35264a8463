"""Make the weights that ship: `python -m engine.training.pretrain` trains `nano` on drawn shapes.

No real image and nobody's label is in them, so they may go anywhere. Interrupted, the same command
goes on from its checkpoint.
"""

import argparse
import sys
from pathlib import Path

import torch

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model import weights
from engine.model.registry import ModelConfig, build_model
from engine.training.config import TrainingConfig
from engine.training.samples import LabelledImage
from engine.training.trainer import StepReport, train


class DrawnScenes:
    """Scene after scene, drawn when asked for."""

    def __init__(self, count: int, style: SceneStyle) -> None:
        self._count = count
        self._style = style

    def __len__(self) -> int:
        return self._count

    def load(self, index: int) -> LabelledImage:
        """Scene `index` with its masks."""
        # Far from the seeds of the demo and of the tests.
        scene = draw_scene(1_000_000 + index, self._style)
        return LabelledImage(image=scene.image, masks=rle.encode(scene.masks))


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, step: int, blob: bytes) -> None:
        part = self._path.with_suffix(f".{step}.tmp")
        part.write_bytes(blob)
        part.replace(self._path)

    def load(self) -> bytes | None:
        return self._path.read_bytes() if self._path.exists() else None


def main() -> None:
    """Train and write the weights as float16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--architecture", default="nano")
    parser.add_argument("--out", type=Path, default=weights.shipped())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    architecture = ModelConfig(architecture=options.architecture)
    config = TrainingConfig(
        steps=options.steps,
        learning_rate=2e-3,
        scratch_steps=min(250, options.steps // 8),
        checkpoint_every=100,
        ema=0.998,
    )
    result = train(
        build_model(architecture, seed=0),
        DrawnScenes(config.steps * config.batch_images, SceneStyle.shapes()),
        config,
        checkpoint=_File(options.checkpoint),
        on_step=_print,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(weights.to_bytes(result.model, architecture, dtype=torch.float16))


def _print(report: StepReport) -> None:
    if report.step % 20 == 0:
        sys.stdout.write(
            f"step {report.step}/{report.num_steps} loss {report.loss:.3f} iou {report.iou:.3f} "
            f"{report.seconds:.2f} s\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
