"""`maskloop segment IMAGES... --text --out`: the masks that a text means, without a workspace."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from engine import images, rle
from engine.clip.config import NANO
from engine.clip.weights import open_clip
from engine.clip.weights import shipped as shipped_clip
from engine.generation.by_text import ByTextConfig, TextMask, all_by_map
from engine.geometry import box_xyxy_to_xywh
from engine.identity import config_hash
from engine.images import Pixels
from engine.model.embedding import ImageEmbedding
from engine.model.integrity import WeightsError
from engine.model.predictor import Prediction, Predictor
from engine.model.prompts import Prompts
from engine.model.text.weights import load_text, shipped_text
from flows.clip.clips import not_known
from flows.errors import StageError, UsageError
from flows.files.file_model import ChosenModel
from flows.files.mask_formats import MaskFolder, Masks
from flows.intake.files import unwritable
from flows.progress import Progress

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class TextJob:
    """What to ask: `text`, with clicks on what is meant and on what is not, or for `every` object.

    Less likely than `min_presence` it is not there, and has no mask. Raises UsageError.
    """

    text: str
    points: tuple[Point, ...] = ()
    negatives: tuple[Point, ...] = ()
    every: bool = False
    min_presence: float = 0.5
    config: ByTextConfig = field(default_factory=ByTextConfig)

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError(f"--text: must say something, but got {self.text!r}")
        if self.every and (self.points or self.negatives):
            raise UsageError("--all: is for a text alone; a --point means one object")
        if not 0 <= self.min_presence <= 1:
            raise UsageError(f"--min-presence: must be in [0, 1], but got {self.min_presence}")


@dataclass(frozen=True, kw_only=True)
class TextOutcome:
    """What one run gave; `presence` of each image by name; `problems` has a line for each other."""

    num_images: int
    num_masks: int
    presence: dict[str, float]
    seconds: float
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """What reads texts for a model: weights of a `nano-clip`, and of an add-on trained with it."""

    clip: Path
    text: Path

    @classmethod
    def named(cls, clip: Path | None, text: Path | None) -> Self:
        """These, else those that ship; raises UsageError that says what is missing."""
        files = cls(clip=clip or shipped_clip(), text=text or shipped_text())
        for option, path, made_by in (
            ("--clip", files.clip, "make pretrain-clip"),
            ("--text-weights", files.text, "python -m engine.training.pretrain_text"),
        ):
            if not path.is_file():
                raise UsageError(
                    f"{option}: {path}: no such file; name one that was made by {made_by}"
                )
        return files


def reading_text(chosen: ChosenModel, files: TextFiles) -> Predictor:
    """The model with its add-on for texts; raises UsageError for files that are not its own."""
    try:
        clip = open_clip(NANO, files.clip).computing(device=chosen.predictor.device)
    except WeightsError as error:
        raise UsageError(f"--clip: {error}") from error
    try:
        reader = load_text(files.text, chosen.model, clip)
    except WeightsError as error:
        raise UsageError(f"--text-weights: {error}") from error
    return chosen.predictor.reading(reader)


def check_words(predictor: Predictor, job: TextJob) -> None:
    """Raises UsageError for words that mean nothing to `predictor`."""
    if unknown := predictor.unknown_words(job.text):
        raise UsageError(f"--text: {not_known(unknown)}")


def segment_files(
    predictor: Predictor,
    job: TextJob,
    images_by_name: Mapping[str, Path],
    folder: MaskFolder | Path,
    progress: Progress,
) -> TextOutcome:
    """Write the masks into `folder`, or as pictures NAME.png into a path.

    Raises StageError when no image could be read.
    """
    began = time.monotonic()
    problems: list[str] = []
    presence: dict[str, float] = {}
    count = 0
    for name, path in images_by_name.items():
        found = _read(path)
        if isinstance(found, str):
            problems.append(found)
            continue
        image_id, pixels = found
        masks, presence[name] = masks_of_text(predictor, job, pixels)
        count += len(masks)
        if isinstance(folder, Path):
            _write_picture(folder / f"{name}.png", masks, pixels.shape[:2])
        else:
            height, width = pixels.shape[:2]
            entry = {"file_name": name, "image_id": image_id, "height": height, "width": width}
            folder.keep(Masks(entry, [_annotation(mask, (height, width)) for mask in masks]))
        progress.step("images", len(presence) + len(problems), len(images_by_name))
    if not presence:
        raise StageError(f"no image could be segmented; {problems[0]}")
    if isinstance(folder, MaskFolder):
        folder.finish(list(presence))
    return TextOutcome(
        num_images=len(presence),
        num_masks=count,
        presence=presence,
        seconds=time.monotonic() - began,
        problems=tuple(problems),
    )


def made_by(chosen: ChosenModel, job: TextJob) -> dict[str, str]:
    """By which weights, and what was asked."""
    return {
        "weights_sha256": chosen.sha256,
        "encoder_id": chosen.predictor.encoder_id,
        "text": job.text,
        "config_hash": config_hash(job),
    }


def masks_of_text(
    predictor: Predictor, job: TextJob, pixels: Pixels
) -> tuple[list[TextMask], float]:
    """The masks that `job` means on (H, W, 3) uint8, and how likely there is what it means.

    Raises UsageError for a point outside the image.
    """
    height, width = pixels.shape[:2]
    places = [*job.points, *job.negatives]
    for x, y in places:
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"--point: must lie in the image of {width}x{height}, got {x:g},{y:g}")
    return masks_in(predictor, job, predictor.embed(pixels))


def masks_in(
    predictor: Predictor, job: TextJob, embedding: ImageEmbedding
) -> tuple[list[TextMask], float]:
    """The same on an image that is embedded; points must lie in it."""
    places = [*job.points, *job.negatives]
    if places:
        labels = [1] * len(job.points) + [0] * len(job.negatives)
        prompts = Prompts(
            points=np.array([places], dtype=np.float32),
            labels=np.array([labels], dtype=np.int64),
            text=job.text,
        )
    else:
        prompts = Prompts(text=job.text)
    prediction = predictor.predict(embedding, prompts, multimask=False)
    assert prediction.presence is not None, "it was asked by text"
    presence = float(prediction.presence[0])
    # Who clicks on it has seen it.
    if not job.points and presence < job.min_presence:
        return [], presence
    if job.every:
        return all_by_map(predictor, embedding, job.text, job.config), presence
    return _single(prediction, presence, places), presence


def _single(prediction: Prediction, presence: float, places: Sequence[Point]) -> list[TextMask]:
    mask = prediction.masks()[0, 0]
    if not mask.any():
        return []
    rows, columns = np.nonzero(mask)
    place = places[0] if places else (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5)
    return [
        TextMask(
            rle=rle.encode_one(mask),
            score=presence,
            predicted_iou=float(prediction.iou[0, 0]),
            point_xy=place,
        )
    ]


def _read(path: Path) -> tuple[str, Pixels] | str:
    """Its id and pixels, or why it cannot be read."""
    if (problem := unwritable(path)) is not None:
        return problem
    try:
        data = path.read_bytes()
        return images.image_id(data), images.decode(data, images.DEFAULT_LIMITS).pixels
    except images.ImageError as error:
        return f"{path}: {error}"
    except OSError as error:
        return f"{path}: {error.strerror}"


def _annotation(mask: TextMask, hw: tuple[int, int]) -> dict[str, Any]:
    """By SA-1B's keys; `stability_score` is how likely it is what the text means."""
    return {
        "segmentation": {"size": list(mask.rle.size), "counts": mask.rle.counts},
        "bbox": [float(value) for value in box_xyxy_to_xywh(rle.box(mask.rle))],
        "area": rle.area(mask.rle),
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.score,
        "crop_box": [0.0, 0.0, float(hw[1]), float(hw[0])],
        "point_coords": [list(mask.point_xy)],
        "part_of": None,
        "level": "whole",
    }


def _write_picture(path: Path, masks: Sequence[TextMask], hw: tuple[int, ...]) -> None:
    """All masks in one picture of their numbers: 0 for none, 1 for the first, up to 255."""
    numbers = np.zeros(hw[:2], dtype=np.uint8)
    for number, mask in reversed(list(enumerate(masks[:255], start=1))):
        numbers[rle.decode(mask.rle)] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers).save(path)
