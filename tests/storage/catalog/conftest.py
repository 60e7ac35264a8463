"""A real lake in a folder of its own, and rows to put into it."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storage.catalog.lake import Lake
from storage.catalog.shards import ShardReceipt, write_shard_files
from storage.rows import (
    ImageRow,
    ImageSetRow,
    MaskRow,
    ModelVersionRow,
    Row,
    RunRow,
    ShardRow,
    mask_id,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store, made once and copied: making one takes a second."""
    root = tmp_path_factory.mktemp("empty")
    Lake.create(root).close()
    return root


@pytest.fixture
def root(empty_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def lake(root: Path) -> Iterator[Lake]:
    opened = Lake.open(root)
    yield opened
    opened.close()


class Make:
    """Rows with everything that a test does not care about filled in."""

    now = NOW

    @staticmethod
    def later(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    @staticmethod
    def image(image_id: str, **changes: Any) -> ImageRow:
        row = ImageRow(
            image_id=image_id,
            uri=f"source:photos/{image_id}.png",
            height=20,
            width=30,
            split="unlabelled",
            source="photos",
            group_id=image_id,
            file_name=f"{image_id}.png",
            format="PNG",
            mode="RGB",
            bit_depth=8,
            had_alpha=False,
            num_frames=1,
            dhash="0" * 16,
            run_id="run",
            added_at=NOW,
        )
        return replace(row, **changes)

    @staticmethod
    def mask(name: str, image_id: str, stage: str = "label", **changes: Any) -> MaskRow:
        row = MaskRow(
            mask_id=mask_id(name),
            image_id=image_id,
            stage=stage,
            run_id="run",
            segmentation={"size": [20, 30], "counts": f"counts of {name}"},
            bbox=[1.0, 2.0, 3.0, 4.0],
            area=12,
            created_at=NOW,
        )
        return replace(row, **changes)

    @staticmethod
    def model(version: str, **changes: Any) -> ModelVersionRow:
        row = ModelVersionRow(
            version=version,
            weights_uri=f"models/{version}.safetensors",
            weights_sha256="0" * 64,
            architecture="nano",
            config_hash="c" * 16,
            config="{}",
            training_snapshot=1,
            num_training_images=0,
            num_training_masks=0,
            generation_depth=1,
            role="candidate",
            status="promoted",
            run_id="run",
            created_at=NOW,
        )
        return replace(row, **changes)

    @staticmethod
    def run(run_id: str, **changes: Any) -> RunRow:
        row = RunRow(run_id=run_id, stage="train", config="{}", status="running", started_at=NOW)
        return replace(row, **changes)

    @staticmethod
    def shard(shard_key: str, image_ids: Sequence[str], **changes: Any) -> ShardRow:
        row = ShardRow(
            shard_key=shard_key,
            run_id="run",
            model_version="v1",
            config_hash="config",
            state="pending",
            image_ids=list(image_ids),
            num_images=len(image_ids),
            planned_at=NOW,
        )
        return replace(row, **changes)

    @staticmethod
    def auto_mask(shard_key: str, image_id: str, number: int, **changes: Any) -> MaskRow:
        return Make.mask(
            f"{image_id} {number}",
            image_id,
            "auto",
            model_version="v1",
            config_hash="config",
            shard_key=shard_key,
            generation_depth=1,
            predicted_iou=0.9,
            stability_score=0.95,
            point_coords=[[1.5, 2.5]],
            crop_box=[0.0, 0.0, 30.0, 20.0],
            **changes,
        )

    @staticmethod
    def image_set(shard_key: str, image_id: str, num_masks: int, **changes: Any) -> ImageSetRow:
        row = ImageSetRow(
            image_id=image_id,
            model_version="v1",
            config_hash="config",
            run_id="run",
            shard_key=shard_key,
            num_proposed=num_masks + 3,
            num_masks=num_masks,
            rejections={"predicted_iou": 2, "duplicate": 1},
            created_at=NOW,
        )
        return replace(row, **changes)

    @staticmethod
    def work(lake: Lake, row: ShardRow, masks_per_image: int = 2) -> ShardReceipt:
        """Do a shard's work as a worker would."""
        masks = [
            Make.auto_mask(row.shard_key, image_id, number)
            for image_id in row.image_ids
            for number in range(masks_per_image)
        ]
        sets = [
            Make.image_set(row.shard_key, image_id, masks_per_image) for image_id in row.image_ids
        ]
        return write_shard_files(lake.objects, row.shard_key, masks, sets)


@pytest.fixture
def make() -> type[Make]:
    return Make


@pytest.fixture
def put(lake: Lake) -> Callable[..., int]:
    """Commit rows; returns the snapshot they made."""

    def commit(*rows: Row) -> int:
        lake.commit(lambda tx: tx.insert(rows), message="test")
        return lake.snapshot()

    return commit
