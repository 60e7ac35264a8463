"""A small training as a process of its own, which tests start, kill, and start several of.

python fit_scenes.py FOLDER STEPS: the folder gets a checkpoint for each step, and `losses.txt` with
a line a step.
"""

import sys
from pathlib import Path

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model.registry import ModelConfig, build_model
from engine.training.config import TrainingConfig
from engine.training.distributed import joined
from engine.training.samples import LabelledImage
from engine.training.trainer import StepReport, train


class Scenes:
    def __len__(self) -> int:
        return 4

    def load(self, index: int) -> LabelledImage:
        style = SceneStyle(subject="shapes", hw=(96, 96), num_objects=(2, 3), radius=(12.0, 24.0))
        scene = draw_scene(index, style)
        return LabelledImage(image=scene.image, masks=rle.encode(scene.masks))


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


def fit(folder: Path, steps: int) -> None:
    config = TrainingConfig(
        steps=steps,
        batch_images=3,
        masks_per_image=2,
        background_per_image=1,
        warmup_steps=2,
        # Unclipped, the optimiser's first moment after one step is a tenth of the gradient.
        clip_norm=1e9,
        extra_rounds=(1,),
        extra_rounds_p=(1.0,),
        checkpoint_every=1,
    )

    def note(report: StepReport) -> None:
        with (folder / "losses.txt").open("a") as file:
            file.write(f"{report.step} {report.loss!r}\n")

    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    with joined("cpu") as device:
        train(model, Scenes(), config, checkpoint=Folder(folder), on_step=note, device=device)


if __name__ == "__main__":
    fit(Path(sys.argv[1]), int(sys.argv[2]))
