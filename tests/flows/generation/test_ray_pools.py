"""Shards on real Ray clusters: every pool, workers that die or hang, two nodes."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from flows.errors import StageError
from flows.generation.generate import generate_stage
from flows.images.sources import ImageReader
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import WorkerSettings
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, open_workspace

pytestmark = pytest.mark.slow

Found = list[tuple[str, str]]


def masks_in(workspace: Workspace) -> Found:
    rows = workspace.lake.rows(
        "SELECT image_id, segmentation.counts AS counts FROM masks WHERE stage = 'auto'"
    )
    return sorted((row["image_id"], row["counts"]) for row in rows)


def on_ray(workspace: Workspace, **settings: Any) -> Workspace:
    workers = WorkerSettings(kind="ray", **settings)
    return replace(workspace, settings=replace(workspace.settings, workers=workers))


@pytest.fixture(scope="module")
def small_shards(recipe: Recipe) -> Recipe:
    grid = replace(recipe.generation, points_per_side=6, pred_iou_thresh=0.3)
    return replace(recipe, shard_size=2, generation=grid)


@pytest.fixture(scope="module")
def truth(
    filled_root: Path, small_shards: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Found:
    """The masks that this process makes."""
    root = tmp_path_factory.mktemp("here") / "workspace"
    shutil.copytree(filled_root, root)
    opened = open_workspace(root)
    workers = replace(opened.settings, workers=WorkerSettings(kind="local"))
    generate_stage(replace(opened, settings=workers), small_shards, Silent())
    found = masks_in(opened)
    assert len(found) > 12
    return found


@pytest.fixture(scope="module", params=[0, 1], ids=["one pool", "three pools"])
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """A cluster in this process, without a GPU and with one that only Ray believes in."""
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=request.param,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_the_masks_are_those_of_this_process(
    filled: Workspace, small_shards: Recipe, truth: Found
) -> None:
    # Half a GPU each: two actors share the one there is, and for others there is no room.
    generate_stage(on_ray(filled, gpus=0.5, count=5), small_shards, Silent())
    assert masks_in(filled) == truth
    assert fsck(filled) == []


def faulty(reader: ImageReader, marker: Path, fault: Callable[[], None]) -> ImageReader:
    """A reader that does `fault` once, in whichever process comes first."""

    class Faulty(ImageReader):
        def pixels(self, uri: str, image_id: str) -> Any:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return super().pixels(uri, image_id)
            fault()
            raise AssertionError("a fault that lets go on")

    return Faulty(reader.sources, reader.limits)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(10_000)


def err() -> None:
    raise OSError("the disk was away for a moment")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("fault", [die, hang, err])
def test_a_fault_costs_a_try_and_no_image(
    filled: Workspace,
    small_shards: Recipe,
    truth: Found,
    fault: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = faulty(filled.reader, tmp_path / "happened", fault)
    monkeypatch.setattr(Workspace, "reader", reader)
    # An actor's start counts too, and a busy machine takes its time for that.
    timeout_s = 60.0 if fault is hang else 900.0
    generate_stage(on_ray(filled, timeout_s=timeout_s, gpus=0.5), small_shards, Silent())
    assert (tmp_path / "happened").exists()
    assert masks_in(filled) == truth
    assert fsck(filled) == []


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("cluster", [0], indirect=True)
def test_a_shard_that_always_fails_is_given_up_and_the_others_are_done(
    filled: Workspace, small_shards: Recipe
) -> None:
    victim = filled.lake.rows("SELECT uri FROM images ORDER BY image_id LIMIT 1")[0]["uri"]
    filled.reader.sources.path(victim).rename(away := filled.root / "away")
    try:
        outcome = generate_stage(on_ray(filled), small_shards, Silent())
    finally:
        away.rename(filled.reader.sources.path(victim))
    assert (outcome.num_dead, outcome.num_images) == (1, 11)
    assert fsck(filled) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "auto"])
def test_an_address_without_a_cluster_is_told(
    filled: Workspace, small_shards: Recipe, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.shutdown()
    monkeypatch.setenv("RAY_TMPDIR", str(filled.root))
    with pytest.raises(
        StageError, match=rf"workers\.ray_address: .* at {address}.*ray start --head"
    ):
        generate_stage(on_ray(filled, ray_address=address), small_shards, Silent())
    assert filled.lake.rows("SELECT * FROM image_sets") == []
