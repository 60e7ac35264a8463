"""A store after three turns of the loop, without a model that computes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import rle
from engine.rle import Rle
from flows.exporting import export_coco
from flows.models import serving
from flows.runs import new_run
from flows.training.labels import training_labels
from flows.training.model_line import training_sets
from flows.workspace import Workspace, open_workspace
from storage.rows import (
    ImageRow,
    ImageSetRow,
    MaskRow,
    ModelVersionRow,
    Row,
    RunRow,
    ShardRow,
    mask_id,
    utcnow,
)


@dataclass(frozen=True)
class ThreeTurns:
    """A store after three turns of the loop, all rows written by hand; HW is (20, 30).

    Turn k: ada accepts a proposal of v{k} on image a{k} and bob draws beside it, in turn 2 also
    over ada's mask of turn 1; v{k+1} learns all that stands of people and serves; it labels image
    `auto`. `ended` are the snapshots after each turn, of which the second was exported.
    """

    workspace: Workspace
    ended: tuple[int, ...]
    export_id: str


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Rle:
    pixels = np.zeros((20, 30), bool)
    pixels[y0:y1, x0:x1] = True
    return rle.encode_one(pixels)


def drawn_row(name: str, image_id: str, stage: str, mask: Rle, **more: Any) -> MaskRow:
    x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
    return MaskRow(
        **{
            "mask_id": mask_id(name),
            "image_id": image_id,
            "stage": stage,
            "run_id": "import",
            "segmentation": {"size": list(mask.size), "counts": mask.counts},
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": rle.area(mask),
            "created_at": utcnow(),
        }
        | more
    )


def image_row(image_id: str, split: str) -> ImageRow:
    return ImageRow(
        image_id=image_id,
        uri=f"source:made/{image_id}.png",
        height=20,
        width=30,
        split=split,
        source="made",
        group_id=image_id,
        file_name=f"{image_id}.png",
        format="PNG",
        mode="RGB",
        bit_depth=8,
        had_alpha=False,
        num_frames=1,
        dhash="0" * 16,
        run_id="import",
        added_at=utcnow(),
    )


def model_row(workspace: Workspace, version: str, **more: Any) -> ModelVersionRow:
    weights = workspace.objects.put(f"models/{version}.safetensors", version.encode())
    return ModelVersionRow(
        **{
            "version": version,
            "weights_uri": weights.uri,
            "weights_sha256": weights.sha256,
            "architecture": "nano",
            "config_hash": "c" * 16,
            "config": "{}",
            "training_snapshot": workspace.lake.snapshot(),
            "num_training_images": 0,
            "num_training_masks": 0,
            "generation_depth": 1,
            "role": "base",
            "status": "candidate",
            "run_id": "import",
            "created_at": utcnow(),
        }
        | more
    )


def put(workspace: Workspace, *rows: Row) -> None:
    workspace.lake.commit(lambda tx: tx.insert(rows), message="test")


def done_run(run_id: str, stage: str, turn: int | None) -> RunRow:
    return replace(new_run(stage), run_id=run_id, iteration=turn, status="done")


def label_automatically(workspace: Workspace, turn: int) -> None:
    version, key = f"v{turn + 1}", f"shard{turn}"
    made_by = {"model_version": version, "config_hash": "grid", "shard_key": key}
    mask = rectangle(2 * turn, 2, 2 * turn + 8, 12)
    shard = ShardRow(
        shard_key=key,
        run_id=f"generate{turn}",
        model_version=version,
        config_hash="grid",
        state="committed",
        image_ids=["auto"],
        num_images=1,
        num_masks=1,
        planned_at=utcnow(),
    )
    of_set = ImageSetRow(
        image_id="auto",
        run_id=f"generate{turn}",
        num_proposed=1,
        num_masks=1,
        rejections={},
        created_at=utcnow(),
        **made_by,
    )
    run_id = f"generate{turn}"
    row = drawn_row(
        f"auto{turn}", "auto", "auto", mask, run_id=run_id, generation_depth=turn + 1, **made_by
    )
    put(workspace, done_run(run_id, "generate", turn), shard, of_set, row)


def answer(workspace: Workspace, turn: int) -> None:
    image, run_id = f"a{turn}", f"merge{turn}"
    helped = {"model_version": f"v{turn}", "generation_depth": turn, "annotator": "ada"}
    ada = drawn_row(
        f"ada{turn}",
        image,
        "semi",
        rectangle(1, 1, 11, 11),
        run_id=run_id,
        prompt="proposal",
        **helped,
    )
    bob = drawn_row(
        f"bob{turn}", image, "manual", rectangle(15, 1, 25, 11), run_id=run_id, annotator="bob"
    )
    put(workspace, done_run(run_id, "merge", turn), ada, bob)
    if turn == 2:
        over = drawn_row(
            "over",
            "a1",
            "manual",
            rectangle(1, 1, 11, 10),
            run_id=run_id,
            annotator="bob",
            supersedes=mask_id("ada1"),
        )
        put(workspace, over)


def learn(workspace: Workspace, turn: int) -> None:
    version, snapshot = f"v{turn + 1}", workspace.lake.snapshot()
    labels = training_labels(workspace, snapshot)
    row = model_row(
        workspace,
        version,
        parent=f"v{turn}",
        role="candidate",
        training_snapshot=snapshot,
        num_training_images=len(labels),
        num_training_masks=labels.num_masks,
        generation_depth=turn + 1,
        run_id=f"train{turn}",
    )
    run = done_run(f"train{turn}", "train", turn)
    put(workspace, run, row, *training_sets(version, labels))
    serving.promote(workspace, version, reason="a test")


@pytest.fixture(scope="session")
def turned_root(
    empty_root: Path, copied: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[int, ...], str]:
    """Where the store lies, made once: the root, the snapshots, the export."""
    root = tmp_path_factory.mktemp("turned") / "workspace"
    images = [image_row(name, "train") for name in ("a0", "a1", "a2", "a3")]
    others = [image_row("gold", "gold"), image_row("auto", "unlabelled")]
    labels = [
        drawn_row("label", "a0", "label", rectangle(0, 0, 5, 5)),
        drawn_row("truth", "gold", "label", rectangle(3, 3, 9, 9)),
    ]
    ended, export_id = [], ""
    with copied(empty_root, root) as workspace:
        put(workspace, done_run("import", "import", None), *images, *others, *labels)
        put(workspace, model_row(workspace, "v1"))
        serving.promote(workspace, "v1", reason="the first")
        for turn in (1, 2, 3):
            answer(workspace, turn)
            learn(workspace, turn)
            label_automatically(workspace, turn)
            ended.append(workspace.lake.snapshot())
            if turn == 2:
                path = root.parent / "second.json"
                export_id = export_coco(workspace, path)["export_id"]
    return root, tuple(ended), export_id


@pytest.fixture
def turned(
    turned_root: tuple[Path, tuple[int, ...], str], tmp_path: Path, copied: Any
) -> Iterator[ThreeTurns]:
    """A copy of the store, to be changed."""
    root, ended, export_id = turned_root
    with copied(root, tmp_path / "turned") as workspace:
        yield ThreeTurns(workspace, ended, export_id)


@pytest.fixture(scope="session")
def looked_at(turned_root: tuple[Path, tuple[int, ...], str]) -> Iterator[ThreeTurns]:
    """The store itself, for tests that only look."""
    root, ended, export_id = turned_root
    workspace = open_workspace(root)
    yield ThreeTurns(workspace, ended, export_id)
    workspace.close()


@pytest.fixture
def names() -> dict[str, str]:
    """mask id -> the name that it was made of."""
    made = [f"{who}{turn}" for who in ("ada", "bob", "auto") for turn in (1, 2, 3)]
    return {mask_id(name): name for name in ("label", "truth", "over", *made)}


@pytest.fixture
def insert() -> Callable[..., None]:
    """Commits rows into a workspace."""
    return put


@pytest.fixture
def drawn_mask() -> Callable[..., MaskRow]:
    """A mask of (x0, y0, x1, y1) by its name, image and stage; more columns as keywords."""

    def make(
        name: str, image_id: str, stage: str, corners: tuple[int, int, int, int], **more: Any
    ) -> MaskRow:
        return drawn_row(name, image_id, stage, rectangle(*corners), **more)

    return make
