"""The work of one shard, written once: whoever schedules it calls `ShardLabeller.label`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Candidates, Generated, GeneratedMask
from engine.geometry import box_xyxy_to_xywh
from engine.model import weights
from engine.model.device import device_named
from engine.model.predictor import Predictor
from flows.sources import ImageReader
from storage.catalog.shards import ShardReceipt, write_shard_files
from storage.rows import CandidateRow, ImageSetRow, MaskRow, mask_id, utcnow


@dataclass(frozen=True)
class ImageRef:
    """An image by id and uri."""

    image_id: str
    uri: str


@dataclass(frozen=True, kw_only=True)
class ShardOrder:
    """Label these images."""

    shard_key: str
    run_id: str
    images: tuple[ImageRef, ...]


@dataclass(frozen=True, kw_only=True)
class ShardFailure:
    """A shard that nobody could label, and why."""

    shard_key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LabellerSpec:
    """Everything a worker needs, picklable; paths are this machine's."""

    root: Path
    weights_path: Path
    weights_sha256: str
    model_version: str
    generation: GenerationConfig
    keep_candidates: bool
    config_hash: str
    generation_depth: int
    reader: ImageReader
    device: str


class ShardLabeller:
    """One model load, many shards. Stateless between shards, so a shard may run twice."""

    def __init__(self, spec: LabellerSpec) -> None:
        model, _ = weights.load(spec.weights_path, sha256=spec.weights_sha256)
        self._generator = MaskGenerator(
            Predictor(model, version=spec.model_version, device=device_named(spec.device)),
            spec.generation,
        )
        self._spec = spec

    def label(self, order: ShardOrder) -> ShardReceipt:
        """Write the shard's masks and sets under a fresh name; nothing is committed here."""
        spec = self._spec
        rows = ShardRows(order, spec.model_version, spec.config_hash, spec.generation_depth)
        for ref in order.images:
            pixels = spec.reader.pixels(ref.uri, ref.image_id)
            generated = self._generator.generate(pixels, keep_candidates=spec.keep_candidates)
            rows.add(ref.image_id, generated)
        return rows.written(spec.root)


class ShardRows:
    """The rows of a shard, image by image."""

    def __init__(
        self, order: ShardOrder, model_version: str, config_hash: str, generation_depth: int
    ) -> None:
        self._order = order
        self._depth = generation_depth
        self._masks: list[MaskRow] = []
        self._sets: list[ImageSetRow] = []
        self._candidates: list[CandidateRow] = []
        self._made: dict[str, Any] = {
            "model_version": model_version,
            "config_hash": config_hash,
            "run_id": order.run_id,
            "shard_key": order.shard_key,
        }

    def add(self, image_id: str, generated: Generated) -> None:
        """What was generated for one image of the shard."""
        self._masks += [self._mask(mask, image_id) for mask in generated.masks]
        kept = generated.candidates
        if kept is not None:
            self._candidates += [self._candidate(mask, kept, image_id) for mask in kept.masks]
        self._sets.append(
            ImageSetRow(
                **self._made,
                image_id=image_id,
                num_proposed=generated.num_proposed,
                num_masks=len(generated.masks),
                rejections=generated.rejections,
                num_candidates=None if kept is None else len(kept.masks),
                created_at=utcnow(),
            )
        )

    def written(self, root: Path) -> ShardReceipt:
        """Write them below the store at `root`."""
        return write_shard_files(
            root, self._order.shard_key, self._masks, self._sets, self._candidates
        )

    def _mask(self, mask: GeneratedMask, image_id: str) -> MaskRow:
        made = self._made
        return MaskRow(
            **made,
            **_shape(mask),
            # With its number: without thresholds two masks of an image may be equal.
            mask_id=mask_id(
                "auto",
                image_id,
                made["model_version"],
                made["config_hash"],
                f"{mask.number} {mask.rle.counts}",
            ),
            image_id=image_id,
            stage="auto",
            prompt="grid",
            generation_depth=self._depth,
            is_crowd=False,
            created_at=utcnow(),
        )

    def _candidate(self, mask: GeneratedMask, kept: Candidates, image_id: str) -> CandidateRow:
        return CandidateRow(
            **self._made,
            **_shape(mask),
            image_id=image_id,
            number=mask.number,
            crop_layer=mask.crop.layer,
            rejected_because=kept.rejected.get(mask.number),
        )


def _shape(mask: GeneratedMask) -> dict[str, Any]:
    """The columns that tables of masks share."""
    return {
        "segmentation": {"size": list(mask.rle.size), "counts": mask.rle.counts},
        "bbox": [float(v) for v in box_xyxy_to_xywh(mask.box_xyxy)],
        "crop_box": [float(v) for v in box_xyxy_to_xywh(mask.crop.xyxy)],
        "area": mask.area,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
        "point_coords": [[float(v) for v in mask.point_xy]],
    }
