"""`maskloop generate IMAGES... --out`: masks of files, without a workspace.

Each image's masks are written whole as soon as they are made, and a run that was stopped goes on
where it was; what an earlier run made of the same image by the same model and config stays.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import images
from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.generation.masks import GeneratedMask
from engine.geometry import box_xyxy_to_xywh
from engine.model.predictor import Predictor
from engine.threads import each_image
from flows.errors import StageError
from flows.files.mask_formats import MaskFolder, Masks
from flows.intake.files import unwritable
from flows.progress import Progress


@dataclass(frozen=True, kw_only=True)
class FileMasksOutcome:
    """What one run gave; `problems` has a line for each image without masks."""

    num_images: int
    num_known: int
    num_masks: int
    seconds: float
    problems: tuple[str, ...]


@dataclass(frozen=True)
class FileMasks:
    """Which masks to make: by which model, of these weights, and how."""

    predictor: Predictor
    weights_sha256: str
    config: GenerationConfig
    limits: images.ImageLimits = images.DEFAULT_LIMITS

    @property
    def made_by(self) -> dict[str, str]:
        """What decides about the masks of an image."""
        return {"weights_sha256": self.weights_sha256, "config_hash": self.config.key()}

    def make(
        self,
        images_by_name: Mapping[str, Path],
        folder: MaskFolder,
        progress: Progress,
        *,
        strict: bool,
    ) -> FileMasksOutcome:
        """Make what `folder` lacks.

        Raises StageError when no image could be labelled or, when `strict`, for the first that
        could not.
        """
        began = time.monotonic()
        problems: list[str] = []
        done: dict[str, _Done] = {}
        for name, outcome in zip(images_by_name, self._each(images_by_name, folder), strict=True):
            if isinstance(outcome, _Done):
                done[name] = outcome
            elif strict:
                raise StageError(f"{outcome}; without --strict it would be left out")
            else:
                problems.append(outcome)
            progress.step("images", len(done) + len(problems), len(images_by_name))
        if not done:
            raise StageError(f"no image could be labelled; {problems[0]}")
        folder.finish(list(done))
        return FileMasksOutcome(
            num_images=len(done),
            num_known=sum(not each.is_new for each in done.values()),
            num_masks=sum(each.num_masks for each in done.values()),
            seconds=time.monotonic() - began,
            problems=tuple(problems),
        )

    def _each(self, named: Mapping[str, Path], folder: MaskFolder) -> Iterator["_Done | str"]:
        """For each image what was done, or why it could not be."""
        names = list(named)
        generator = MaskGenerator(self.predictor, self.config)

        def label(number: int) -> _Done | str:
            return self._label(generator, names[number], named[names[number]], folder)

        return each_image(label, range(len(names)), at_once=self.predictor.images_at_once)

    def _label(
        self, generator: MaskGenerator, name: str, path: Path, folder: MaskFolder
    ) -> "_Done | str":
        if (problem := unwritable(path)) is not None:
            return problem
        try:
            data = path.read_bytes()
            image_id = images.image_id(data)
            known = folder.masks_of(name)
            if known is not None and known.image["image_id"] == image_id:
                return _Done(is_new=False, num_masks=len(known.annotations))
            pixels = images.decode(data, self.limits).pixels
        except images.ImageError as error:
            return f"{path}: {error}"
        except OSError as error:
            return f"{path}: {error.strerror}"
        generated = generator.generate(pixels)
        height, width = pixels.shape[:2]
        image = {"file_name": name, "image_id": image_id, "height": height, "width": width}
        folder.keep(Masks(image, _annotations(generated.masks)))
        return _Done(is_new=True, num_masks=len(generated.masks))


@dataclass(frozen=True, kw_only=True)
class _Done:
    """An image that has its masks."""

    is_new: bool
    num_masks: int


def _annotations(masks: Sequence[GeneratedMask]) -> list[dict[str, Any]]:
    numbers = {mask.number: number for number, mask in enumerate(masks, start=1)}
    return [_annotation(mask, numbers) for mask in masks]


def _annotation(mask: GeneratedMask, numbers: Mapping[int, int]) -> dict[str, Any]:
    """By SA-1B's keys, and what it is part of."""
    return {
        "segmentation": {"size": list(mask.rle.size), "counts": mask.rle.counts},
        "bbox": [float(value) for value in box_xyxy_to_xywh(mask.box_xyxy)],
        "area": mask.area,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
        "crop_box": [float(value) for value in box_xyxy_to_xywh(mask.crop.xyxy)],
        "point_coords": [list(mask.point_xy)],
        "part_of": None if mask.part_of is None else numbers[mask.part_of],
        "level": mask.level,
    }
