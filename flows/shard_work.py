"""The work of one shard, written once: whoever schedules it calls `ShardLabeller.label`."""

from dataclasses import dataclass
from pathlib import Path

from engine.generation.config import GenerationConfig
from engine.generation.generator import Generated, GeneratedMask, MaskGenerator
from engine.geometry import box_xyxy_to_xywh
from engine.model import weights
from engine.model.device import device_named
from engine.model.predictor import Predictor
from flows.sources import ImageReader
from storage.catalog.shards import ShardReceipt, write_shard_files
from storage.rows import ImageSetRow, MaskRow, mask_id, utcnow


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
        masks: list[MaskRow] = []
        sets: list[ImageSetRow] = []
        for ref in order.images:
            pixels = self._spec.reader.pixels(ref.uri, ref.image_id)
            generated = self._generator.generate(pixels)
            masks.extend(self._mask(mask, ref, order) for mask in generated.masks)
            sets.append(self._set(generated, ref, order))
        return write_shard_files(self._spec.root, order.shard_key, masks, sets)

    def _mask(self, mask: GeneratedMask, ref: ImageRef, order: ShardOrder) -> MaskRow:
        spec = self._spec
        identity = mask_id(
            "auto", ref.image_id, spec.model_version, spec.config_hash, mask.rle.counts
        )
        return MaskRow(
            mask_id=identity,
            image_id=ref.image_id,
            stage="auto",
            run_id=order.run_id,
            model_version=spec.model_version,
            config_hash=spec.config_hash,
            shard_key=order.shard_key,
            prompt="grid",
            generation_depth=spec.generation_depth,
            is_crowd=False,
            segmentation={"size": list(mask.rle.size), "counts": mask.rle.counts},
            bbox=[float(v) for v in box_xyxy_to_xywh(mask.box_xyxy[None])[0]],
            crop_box=[float(v) for v in box_xyxy_to_xywh(mask.crop_box_xyxy[None])[0]],
            area=mask.area,
            predicted_iou=mask.predicted_iou,
            stability_score=mask.stability_score,
            point_coords=[[float(v) for v in mask.point_xy]],
            created_at=utcnow(),
        )

    def _set(self, generated: Generated, ref: ImageRef, order: ShardOrder) -> ImageSetRow:
        return ImageSetRow(
            image_id=ref.image_id,
            model_version=self._spec.model_version,
            config_hash=self._spec.config_hash,
            run_id=order.run_id,
            shard_key=order.shard_key,
            num_proposed=generated.num_proposed,
            num_masks=len(generated.masks),
            rejections=generated.rejections,
            created_at=utcnow(),
        )
