"""Automatic masks beside segment_anything's own generator: the same weights, the same thresholds.

`python benchmarks/generate_vs_reference.py [--arch A] [--weights W] [--images PATH...] [--json]`.
Each side runs in a process of its own, in turns, the reference at its default of 64 points a batch
and one image at a time, as it comes; ours takes as many side by side as `maskloop generate` does.
Times are of all images, in the quicker of the rounds; memory is the peak above the loaded model.
`matched_at_95` is the share of the reference's masks of which we have one with an IoU of at least
0.95. Without trained weights, thresholds are set where a part of the masks passes. `--precision` is
ours, `--reference-precision` the reference's, by autocast. On a GPU also the share that the encoder
alone reaches of the rate of large matrix products in that precision.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from real_data import data_folder, require
from reference_sam import reference_sam
from segment_anything import SamAutomaticMaskGenerator
from torch.utils.flop_counter import FlopCounterMode

from engine import images, rle
from engine.generation.config import REFERENCE, GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.model import weights
from engine.model.device import computing_in, device_named
from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.precision import Precision
from engine.threads import each_image

# The thresholds of the recipe `nano`, whose estimates run lower than a large model's.
_NANO = {
    "pred_iou_thresh": 0.5,
    "stability_score_thresh": 0.7,
    "stability_score_offset": 0.5,
}
# Random weights draw faint noise that covers everything, with a predicted IoU about 0. These let a
# seventh pass (of 3072 masks of `vit_b` on a photograph 457), and boxes, all as large as the image,
# decide nothing.
_RANDOM = {
    "pred_iou_thresh": 0.105,
    "stability_score_thresh": 0.7,
    "stability_score_offset": 0.01,
    "box_nms_thresh": 1.0,
}


@dataclass(frozen=True)
class Job:
    """What both sides do."""

    arch: str
    weights: Path | None
    images: list[Path]
    device: str
    precision: Precision
    reference_precision: Precision
    points_per_batch: int
    thresholds: dict[str, Any]

    def model(self) -> PromptableSam:
        if self.weights is not None and self.weights.suffix == ".safetensors":
            return weights.load(self.weights)[0]
        if self.weights is not None:
            return weights.load_meta_checkpoint(self.weights, self.arch)
        if self.arch == "nano":
            return weights.load(weights.shipped())[0]
        return build_model(ModelConfig(architecture=self.arch), seed=0)


def pixels_of(path: Path) -> np.ndarray:
    return images.decode(path.read_bytes()).pixels


class Encoder:
    """Counts the seconds in a model's image encoder, of all threads together."""

    def __init__(self, encoder: torch.nn.Module, device: torch.device) -> None:
        self.seconds = 0.0
        self._device = device
        self._lock = Lock()
        encoder.register_forward_pre_hook(lambda *_: self._stamp(-1))
        encoder.register_forward_hook(lambda *_: self._stamp(1))

    def _stamp(self, sign: int) -> None:
        with self._lock:
            self.seconds += sign * now(self._device)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def reference_side(job: Job, device: torch.device) -> tuple[Any, Any, int]:
    """What makes masks of an image, its encoder, and how many images it takes side by side."""
    sam = reference_sam(job.model()).to(device)
    generator = SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **job.thresholds)

    def generate(pixels: np.ndarray) -> list[rle.Rle]:
        with computing_in(job.reference_precision, device):
            found = [record["segmentation"] for record in generator.generate(pixels)]
        return [rle.Rle((int(f["size"][0]), int(f["size"][1])), f["counts"]) for f in found]

    return generate, sam.image_encoder, 1


def our_side(job: Job, device: torch.device) -> tuple[Any, Any, int]:
    model = job.model()
    ours = {"precision": job.precision, "points_per_batch": job.points_per_batch}
    config = GenerationConfig(**{**vars(REFERENCE), **ours, **job.thresholds})
    predictor = Predictor(model, version="benchmark", device=device)
    generator = MaskGenerator(predictor, config)

    def generate(pixels: np.ndarray) -> list[rle.Rle]:
        return [mask.rle for mask in generator.generate(pixels).masks]

    return generate, model.image_encoder, predictor.images_at_once


SIDES = {"reference": reference_side, "ours": our_side}


def memory_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status: has no {field}")


def run_side(side: str, job: Job) -> dict[str, Any]:
    """One pass over the images in this process, with its seconds, memory and masks."""
    device = device_named(job.device)
    generate, module, at_once = SIDES[side](job, device)
    encoder = Encoder(module, device)
    resident = 0
    if device.type == "cuda":
        # Once before: libraries load, and a GPU tunes its kernels.
        generate(pixels_of(job.images[0]))
        torch.cuda.reset_peak_memory_stats()
        resident = torch.cuda.memory_allocated()
    loaded = memory_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    pictures = [pixels_of(path) for path in job.images]
    encoder.seconds = 0.0
    began = now(device)
    found = list(each_image(lambda i: generate(pictures[i]), range(len(pictures)), at_once=at_once))
    seconds = now(device) - began
    peak = memory_kib("VmHWM") - loaded
    if device.type == "cuda":
        peak = (torch.cuda.max_memory_allocated() - resident) // 1024
    share = None
    if device.type == "cuda" and side == "ours":
        share = encoder_rate(module, job, device) / matrix_rate(job.precision, device)
    return {
        "share_of_matrix_rate": share,
        "seconds": seconds,
        "encoder": encoder.seconds / at_once,
        "peak_kib": peak,
        "masks": [[[list(mask.size), mask.counts] for mask in masks] for masks in found],
    }


