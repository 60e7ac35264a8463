"""The work of one shard, written once: whoever schedules it calls `ShardLabeller.label`.

Or, to keep a GPU busy, its parts in pools of their own: `read_pixels`, `propose`, `finish_shard`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.generation.config import GenerationConfig
from engine.generation.finish import finish
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Candidates, Generated, GeneratedMask
from engine.generation.propose import Proposed
from engine.geometry import box_xyxy_to_xywh
from engine.model import weights
from engine.model.device import device_named
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor
from flows.images.fetching import fetched_ahead
from flows.images.sources import ImageReader
from storage.catalog.shards import ShardReceipt, write_shard_files
from storage.errors import StorageError
from storage.objects import Objects
from storage.rows import CandidateRow, ImageSetRow, MaskRow, mask_id, utcnow

# Hexadecimal digits that an automatic mask's id has from its image's.
_SHARED = 8


@dataclass(frozen=True)
class KeptEmbedding:
    """An embedding of an image in the store, by the encoder that made it."""

    encoder_id: str
    uri: str
    sha256: str


@dataclass(frozen=True)
class ImageRef:
    """An image by id and uri, and what is kept of it."""

    image_id: str
    uri: str
    embeddings: tuple[KeptEmbedding, ...] = ()


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


Result = ShardReceipt | ShardFailure


@dataclass(frozen=True, kw_only=True)
class LabellerSpec:
    """Everything a worker needs, picklable."""

    objects: Objects
    weights_uri: str
    weights_sha256: str
    model_version: str
    generation: GenerationConfig
    keep_candidates: bool
    config_hash: str
    generation_depth: int
    reader: ImageReader
    device: str


def read_pixels(reader: ImageReader, ref: ImageRef) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of one image, fetched, checked and decoded."""
    return reader.pixels(ref.uri, ref.image_id)


def finish_shard(
    spec: LabellerSpec, order: ShardOrder, proposed: Iterable[Proposed]
) -> ShardReceipt:
    """Write the shard's masks and sets under a fresh name; nothing is committed here.

    `proposed`: of each image of the shard, in their order.
    """
    rows = ShardRows(order, spec.model_version, spec.config_hash, spec.generation_depth)
    for ref, each in zip(order.images, proposed, strict=True):
        rows.add(ref.image_id, finish(each, spec.generation))
    return rows.written(spec.objects)


class ShardLabeller:
    """One model load, many shards. Stateless between shards, so a shard may run twice."""

    def __init__(self, spec: LabellerSpec) -> None:
        data = spec.objects.get(spec.weights_uri, sha256=spec.weights_sha256)
        model, _ = weights.load(data, sha256=spec.weights_sha256)
        self._predictor = Predictor(
            model, version=spec.model_version, device=device_named(spec.device)
        )
        self._generator = MaskGenerator(self._predictor, spec.generation)
        self._spec = spec

    def propose(self, pixels: npt.NDArray[np.uint8], ref: ImageRef) -> Proposed:
        """The model's part of one image."""
        return self._generator.propose(
            pixels, self._kept_embedding(ref), keep_candidates=self._spec.keep_candidates
        )

    def _kept_embedding(self, ref: ImageRef) -> ImageEmbedding | None:
        """The image's embedding by this model's encoder, where an earlier stage kept one."""
        for kept in ref.embeddings:
            if kept.encoder_id == self._predictor.encoder_id:
                try:
                    data = self._spec.objects.get(kept.uri, sha256=kept.sha256)
                except StorageError:
                    continue
                return ImageEmbedding.from_bytes(data)
        return None

    def label(self, order: ShardOrder) -> ShardReceipt:
        """All parts of a shard, one after the other."""
        spec = self._spec
        proposed = (self.propose(read_pixels(spec.reader, ref), ref) for ref in order.images)
        with fetched_ahead(spec.reader, ((ref.uri, ref.image_id) for ref in order.images)):
            return finish_shard(spec, order, proposed)


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
        ids = {mask.number: self._id_of(mask, image_id) for mask in generated.masks}
        self._masks += [self._mask(mask, image_id, ids) for mask in generated.masks]
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
                savings=generated.savings or None,
                created_at=utcnow(),
            )
        )

    def written(self, objects: Objects) -> ShardReceipt:
        """Write them among the objects of the store."""
        return write_shard_files(
            objects, self._order.shard_key, self._masks, self._sets, self._candidates
        )

    def _id_of(self, mask: GeneratedMask, image_id: str) -> str:
        made = self._made
        # With its number: without thresholds two masks of an image may be equal.
        content = f"{mask.number} {mask.rle.counts}"
        name = mask_id("auto", image_id, made["model_version"], made["config_hash"], content)
        # Shards hold images by their ids: so masks lie by theirs, and one is found in one file.
        return image_id[:_SHARED] + name[_SHARED:]

    def _mask(self, mask: GeneratedMask, image_id: str, ids: Mapping[int, str]) -> MaskRow:
        return MaskRow(
            **self._made,
            **_shape(mask),
            mask_id=ids[mask.number],
            image_id=image_id,
            stage="auto",
            part_of=None if mask.part_of is None else ids[mask.part_of],
            level=mask.level,
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
