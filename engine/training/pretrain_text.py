"""Make the text prompts that ship: `python -m engine.training.pretrain_text`, on drawn scenes.

Scenes, their embeddings and their vectors are kept in `--cache`, and the training's state beside
`--checkpoint`: interrupted, the same command goes on. `benchmarks/text_prompts.py --card` adds to
the card how good they are.
"""

import argparse
import hashlib
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.numpy import load_file, save_file

from engine.clip.model import Clip
from engine.clip.weights import load as load_clip
from engine.clip.weights import shipped as shipped_clip
from engine.drawing.captions import CaptionedScene
from engine.identity import config_hash
from engine.model import weights
from engine.model.card_fields import TrainingData
from engine.model.device import device_named
from engine.model.predictor import Predictor
from engine.model.sam import PromptableSam
from engine.model.text.prompted import TextPrompted
from engine.model.text.weights import (
    load_prompted,
    shipped_text,
    text_card,
    text_to_bytes,
    write_text,
)
from engine.training.captioned import SceneFolder, SceneSet
from engine.training.checkpoint import FileCheckpointer
from engine.training.text import TextReport, train_text
from engine.training.text_config import TextTrainingConfig
from engine.training.text_scenes import DrawnTexts, SceneVectors, VectorsConfig, scene_vectors

# Far from the seeds of tests and benchmarks.
FIRST = 1_000_000
_SHOWN_EVERY = 10


def main() -> None:
    """Train, and write the weights as float16 with their card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, help="text prompts to go on from; else from nothing")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--map-steps", type=int, default=1500, help="the first, of the map alone")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--first-scene", type=int, default=FIRST)
    parser.add_argument("--batch", type=int, default=8, help="scenes a step")
    parser.add_argument("--drawn", type=int, default=4, help="prompts of each for the decoder")
    parser.add_argument(
        "--absent", type=int, default=4, help="prompts of each for what is not there"
    )
    parser.add_argument("--presence-weight", type=float, default=0.5)
    parser.add_argument("--text-share", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as it likes")
    parser.add_argument("--processes", type=int, default=2, help="that draw scenes")
    parser.add_argument("--cache", type=Path, default=Path("build/text-scenes"))
    parser.add_argument("--checkpoint", type=Path, default=Path("build/pretrain-text.safetensors"))
    parser.add_argument("--model", type=Path, default=weights.shipped())
    parser.add_argument("--clip", type=Path, default=shipped_clip())
    parser.add_argument("--out", type=Path, default=shipped_text())
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = device_named(options.device)
    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    model, _ = weights.load(options.model)
    clip = load_clip(options.clip)
    scenes = SceneSet(first=options.first_scene, count=options.scenes)
    encoded = SceneFolder(options.cache, Predictor(model, version="frozen", device=device)).load(
        scenes, processes=options.processes
    )
    vectors = _kept_vectors(options.cache, [one.scene for one in encoded], scenes, clip)
    source = DrawnTexts(encoded, vectors, model.logits_hw, clip_fingerprint=clip.fingerprint)
    config = TextTrainingConfig(
        steps=options.steps,
        map_steps=options.map_steps,
        batch_images=options.batch,
        drawn_per_image=options.drawn,
        absent_per_image=options.absent,
        presence_weight=options.presence_weight,
        text_share=options.text_share,
        learning_rate=options.learning_rate,
    )
    text = _started(options.start, model, clip, config.seed)
    text = train_text(
        model,
        text,
        source,
        config,
        checkpoint=FileCheckpointer(_of_this(options.checkpoint, text, config, scenes, clip)),
        on_step=_Shown(),
        device=device,
    )
    data = text_to_bytes(text)
    trained_on = TrainingData(
        name=f"captioned scenes {scenes.first} to {scenes.first + scenes.count - 1} "
        "(engine.drawing.captions)",
        license="Apache-2.0",
        num_images=scenes.count,
        description="drawn by the project from seeds, of seen combinations; no real image",
    )
    card = text_card(
        data,
        model.cpu(),
        clip,
        trained_on=(trained_on,),
        description=f"{config.steps} steps, {config.map_steps} of them of the map alone, "
        f"{config.batch_images} scenes each, {config.text_share:.0%} of the prompts texts",
        made_by=" ".join(["python -m engine.training.pretrain_text", *sys.argv[1:]]),
    )
    write_text(options.out, data, card)


def _started(path: Path | None, model: PromptableSam, clip: Clip, seed: int) -> TextPrompted:
    """What training begins with."""
    if path is not None:
        return load_prompted(path, model, clip)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TextPrompted(model, clip.dim)


def _of_this(
    path: Path, start: TextPrompted, config: TextTrainingConfig, scenes: SceneSet, clip: Clip
) -> Path:
    """A checkpoint's path, by all that decides about a training, so that another starts anew."""
    begun = hashlib.sha256(text_to_bytes(start)).hexdigest()
    parts = (begun, config_hash(config), config_hash(scenes), clip.fingerprint)
    key = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
    return path.with_stem(f"{path.stem}-{key}")


def _kept_vectors(
    folder: Path, scenes: list[CaptionedScene], which: SceneSet, clip: Clip
) -> list[SceneVectors]:
    """Embedded once for each CLIP."""
    config = VectorsConfig()
    key = f"{config_hash(which)[:8]}-{config_hash(config)[:8]}-{clip.fingerprint}"
    path = folder / f"vectors-{key}.safetensors"
    if not path.exists():
        made = list(track(scene_vectors(scenes, clip, config), "vectors", total=len(scenes)))
        tensors = {
            f"{number}.{name}": np.ascontiguousarray(value)
            for number, own in enumerate(made)
            for name, value in asdict(own).items()
        }
        fresh = path.with_suffix(".new")
        save_file(tensors, fresh)
        fresh.replace(path)
        return made
    known = load_file(path)
    return [
        SceneVectors(**{name: known[f"{number}.{name}"] for name in ("crops", "phrases", "meant")})
        for number in range(len(scenes))
    ]


class _Shown:
    """Prints the means of a few steps."""

    def __init__(self) -> None:
        self._few: list[TextReport] = []

    def __call__(self, report: TextReport) -> None:
        self._few.append(report)
        if report.step % _SHOWN_EVERY and report.step < report.num_steps:
            return
        means = [
            f"{name} {_mean([getattr(one, name) for one in self._few]):.3f}"
            for name in ("map_loss", "loss", "iou", "told", "seconds")
        ]
        self._few = []
        sys.stdout.write(f"step {report.step}/{report.num_steps} {' '.join(means)}\n")
        sys.stdout.flush()


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


if __name__ == "__main__":
    main()
