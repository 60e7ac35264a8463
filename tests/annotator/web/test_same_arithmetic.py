"""The page computes as the engine does: codes, frames, windows, masks; cases are made anew."""

import base64
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from engine import rle
from engine.geometry import Frame, Window
from engine.model.closer_look import CloserLook
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import Answer, Look
from engine.model.predictor import upscale_logits
from engine.rle import Rle, segments_of

# Sums in another order differ by so much, where logits are about 10.
ROUNDING = 1e-4
Logits = npt.NDArray[np.float32]
ALPHABET = "".join(map(chr, range(48, 112)))


def packed(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def code(mask: Rle) -> dict[str, Any]:
    return {"size": mask.size, "counts": mask.counts}


def codes(random: np.random.Generator) -> list[dict[str, Any]]:
    made = []
    for hw in [(1, 1), (1, 50), (50, 1), (33, 47), (200, 150)]:
        for share in (0.0, 0.03, 0.5, 0.97, 1.0):
            mask = random.random(hw) < share
            encoded = rle.encode_one(mask)
            segments = segments_of(np.ascontiguousarray(mask.T), 0, 0, hw[0])
            made.append(
                {
                    "code": code(encoded),
                    "starts": segments.starts.tolist(),
                    "ends": segments.ends.tolist(),
                    "area": rle.area(encoded),
                    "box": rle.box(encoded).tolist(),
                }
            )
    return made


def wrong_codes(random: np.random.Generator) -> list[dict[str, Any]]:
    """Codes with a letter changed, lost or doubled, and what the engine says to each."""
    made = []
    for _ in range(400):
        hw = tuple(int(side) for side in random.integers(1, 40, 2))
        counts = rle.encode_one(random.random(hw) < random.random()).counts
        at = int(random.integers(len(counts)))
        letter = str(random.choice(list(ALPHABET)))
        changed = [
            counts[:at] + letter + counts[at + 1 :],
            counts[:at] + counts[at + 1 :],
            counts[:at] + counts[at] + counts[at:],
            counts[:at] + "o" * int(random.integers(9)) + counts[at:],
        ][int(random.integers(4))]
        try:
            rle.validate(Rle((hw[0], hw[1]), changed))
            message = None
        except ValueError as error:
            message = str(error)
        made.append({"code": {"size": hw, "counts": changed}, "message": message})
    return made


def frames(random: np.random.Generator) -> list[dict[str, Any]]:
    made = []
    sizes = [(1, 1), (1, 3000), (3, 2), (512, 512), (9000, 12000), (683, 1024)]
    sizes += [(int(height), int(width)) for height, width in random.integers(1, 5000, (60, 2))]
    for hw in sizes:
        frame = Frame(original_hw=hw, side=int(random.choice([256, 512, 1024])))
        point = (random.random(2) * (hw[1], hw[0])).astype(np.float32)
        made.append(
            {
                "hw": hw,
                "side": frame.side,
                "scale": frame.scale,
                "resized_hw": frame.resized_hw,
                "scale_xy": frame.scale_xy.tolist(),
                "point": point.tolist(),
                "in_frame": frame.to_frame(point).tolist(),
            }
        )
    return made


def windows(random: np.random.Generator) -> list[dict[str, Any]]:
    made = []
    for context in (3.0, 2.5, 1.75):
        look = CloserLook(max_area=1000.0, side=256, context=context)
        for _ in range(100):
            hw = (int(random.integers(20, 900)), int(random.integers(20, 900)))
            corners = np.sort(random.random((2, 2)) * (hw[1], hw[0]) * random.random(), axis=0)
            # Halves and wholes are where roundings part.
            box = (np.round(corners * 2) / 2).astype(np.float32).ravel()
            made.append(
                {
                    "look": asdict(look),
                    "box": box.tolist(),
                    "hw": hw,
                    "window": look.window(box, hw),
                }
            )
    return made


def smooth(random: np.random.Generator, side: int, sigma: float, mean: float) -> Logits:
    noise = gaussian_filter(random.standard_normal((side, side)), sigma)
    return np.asarray(10 * noise / noise.std() + mean, dtype=np.float32)


def island(random: np.random.Generator, side: int, cells: float, beyond: float) -> Logits:
    """One round island; what is beyond it is nearly as good."""
    x, y = random.random((2, 1)) * side
    rows, columns = np.mgrid[:side, :side]
    inside = (columns - x) ** 2 + (rows - y) ** 2 < cells**2
    return np.where(inside, 12.0, beyond).astype(np.float32)


def shapes(random: np.random.Generator) -> list[tuple[int, Logits]]:
    """Sides of frames, and logits in them: everywhere, nowhere, ragged, and alone."""
    noises = [(512, 6.0, -8.0), (256, 1.0, 0.0), (512, 0.5, 4.0), (256, 9.0, -60.0)]
    islands = [(512, 9.0, -0.2), (512, 0.6, -0.01), (256, 20.0, -16.0)]
    return [
        *((side, smooth(random, side // 4, sigma, mean)) for side, sigma, mean in noises),
        *((side, island(random, side // 4, cells, beyond)) for side, cells, beyond in islands),
    ]


def masks(random: np.random.Generator) -> list[dict[str, Any]]:
    kinds = [((300, 200), (0, 0)), ((70, 512), (5, 9)), ((1500, 1100), (0, 3)), ((64, 64), (0, 0))]
    kinds += [((3, 700), (0, 0)), ((512, 512), (1, 0)), ((40, 31), (60, 0)), ((1, 1), (0, 0))]
    return [
        at_full_size(logits, Frame(original_hw=hw, side=side), corner)
        for hw, corner in kinds
        for side, logits in shapes(random)
    ]


def at_full_size(logits: Logits, frame: Frame, corner: tuple[int, int]) -> dict[str, Any]:
    """Logits of a window at `corner` (x, y) of an image, and its mask, as sure as it is."""
    (height, width), (x0, y0) = frame.original_hw, corner
    full = upscale_logits(torch.from_numpy(logits)[None], frame)[0].numpy()
    image_hw = (y0 + height + 2, x0 + width + 1)
    least, most = (np.zeros(image_hw, dtype=np.bool_) for _ in range(2))
    least[y0 : y0 + height, x0 : x0 + width] = full > ROUNDING
    most[y0 : y0 + height, x0 : x0 + width] = full > -ROUNDING
    return {
        "logits": packed(logits),
        "hw": frame.original_hw,
        "side": frame.side,
        "window": (x0, y0, x0 + width, y0 + height),
        "image_hw": image_hw,
        "least": code(rle.encode_one(least)),
        "most": code(rle.encode_one(most)),
    }


def look_at(window: Window, image_hw: tuple[int, int], side: int) -> Look:
    frame = Frame(original_hw=(window[3] - window[1], window[2] - window[0]), side=side)
    nothing = torch.zeros(1, side // 16, side // 16)
    return Look(
        window,
        image_hw,
        ImageEmbedding(features=nothing, skips=None, frame=frame, encoder_id="none"),
    )


def moves(random: np.random.Generator) -> list[dict[str, Any]]:
    """Answers as other looks have them, with their boxes and areas."""
    hw = (500, 730)
    whole = look_at((0, 0, hw[1], hw[0]), hw, 512)
    near, nearer = look_at((100, 50, 260, 210), hw, 256), look_at((170, 100, 234, 164), hw, 256)
    corner = look_at((600, 370, 730, 500), hw, 256)
    made = []
    for here, there in [
        (whole, near),
        (near, nearer),
        (nearer, near),
        (near, corner),
        (near, near),
    ]:
        logits = smooth(random, here.embedding.frame.side // 4, 4, -6.0)
        answer = Answer(logits=torch.from_numpy(logits), iou=0.5, look=here)
        made.append(
            {
                "image_hw": hw,
                "logits": packed(logits),
                "from": {"window": here.window, "side": here.embedding.frame.side},
                "to": {"window": there.window, "side": there.embedding.frame.side},
                "seen": packed(answer.seen_in(there).numpy()),
                "box": answer.box.tolist(),
                "area": answer.area,
            }
        )
    return made


def test_the_page_computes_as_the_engine(
    tmp_path: Path, run_vitest: Callable[[str, Path], None]
) -> None:
    random = np.random.default_rng(0)
    makers = (codes, wrong_codes, frames, windows, masks, moves)
    cases = {make.__name__: make(random) for make in makers}
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    run_vitest("src/core/arithmetic.golden.ts", tmp_path)
