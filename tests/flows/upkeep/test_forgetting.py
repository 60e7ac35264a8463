"""An image that was forgotten is in no row, no snapshot and no byte of the workspace."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from annotator.item import ItemPayload
from annotator.submission import AddedMask, Submission
from engine import rle
from flows.cli.app import app
from flows.errors import StageError
from flows.generation.generate import generate_stage
from flows.locks import stage_lock
from flows.merging.merge import merge_stage
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import WorkerSettings
from flows.upkeep import checking, forgetting
from flows.workspace import Workspace, open_workspace
from storage.catalog import forgetting as lake_forgetting
from storage.errors import NotFoundError
from storage.queue.items import NewItem
from storage.rows import EmbeddingRow, EvaluationRow, TrainingSetRow, utcnow


def live(workspace: Workspace, recipe: Recipe) -> str:
    """The image has automatic masks, a person's, an embedding, tiles, scores; returns its id."""
    here = replace(workspace.settings, workers=WorkerSettings(kind="local"))
    generate_stage(replace(workspace, settings=here), recipe, Silent())
    row = workspace.lake.rows("SELECT * FROM images WHERE split = 'unlabelled' LIMIT 1")[0]
    image_id = str(row["image_id"])
    version = workspace.lake.rows("SELECT version FROM model_versions")[0]["version"]
    workspace.queue.enqueue(
        [
            NewItem(
                image_id=image_id,
                file_name=row["file_name"],
                height=row["height"],
                width=row["width"],
                model_version=version,
                run_id="assist",
                iteration=1,
                payload=ItemPayload(proposals=[]).to_dict(),
            )
        ]
    )
    pixels = np.zeros((1, row["height"], row["width"]), bool)
    pixels[0, 10:40, 10:40] = True
    answer = Submission(
        decisions=(), added=(AddedMask(segmentation=rle.encode(pixels)[0], drawn=True),), seconds=1
    )
    lease = workspace.queue.claim("ada")
    assert lease is not None
    workspace.queue.submit(lease.item.item_id, lease.lease_token, "ada", "key", answer.to_dict())
    merge_stage(workspace, Silent())
    stored = workspace.objects.put(f"embeddings/e/{image_id}.safetensors", image_id.encode())
    workspace.lake.commit(
        lambda tx: tx.insert(
            [
                EmbeddingRow(
                    image_id=image_id,
                    encoder_id="e",
                    uri=stored.uri,
                    sha256=stored.sha256,
                    bytes=stored.bytes,
                    created_at=utcnow(),
                ),
                TrainingSetRow(version=version, image_id=image_id, num_masks=1),
                EvaluationRow(
                    model_version=version,
                    split=f"gold:{image_id}",
                    metric="iou",
                    value=0.5,
                    num_images=1,
                    num_masks=1,
                    config_hash="c",
                    run_id="r",
                    created_at=utcnow(),
                ),
            ]
        ),
        message="test",
    )
    tiles = workspace.folder("cache", "pictures") / f"{image_id}.levels"
    tiles.write_bytes(b"tiles")
    return image_id


def places(workspace: Workspace, *names: str) -> list[str]:
    """The files of the workspace that hold any of the names, also inside compressed Parquet."""
    found = []
    for path in workspace.root.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            if path.suffix == ".parquet":
                text += json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
                text += str(pq.read_metadata(path).to_dict()).encode()
            if any(name.encode() in text or name in path.name for name in names):
                found.append(path.relative_to(workspace.root).as_posix())
    return sorted(found)


def test_no_byte_of_it_is_left(filled: Workspace, recipe: Recipe) -> None:
    image_id = live(filled, recipe)
    others = filled.lake.rows(
        "SELECT mask_id FROM masks WHERE image_id <> ? ORDER BY mask_id", (image_id,)
    )
    masks = [
        row["mask_id"]
        for row in filled.lake.rows("SELECT mask_id FROM masks WHERE image_id = ?", (image_id,))
    ]
    assert checking.fsck(filled) == []
    trace = lake_forgetting.trace(filled.lake, image_id)
    names = (*trace.names, *masks)
    before = places(filled, *names)
    assert {"catalog.sqlite", "queue.sqlite", f"cache/pictures/{image_id}.levels"} <= {
        name.removesuffix("-wal") for name in before
    }
    done = forgetting.forget(filled, trace)
    assert done.left == ()
    assert done.num_items == 1
    assert done.trace.num_masks == len(masks)
    assert places(filled, *names) == []
    assert checking.fsck(filled) == []
    assert filled.lake.rows("SELECT mask_id FROM masks ORDER BY mask_id") == others
    with pytest.raises(NotFoundError):
        lake_forgetting.trace(filled.lake, image_id)
    again = open_workspace(filled.root)
    assert checking.fsck(again) == []
    assert again.queue.claim("ada") is None


def test_what_was_cut_short_is_finished_by_the_same_again(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = filled.lake.rows("SELECT file_name FROM images ORDER BY 1 LIMIT 1")[0]["file_name"]
    trace = lake_forgetting.trace(filled.lake, name)
    with monkeypatch.context() as patch:
        patch.setattr(lake_forgetting.expiry, "expire_these", cut_off)
        with pytest.raises(KeyboardInterrupt):
            forgetting.forget(filled, trace)
    again = lake_forgetting.trace(filled.lake, name)
    assert again.image_id == trace.image_id
    forgetting.forget(filled, again)
    assert places(filled, *trace.names) == []
    assert checking.fsck(filled) == []


def cut_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_nothing_is_forgotten_while_a_stage_runs(filled: Workspace) -> None:
    name = filled.lake.rows("SELECT file_name FROM images LIMIT 1")[0]["file_name"]
    trace = lake_forgetting.trace(filled.lake, name)
    with stage_lock(filled, "merge"), pytest.raises(StageError, match="another process"):
        forgetting.forget(filled, trace)
    assert lake_forgetting.trace(filled.lake, name) == trace


def test_whoever_has_it_open_is_named(
    filled: Workspace, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = live(filled, recipe)
    [answer] = filled.queue.submissions_after(0, limit=None)
    filled.queue.reopen(answer.item.item_id)
    assert filled.queue.claim("ada") is not None
    monkeypatch.setenv("MASKLOOP_HOME", str(filled.root))
    result = CliRunner().invoke(app, ["forget", image_id, "--yes"])
    assert result.exit_code == 0
    assert "ada has it open; what they are doing there is lost" in result.output
