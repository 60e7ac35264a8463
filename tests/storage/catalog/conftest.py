"""A real lake in a place of its own, and rows to put into it.

A test marked `places("folder", "team")` runs on both kinds of place: a folder with SQLite, and S3
with Postgres.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from storage.catalog.lake import Lake
from storage.catalog.place import Place
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
from storage.s3.client import S3Config, client

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("places")
    if marker is None or "kind" not in metafunc.fixturenames:
        return
    team = [pytest.mark.postgres, pytest.mark.s3]
    if marker.kwargs.get("slow"):
        team.append(pytest.mark.slow)
    kinds = {"folder": "folder", "team": pytest.param("team", marks=team)}
    metafunc.parametrize("kind", [kinds[name] for name in marker.args])


@pytest.fixture
def kind() -> str:
    """The kind of place, for tests without the marker `places`."""
    return "folder"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store, made once and copied: making one takes a second."""
    root = tmp_path_factory.mktemp("empty")
    Lake.create(root).close()
    return root


@pytest.fixture(scope="session")
def empty_team_store(postgres: Any, s3_server: Any) -> Place:
    """The same in S3 and Postgres."""
    place = Place(
        data="s3://lakes/empty",
        catalog=postgres.create("empty_lake"),
        s3=S3Config(endpoint_url=s3_server.endpoint_url),
    )
    client(place.s3).create_bucket(Bucket="lakes")
    Lake.create(place).close()
    return place


@pytest.fixture
def root(empty_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def team(empty_team_store: Place, postgres: Any) -> Iterator[Place]:
    name = f"lake_{uuid.uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE empty_lake STRATEGY file_copy")
    copy = replace(empty_team_store, data=f"s3://lakes/{name}", catalog=postgres.url(name))
    empty = empty_team_store.objects
    for each in empty.below("lake"):
        copy.objects.put(each.uri, empty.get(each.uri, sha256=empty.sha256(each.uri)))
    yield copy
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> Place:
    """An empty store of its own, of this kind."""
    if kind == "team":
        found: Place = request.getfixturevalue("team")
        return found
    return Place.folder(request.getfixturevalue("root"))


@pytest.fixture
def lake(place: Place) -> Iterator[Lake]:
    opened = Lake.open(place)
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