def matrix_rate(precision: Precision, device: torch.device) -> float:
    """Operations a second of products of large matrices."""
    size, count = 8192, 10
    left = torch.randn(size, size, device=device)
    with torch.inference_mode(), computing_in(precision, device):
        if precision == "bfloat16":
            left = left.bfloat16()
        for _ in range(3):
            left @ left
        began = now(device)
        for _ in range(count):
            left @ left
        return 2 * size**3 * count / (now(device) - began)


@torch.inference_mode()
def encoder_rate(encoder: torch.nn.Module, job: Job, device: torch.device) -> float:
    """Operations a second of the image encoder, one frame after the other, nothing beside it."""
    frames = torch.randn(1, 3, *(job.model().side,) * 2, device=device)
    count = 10
    with computing_in(job.precision, device):
        with FlopCounterMode(display=False) as counter:
            encoder(frames)
        began = now(device)
        for _ in range(count):
            encoder(frames)
        return float(counter.get_total_flops()) * count / (now(device) - began)


def in_child(side: str, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, __file__, *options.given, "--side", side, "--out", str(result)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return dict(json.loads(result.read_text()))


def matched(theirs: list[Any], ours: list[Any]) -> int:
    """How many of the reference's masks of one image we have too."""
    left, right = (
        [rle.Rle(tuple(size), counts) for size, counts in side] for side in (theirs, ours)
    )
    ious = rle.iou_matrix(left, right)
    return int((ious.max(axis=1, initial=0.0) >= 0.95).sum())


def compared(runs: dict[str, list[dict[str, Any]]], num_images: int) -> dict[str, Any]:
    best = {side: min(each, key=lambda run: run["seconds"]) for side, each in runs.items()}
    theirs, ours = best["reference"], best["ours"]
    counts = {side: sum(map(len, run["masks"])) for side, run in best.items()}
    pairs = zip(theirs["masks"], ours["masks"], strict=True)
    peaks = {side: max(run["peak_kib"] for run in each) for side, each in runs.items()}
    beyond = {side: run["seconds"] - run["encoder"] for side, run in best.items()}
    return {
        "images": num_images,
        "masks": counts["ours"],
        "reference_masks": counts["reference"],
        "images_per_s": num_images / ours["seconds"],
        "reference_images_per_s": num_images / theirs["seconds"],
        "ratio": theirs["seconds"] / ours["seconds"],
        "ratio_beyond_encoder": beyond["reference"] / beyond["ours"],
        "encoder_s_per_image": ours["encoder"] / num_images,
        "peak_memory_mib": peaks["ours"] / 1024,
        "reference_peak_memory_mib": peaks["reference"] / 1024,
        "peak_memory_ratio": peaks["ours"] / peaks["reference"],
        "matched_at_95": sum(matched(*pair) for pair in pairs) / max(1, counts["reference"]),
        "count_ratio": counts["ours"] / max(1, counts["reference"]),
        "share_of_matrix_rate": ours["share_of_matrix_rate"],
    }


def default_images(arch: str) -> list[Path]:
    """The photographs and 20 images of nuclei; three images in all for a large model."""
    folder = data_folder()
    photos = sorted((folder / "photos").glob("*.jpg"))
    nuclei = sorted((folder / "nuclei" / "images").iterdir())
    return [*photos, *nuclei[: 20 if arch == "nano" else max(0, 3 - len(photos))]]


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="nano")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=Path, nargs="+")
    parser.add_argument("--device", default="cpu")
    for name in ("precision", "reference-precision"):
        parser.add_argument(f"--{name}", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--points-per-batch", type=int, default=64, help="ours")
    parser.add_argument("--points-per-side", type=int)
    for name in ("pred-iou-thresh", "stability-score-thresh", "stability-score-offset"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--box-nms-thresh", type=float)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one image, a coarse grid")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.given = arguments
    return options


def thresholds_of(options: argparse.Namespace) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if options.arch == "nano":
        chosen |= _NANO
    elif options.weights is None:
        chosen |= _RANDOM
    if options.quick:
        chosen["points_per_side"] = 8
    for name in ("points_per_side", *_NANO, "box_nms_thresh"):
        if getattr(options, name) is not None:
            chosen[name] = getattr(options, name)
    return chosen


def main() -> None:
    options = options_of(sys.argv[1:])
    if not options.images:
        require("photos", "nuclei", quick=options.quick)
    paths = options.images or default_images(options.arch)
    job = Job(
        arch=options.arch,
        weights=options.weights,
        images=paths[:1] if options.quick else paths,
        device=options.device,
        precision=options.precision,
        reference_precision=options.reference_precision,
        points_per_batch=options.points_per_batch,
        thresholds=thresholds_of(options),
    )
    if options.side is not None:
        options.out.write_text(json.dumps(run_side(options.side, job)))
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side, each in runs.items():
            each.append(in_child(side, options))
    result = {
        "arch": job.arch,
        "device": job.device,
        "precision": job.precision,
        "reference_precision": job.reference_precision,
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        **compared(runs, len(job.images)),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        shown = f"{value:12.3f}" if isinstance(value, float) else f"{value!s:>12}"
        print(f"{name:28}{shown}")


if __name__ == "__main__":
    main()
