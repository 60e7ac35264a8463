"""Make the weights of `nano-clip` that ship: `make pretrain-clip` trains it on drawn scenes.

No real image and nobody's caption is in them, so they may go anywhere; of things it knows what the
project draws, and no combination that `engine.drawing.combinations` holds out. The weights get a
card, which does not say yet how good they are. Interrupted, the same command goes on from its
checkpoint.
"""

import argparse
import hashlib
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from engine import rle
from engine.clip import weights
from engine.clip.card import ClipCard, write_card
from engine.clip.config import ClipConfig, ClipTrainingConfig
from engine.clip.exam import Exam
from engine.clip.frames import Pixels
from engine.clip.model import Clip
from engine.clip.pairs import ListedPairs
from engine.clip.trainer import FitReport, fit
from engine.clip.views import ViewsConfig, crops
from engine.clip.vocabulary import tokens_of
from engine.drawing import pairs, wording
from engine.drawing.captions import CaptionedScene, CaptionStyle, draw_captioned
from engine.identity import config_hash
from engine.model.card_fields import TrainingData
from engine.model.device import device_named
from engine.training.checkpoint import FileCheckpointer

# Far from the seeds of tests and benchmarks.
FIRST = 2_000_000
_EXAM_FIRST, _EXAM_SCENES = 1_900_000, 128
_SIDE = 64
_AT_ONCE = 50
# Views as masks are shown for names, whole scenes with their captions, and else crops.
_MASK_SHARE, _WHOLE_SHARE = 0.4, 0.06
_VIEWS = ViewsConfig(views=("grey", "blur", "tight", "context"))


class ScenePairs:
    """Pairs out of drawn scenes, `rounds` of each of its things: another crop and caption each.

    The same number always gives the same pair.
    """

    def __init__(self, scenes: Sequence[CaptionedScene], rounds: int) -> None:
        self._scenes = scenes
        counts = [rounds * len(scene.subjects) for scene in scenes]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def fetch(self, indices: Sequence[int]) -> tuple[list[Pixels], list[str]]:
        """For each number a picture (64, 64, 3) and its caption."""
        found = [self._pair(index) for index in indices]
        return [image for image, _ in found], [text for _, text in found]

    def _pair(self, index: int) -> tuple[Pixels, str]:
        scene = self._scenes[int(np.searchsorted(self._ends, index, side="right"))]
        random = np.random.default_rng((index, 31))
        way = random.random()
        if way < _WHOLE_SHARE:
            return pairs.whole(scene, _SIDE), pairs.caption(random, scene)
        if way < _WHOLE_SHARE + _MASK_SHARE:
            return _masked(random, scene)
        return pairs.pair(random, scene, _SIDE)


def _masked(random: np.random.Generator, scene: CaptionedScene) -> tuple[Pixels, str]:
    """One of the views of a thing's mask, by which masks are named."""
    number = int(random.choice(scene.subjects))
    config = ViewsConfig(
        views=(_VIEWS.views[int(random.integers(len(_VIEWS.views)))],),
        margin=float(random.uniform(0.0, 0.25)),
        context=float(random.uniform(1.2, 2.0)),
    )
    [picture] = crops(scene.image, rle.encode_one(scene.masks[number]), config, _SIDE)
    return picture, pairs.name(random, scene, number)


def scene(number: int) -> CaptionedScene:
    """Scene `number` of those to learn from."""
    return draw_captioned(FIRST + number, CaptionStyle(), "seen")


def drawn(first: int, count: int) -> list[CaptionedScene]:
    """Scenes from number `first` on; a third of a megabyte each."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        made = pool.map(scene, range(first, first + count), chunksize=_AT_ONCE)
        return list(track(made, "scenes drawn", total=count))


def exam() -> Exam:
    """Pairs of other scenes, of combinations that were never seen."""
    made = [
        draw_captioned(_EXAM_FIRST + number, CaptionStyle(), "unseen")
        for number in range(_EXAM_SCENES)
    ]
    pictures, texts = ScenePairs(made, 1).fetch(range(256))
    return Exam(pairs=ListedPairs(pictures, texts))


def main() -> None:
    """Train, and write the weights as float16 with their card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=20, help="pairs of each thing")
    parser.add_argument("--batch", type=int, default=128, help="pairs a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--checkpoint", type=Path, default=Path("build/pretrain-clip.safetensors"))
    parser.add_argument("--out", type=Path, default=weights.shipped())
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    config = ClipTrainingConfig(
        steps=options.steps,
        batch_pairs=options.batch,
        pairs_at_once=options.batch,
        learning_rate=options.learning_rate,
        warmup_steps=min(200, options.steps // 4),
        checkpoint_every=100,
        evaluate_every=200,
    )
    seen = f"{config_hash(config)}/{options.scenes}/{options.rounds}"
    key = hashlib.sha256(seen.encode()).hexdigest()[:8]
    checkpoint = options.checkpoint.with_stem(f"{options.checkpoint.stem}-{key}")
    result = fit(
        Clip.new(ClipConfig(tokens=tokens_of(wording.VOCABULARY_TEXTS)), seed=0),
        ScenePairs(drawn(0, options.scenes), options.rounds),
        config,
        exam=exam(),
        checkpoint=FileCheckpointer(checkpoint),
        on_step=_print,
        device=device_named(options.device),
    )
    data = weights.to_bytes(result.clip, dtype=torch.float16)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(data)
    write_card(options.out, _card(options, result.clip, data))


def _card(options: argparse.Namespace, clip: Clip, data: bytes) -> ClipCard:
    """What the weights are; nothing yet of how good they are."""
    seen = TrainingData(
        name=f"captioned scenes {FIRST} to {FIRST + options.scenes - 1} (engine.drawing.captions)",
        license="Apache-2.0",
        num_images=options.scenes,
        description="drawn by the project from seeds, with captions; no real image",
    )
    return ClipCard(
        config=clip.config,
        sha256=hashlib.sha256(data).hexdigest(),
        trained_on=(seen,),
        description=f"{options.steps} steps of {options.batch} pairs, crops and whole scenes",
        made_by=" ".join(["python -m engine.clip.pretrain", *sys.argv[1:]]),
    )


def _print(report: FitReport) -> None:
    if report.step % 20 == 0 or report.marks is not None:
        marks = "" if report.marks is None else f" {report.marks.recall}"
        sys.stdout.write(
            f"step {report.step}/{report.num_steps} loss {report.loss:.3f} "
            f"scale {report.scale:.1f} {report.seconds:.2f} s{marks}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
