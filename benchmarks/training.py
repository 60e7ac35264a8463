"""How fast a model trains: our trainer beside a plain loop over segment_anything's submodules.

`python benchmarks/training.py [--json] [--quick] [--recipe NAME] [--images N] [--steps N]
[--rounds N]`. Both train the recipe's model, by default `nano`, from the same weights on the same
crops, prompts and corrections, in turns, on every core. The plain loop takes one image after
another: encode it, hand its prompts to a decoder of segment_anything's own layers, `backward`; then
AdamW. Where the recipe freezes the image encoder, as `vit_t` and `vit_b` do, it encodes without
gradients, and ours keeps what it encoded: how often an image comes up again decides. The figure is
instances (objects with a prompt) a second.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from reference_sam import plain

from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.training.batches import BatchSource
from engine.training.config import TrainingConfig
from engine.training.optimiser import freeze, trainable
from engine.training.pretrain import world
from engine.training.rounds import image_losses
from engine.training.samples import CropSource, LabelledImage
from engine.training.trainer import train
from flows.recipes import recipe_named


class Worlds:
    """A few drawn images."""

    def __init__(self, count: int) -> None:
        self._worlds = [world(index) for index in range(count)]

    def __len__(self) -> int:
        return len(self._worlds)

    def load(self, index: int) -> LabelledImage:
        return self._worlds[index]


class PlainLoop:
    """One image after another, float32, `backward` and AdamW as everybody writes them."""

    def __init__(self, model: PromptableSam, config: TrainingConfig, images: Worlds) -> None:
        self._config = config
        self._model = plain(model).train()
        freeze(self._model, config)
        stride = model.side // model.logits_hw[0]
        self._batches = BatchSource(
            CropSource(images, model.side, stride), np.ones(len(images)), config
        )
        self._optimiser = torch.optim.AdamW(trainable(self._model), lr=1e-4)

    def step(self, number: int) -> tuple[float, int]:
        """Seconds, and the instances in them."""
        began = time.perf_counter()
        instances = 0
        for place in range(self._config.batch_images):
            batch = self._batches.batch(number, place)
            instances += int(batch.is_object.sum())
            with patch("engine.training.rounds.has_bfloat16", return_value=False):
                (loss,) = image_losses(self._model, batch, self._config, number).losses
            (loss / self._config.batch_images).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return time.perf_counter() - began, instances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--steps", type=int, default=8, help="of each side before the other's turn")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    steps, rounds = (1, 1) if options.quick else (options.steps, options.rounds)
    images = Worlds(4 if options.quick else options.images)
    recipe = recipe_named(options.recipe)
    model = build_model(ModelConfig(architecture=recipe.start), seed=0)
    config = replace(recipe.training, steps=steps)
    loop = PlainLoop(model, config, images)
    loop.step(0)
    ours_s: list[float] = []
    plain_s: list[float] = []
    instances = 0
    for _ in range(rounds):
        train(model, images, config, on_step=lambda report: ours_s.append(report.seconds))
        for number in range(steps):
            seconds, count = loop.step(number)
            plain_s.append(seconds)
            instances += count
    each = instances / len(plain_s)
    result = {
        "recipe": recipe.name,
        "instances_per_step": each,
        "plain_instances_per_s": each / statistics.mean(plain_s),
        "ours_instances_per_s": each / statistics.mean(ours_s),
        "ours_over_plain": statistics.mean(plain_s) / statistics.mean(ours_s),
        "threads": torch.get_num_threads(),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24}{value:10.2f}" if isinstance(value, float) else f"{name:24}{value:10}")


if __name__ == "__main__":
    main()
