"""Crops a second of naming masks, beside a plain loop; and how long an exact search takes.

`python benchmarks/naming_throughput.py [--json] [--quick] [--clip WEIGHTS] [--search N]`. The loop
does for each mask what one writes with open_clip at hand: open the image, cut the mask's views out,
preprocess them, one forward pass. `maskloop label` decodes an image once and embeds its views in
batches, an image on each core. All in turns, with the same CLIP on the same masks. The loop also
runs with one of torch's threads, since several wait for each other on a busy machine; the quicker
counts.
`--search N` compares a query with N vectors instead (1,000,000 without a number).
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision import transforms

from engine import images, rle
from engine.clip.config import ClipConfig
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.model import Clip
from engine.clip.nearest import nearest, packed
from engine.clip.views import ViewsConfig
from engine.clip.vocabulary import tokens_of
from engine.clip.weights import load, shipped
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.rle import Rle
from engine.threads import each_image

FIRST = 1_700_000
DIM, QUERIES, K = 128, 20, 20
_BLOCK = 1 << 16
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Masked:
    """An image as a JPEG file, and its masks."""

    data: bytes
    masks: list[Rle]


def drawn(count: int, hw: tuple[int, int]) -> list[Masked]:
    """Drawn photographs of several dozen things each."""
    style = SceneStyle(subject="shapes", hw=hw, num_objects=(40, 60), radius=(10.0, hw[0] / 8))
    found = []
    for number in range(count):
        scene = draw_scene(FIRST + number, style)
        stream = BytesIO()
        Image.fromarray(scene.image).save(stream, "JPEG", quality=90)
        found.append(Masked(stream.getvalue(), rle.encode(scene.masks)))
    return found


def plain_loop(clip: Clip, work: list[Masked], views: ViewsConfig) -> list[Vectors]:
    """Vectors (M, D) of each image's masks, one mask after the other."""
    frame = clip.frame
    preprocess = transforms.Compose(
        [
            transforms.Resize(frame.hw, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(frame.hw),
            transforms.ToTensor(),
            transforms.Normalize(frame.mean, frame.std),
        ]
    )
    found = []
    for item in work:
        rows = []
        for mask in item.masks:
            picture = Image.open(BytesIO(item.data)).convert("RGB")
            inside = coco_mask.decode({"size": list(mask.size), "counts": mask.counts.encode()})
            crops = [preprocess(crop) for crop in cut_out(picture, inside, views)]
            with torch.no_grad():
                embedded = clip.module.encode_image(torch.stack(crops))
                embedded = embedded / embedded.norm(dim=-1, keepdim=True)
            mean = embedded.mean(dim=0)
            rows.append((mean / mean.norm()).numpy())
        found.append(np.stack(rows))
    return found


def cut_out(
    picture: Image.Image, inside: npt.NDArray[np.uint8], views: ViewsConfig
) -> list[Image.Image]:
    """The square around a mask, as it is and with its background in grey."""
    rows, columns = np.nonzero(inside)
    x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    half = max(x1 - x0, y1 - y0) * (1 + 2 * views.margin) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    box = (round(x - half), round(y - half), round(x + half), round(y + half))
    pixels = np.array(picture)
    grey = Image.fromarray(np.where(inside[..., None] > 0, pixels, np.uint8(128)))
    shown = {"tight": picture, "grey": grey}
    return [shown[view].crop(box) for view in views.views]


def batched(encoder: MaskEncoder, work: list[Masked]) -> list[Vectors]:
    """The same, as `maskloop label` does it."""

    def of_image(number: int) -> Vectors:
        pixels = images.decode(work[number].data).pixels
        return encoder.vectors(pixels, work[number].masks)

    return list(each_image(of_image, range(len(work)), at_once=len(work)))


def with_threads(count: int, action: Callable[[], list[Vectors]]) -> list[Vectors]:
    """The same, by so many of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return action()
    finally:
        torch.set_num_threads(before)


def timed(action: Callable[[], list[Vectors]]) -> tuple[float, list[Vectors]]:
    began = time.perf_counter()
    found = action()
    return time.perf_counter() - began, found


def naming(clip: Clip, count: int, hw: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Both ways in turns; medians over rounds."""
    encoder = MaskEncoder(clip)
    work = drawn(count, hw)
    num_masks = sum(len(item.masks) for item in work)
    num_crops = num_masks * len(encoder.views.views)
    cores = len(os.sched_getaffinity(0))

    def loop() -> list[Vectors]:
        return plain_loop(clip, work, encoder.views)

    ways = {
        "loop": lambda: with_threads(cores, loop),
        "loop, one thread": lambda: with_threads(1, loop),
        "batched": lambda: batched(encoder, work),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, list[Vectors]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            taken, vectors[name] = timed(way)
            seconds[name].append(taken)
    quicker = [min(both) for both in zip(seconds["loop"], seconds["loop, one thread"], strict=True)]
    pairs = zip(quicker, seconds["batched"], strict=True)
    both = zip(vectors["loop"], vectors["batched"], strict=True)
    alike = np.concatenate([(a * b).sum(axis=1) for a, b in both])
    return {
        "cores": cores,
        "images": count,
        "hw": list(hw),
        "masks": num_masks,
        "crops": num_crops,
        "rounds": rounds,
        **{f"{name}, crops/s": num_crops / statistics.median(s) for name, s in seconds.items()},
        "times the loop": statistics.median(loop / ours for loop, ours in pairs),
        "cosine to the loop's vectors": float(np.median(alike)),
    }


def searching(count: int) -> dict[str, Any]:
    """An exact search of one query among so many random vectors, in milliseconds."""
    random = np.random.default_rng(0)
    blocks = []
    for start in range(0, count, _BLOCK):
        rows = random.standard_normal((min(_BLOCK, count - start), DIM), dtype=np.float32)
        blocks.append(packed(rows / np.linalg.norm(rows, axis=1, keepdims=True)))
    queries = random.standard_normal((QUERIES, DIM), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    nearest(queries[:1], blocks, K)
    times = []
    for query in queries:
        began = time.perf_counter()
        nearest(query[None], blocks, K)
        times.append((time.perf_counter() - began) * 1000)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "vectors": count,
        "dim": DIM,
        "queries": QUERIES,
        "median ms": statistics.median(times),
        "slowest ms": max(times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="2 images of 240 x 320, one round")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hw", type=int, nargs=2, default=(768, 1024), metavar=("H", "W"))
    parser.add_argument("--clip", type=Path, help="weights; default: what ships, else random ones")
    parser.add_argument("--search", type=int, nargs="?", const=1_000_000, metavar="N")
    options = parser.parse_args()
    if options.search is not None:
        found = searching(10_000 if options.quick else options.search)
    else:
        weights = options.clip or shipped()
        clip = Clip.new(ClipConfig(tokens=tokens_of(["a"])), seed=0)
        if options.clip or weights.is_file():
            clip = load(weights)
        size = (2, (240, 320), 1) if options.quick else (options.images, options.hw, options.rounds)
        found = naming(clip, *size)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:30} {value:.3f}" if isinstance(value, float) else f"{name:30} {value}")


if __name__ == "__main__":
    main()
