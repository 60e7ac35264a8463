"""Captioned scenes with their embeddings, drawn and encoded once and kept in a folder.

A frozen encoder gives the same features at every step, and drawing a scene takes as long as a step.
"""

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.drawing.captions import CaptionedScene, CaptionStyle, draw_captioned
from engine.drawing.combinations import Combinations, is_held_out
from engine.drawing.phrases import Placed, Thing
from engine.geometry import masks_to_boxes
from engine.identity import config_hash
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor

_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class SceneSet:
    """`count` scenes of `style` from number `first` on."""

    first: int
    count: int
    combinations: Combinations = "seen"
    style: CaptionStyle = field(default_factory=CaptionStyle)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count: must be at least 1, but got {self.count}")


@dataclass(frozen=True, kw_only=True)
class EncodedScene:
    """A scene and what the image encoder makes of its image."""

    scene: CaptionedScene
    embedding: ImageEmbedding


class SceneFolder:
    """Scenes and embeddings as files, by number, style and encoder; what is missing is made."""

    def __init__(self, path: Path, predictor: Predictor) -> None:
        self._path = path
        self._predictor = predictor

    def load(self, scenes: SceneSet, *, processes: int = 0) -> list[EncodedScene]:
        """All of them; `processes` draw what is missing, 0: this one alone."""
        folder = self._path / f"{config_hash(scenes.style)[:8]}-{scenes.combinations}"
        folder.mkdir(parents=True, exist_ok=True)
        numbers = range(scenes.first, scenes.first + scenes.count)
        missing = [number for number in numbers if not _scene_path(folder, number).exists()]
        jobs = [(folder, number, scenes) for number in missing]
        if processes and len(jobs) > _AT_ONCE:
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                list(pool.map(_draw, jobs, chunksize=_AT_ONCE))
        else:
            list(map(_draw, jobs))
        return self._encoded(folder, list(numbers), scenes.combinations)

    def _encoded(
        self, folder: Path, numbers: Sequence[int], combinations: Combinations
    ) -> list[EncodedScene]:
        found: list[EncodedScene] = []
        for start in range(0, len(numbers), _AT_ONCE):
            few = numbers[start : start + _AT_ONCE]
            scenes = [_read(_scene_path(folder, number), combinations) for number in few]
            paths = [
                folder / f"{number}-{self._predictor.encoder_id}.safetensors" for number in few
            ]
            for scene, path in zip(scenes, paths, strict=True):
                if not path.exists():
                    _write(path, self._predictor.embed(scene.image).to_bytes())
                embedding = ImageEmbedding.from_bytes(path.read_bytes())
                found.append(EncodedScene(scene=scene, embedding=_halved(embedding)))
        return found


def _halved(embedding: ImageEmbedding) -> ImageEmbedding:
    """In float16, in which it was kept: a thousand scenes are half a gigabyte."""
    skips = embedding.skips
    if skips is not None:
        skips = (skips[0].half(), skips[1].half())
    return replace(embedding, features=embedding.features.half(), skips=skips)


def _scene_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.npz"


def _draw(job: tuple[Path, int, SceneSet]) -> None:
    torch.set_num_threads(1)
    folder, number, scenes = job
    scene = draw_captioned(number, scenes.style, scenes.combinations)
    placed = [
        {**asdict(item.thing), "centre": item.centre, "area": item.area} for item in scene.placed
    ]
    described = {"placed": placed, "ground": scene.ground, "hw": scene.image.shape[:2]}
    data = io.BytesIO()
    np.savez_compressed(
        data,
        image=scene.image,
        masks=np.packbits(scene.masks, axis=-1),
        clutter=np.packbits(scene.clutter, axis=-1),
        described=json.dumps(described),
    )
    _write(_scene_path(folder, number), data.getvalue())


def _read(path: Path, combinations: Combinations) -> CaptionedScene:
    with np.load(path) as kept:
        described: dict[str, Any] = json.loads(str(kept["described"]))
        width = described["hw"][1]
        masks, clutter = (
            np.unpackbits(kept[name], axis=-1, count=width).astype(bool)
            for name in ("masks", "clutter")
        )
        image = kept["image"]
    placed = tuple(map(_placed, described["placed"]))
    subjects = [
        index
        for index, item in enumerate(placed)
        if combinations != "unseen" or is_held_out(item.thing)
    ]
    return CaptionedScene(
        image=image,
        masks=masks,
        boxes=masks_to_boxes(masks),
        placed=placed,
        subjects=tuple(subjects),
        ground=described["ground"],
        clutter=clutter,
        combinations=combinations,
    )


def _placed(values: dict[str, Any]) -> Placed:
    x, y = values.pop("centre")
    area = values.pop("area")
    return Placed(thing=Thing(**values), centre=(x, y), area=area)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_bytes(data)
    fresh.replace(path)
