"""Stage 3: each image is labelled once by each model, whatever fails on the way."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.model.predictor import Predictor
from flows.errors import StageError, UsageError
from flows.generation.generate import generate_stage
from flows.generation.shard_work import Result
from flows.generation.workers import executor
from flows.models import serving
from flows.models.embeddings import EmbeddingStore
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import ModelSettings, WorkerSettings
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, open_workspace

PROJECT = Path(__file__).parents[3]


def on(workspace: Workspace, kind: str) -> Workspace:
    workers = WorkerSettings(kind="ray" if kind == "ray" else "local")
    return replace(workspace, settings=replace(workspace.settings, workers=workers))


@pytest.fixture(scope="module")
def labelled_root(
    filled_root: Path, recipe: Recipe, copied: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("labelled") / "workspace"
    with copied(filled_root, root) as opened:
        generate_stage(on(opened, "local"), recipe, Silent())
    return root


@pytest.fixture
def labelled(labelled_root: Path, copied: Any, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace whose images have their set, in this process."""
    with copied(labelled_root, tmp_path / "labelled") as opened:
        yield on(opened, "local")


def count(workspace: Workspace, table: str) -> int:
    return int(workspace.lake.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def each_image_once(workspace: Workspace) -> bool:
    rows = workspace.lake.rows(
        "SELECT count(*) AS sets, count(DISTINCT image_id) AS images FROM image_sets"
    )[0]
    doubled = workspace.lake.rows("SELECT mask_id FROM masks GROUP BY 1 HAVING count(*) > 1")
    images = count(workspace, "images")
    return rows["sets"] == rows["images"] == images and not doubled


def test_every_image_gets_its_set(filled: Workspace, recipe: Recipe) -> None:
    outcome = generate_stage(on(filled, "local"), recipe, Silent())
    assert outcome.num_images == count(filled, "images")
    assert each_image_once(filled)
    sets = filled.lake.rows("SELECT * FROM image_sets")
    for row in sets:
        assert row["num_proposed"] == row["num_masks"] + sum(dict(row["rejections"]).values())
    assert outcome.num_masks == sum(row["num_masks"] for row in sets)
    assert fsck(filled) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the GPU that must be missing here")
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("local", UsageError, r"maskloop\.toml: model\.device: must be a device that is there"),
        ("ray", StageError, 'model.device is "cuda", but Ray sees no GPU; set "auto" or "cpu"'),
    ],
)
def test_a_gpu_that_must_be_there_and_is_not(
    filled: Workspace, recipe: Recipe, kind: str, error: type[Exception], message: str
) -> None:
    placed = on(filled, kind)
    settings = replace(placed.settings, model=ModelSettings(device="cuda"))
    with pytest.raises(error, match=message):
        generate_stage(replace(placed, settings=settings), recipe, Silent())
    assert count(filled, "image_sets") == 0


def test_without_images_nothing_is_registered(workspace: Workspace, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="there are no images yet; run: maskloop add"):
        generate_stage(on(workspace, "local"), recipe, Silent())
    assert serving.current_version(workspace) is None
    assert count(workspace, "model_versions") == count(workspace, "runs") == 0


def test_a_recipe_of_another_architecture_labels_with_the_model_that_serves(
    filled: Workspace, recipe: Recipe
) -> None:
    serving.ensure_base(filled, recipe, Silent())
    other = replace(recipe, name="other", start="vit_b")
    outcome = generate_stage(on(filled, "local"), other, Silent())
    assert (outcome.version, outcome.num_images) == ("v1", count(filled, "images"))
    [run] = filled.lake.rows("SELECT recipe, model_version FROM runs WHERE stage = 'generate'")
    assert run == {"recipe": "other", "model_version": "v1"}


def test_every_automatic_mask_joins_to_its_model_and_run(labelled: Workspace) -> None:
    orphans = labelled.lake.rows(
        """SELECT m.mask_id FROM masks m
           LEFT JOIN model_versions v ON m.model_version = v.version
           LEFT JOIN runs r ON m.run_id = r.run_id
           WHERE m.stage = 'auto' AND (v.version IS NULL OR r.run_id IS NULL)"""
    )
    assert orphans == []


def test_a_second_run_has_nothing_to_do(labelled: Workspace, recipe: Recipe) -> None:
    before = labelled.lake.snapshot()
    again = generate_stage(labelled, recipe, Silent())
    assert (again.run_id, again.num_images) == (None, 0)
    assert labelled.lake.snapshot() == before


def test_another_config_labels_again_and_keeps_the_first(
    labelled: Workspace, recipe: Recipe
) -> None:
    other = replace(recipe, generation=replace(recipe.generation, pred_iou_thresh=0.01))
    assert generate_stage(labelled, other, Silent()).num_images > 0
    hashes = labelled.lake.rows("SELECT DISTINCT config_hash FROM image_sets")
    assert len(hashes) == 2
    assert fsck(labelled) == []


def test_one_bad_image_costs_itself_only_and_gets_another_chance(
    filled: Workspace, recipe: Recipe
) -> None:
    victim = filled.lake.rows("SELECT image_id, uri FROM images ORDER BY image_id LIMIT 1")[0]
    path = filled.reader.sources.path(victim["uri"])
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        outcome = generate_stage(on(filled, "local"), recipe, Silent())
    finally:
        hidden.rename(path)
    total = count(filled, "images")
    assert (outcome.num_images, outcome.num_dead) == (total - 1, 1)
    reasons = filled.lake.rows("SELECT reason FROM shards WHERE state = 'dead'")
    assert any(path.name in row["reason"] for row in reasons)
    again = generate_stage(on(filled, "local"), recipe, Silent())
    assert (again.num_images, again.num_dead) == (1, 0)
    assert each_image_once(filled)
    assert fsck(filled) == []


def test_a_persons_mask_is_never_covered(filled: Workspace, recipe: Recipe) -> None:
    eager = replace(
        recipe,
        generation=replace(
            recipe.generation,
            points_per_side=6,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
        ),
    )
    generate_stage(on(filled, "local"), eager, Silent())
    rows = filled.lake.rows("SELECT count(*) AS n FROM suppressions WHERE iou > 0.5")
    shown = filled.lake.rows(
        "SELECT count(*) AS n FROM current_masks SEMI JOIN suppressions USING (mask_id)"
    )
    assert rows[0]["n"] > 0
    assert shown[0]["n"] == 0


def test_redoing_adds_a_set_that_stands(labelled: Workspace, recipe: Recipe) -> None:
    number = count(labelled, "images")
    [first] = labelled.lake.rows("SELECT count(*) AS n FROM masks WHERE stage = 'auto'")
    for turn in (1, 2):
        again = generate_stage(labelled, recipe, Silent(), redo=True)
        assert (again.num_images, again.num_masks) == (number, first["n"])
        assert count(labelled, "image_sets") == (turn + 1) * number
        standing = labelled.lake.rows(
            "SELECT DISTINCT run_id FROM current_masks WHERE stage = 'auto'"
        )
        assert standing == [{"run_id": again.run_id}]
    # The first set still counts: nothing is missing.
    assert generate_stage(labelled, recipe, Silent()).run_id is None
    assert fsck(labelled) == []


def test_a_redoing_that_was_stopped_goes_on(filled: Workspace, recipe: Recipe) -> None:
    here, small = on(filled, "local"), replace(recipe, shard_size=3)
    generate_stage(here, small, Silent())

    class Stop(Exception):  # noqa: N818 -- what a person does is no error
        pass

    def some(*given: object) -> Iterator[Result]:
        results = executor(*given)  # type: ignore[arg-type]
        yield next(results)
        raise Stop

    with pytest.raises(Stop):
        generate_stage(here, small, Silent(), redo=True, labels=some)
    promised = count(filled, "shards")
    again = generate_stage(here, small, Silent(), redo=True)
    assert again.num_images == count(filled, "images")
    assert count(filled, "shards") == promised
    assert count(filled, "image_sets") == 2 * count(filled, "images")
    assert fsck(filled) == []


def test_a_kept_embedding_is_not_made_again(
    filled: Workspace, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = serving.ensure_base(filled, recipe, Silent())
    predictor = serving.load_predictor(filled, version)
    ids = [row["image_id"] for row in filled.lake.rows("SELECT image_id FROM images ORDER BY 1")]
    kept = [(image_id, predictor.embed(filled.pixels(image_id))) for image_id in ids[:3]]
    EmbeddingStore(filled).keep(kept)
    # Of the third the file is broken, and it is made again without a word.
    [row] = filled.lake.rows("SELECT uri FROM embeddings WHERE image_id = ?", (ids[2],))
    filled.objects.path(row["uri"]).write_bytes(b"broken")
    made: list[int] = []
    embed = Predictor.embed

    def counted(self: Predictor, pixels: Any, **options: Any) -> Any:
        made.append(1)
        return embed(self, pixels, **options)

    monkeypatch.setattr(Predictor, "embed", counted)
    generate_stage(on(filled, "local"), recipe, Silent())
    assert len(made) == len(ids) - 2
    assert each_image_once(filled)


def test_what_was_saved_for_want_of_memory_is_a_column(
    filled: Workspace, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = Predictor.candidates

    def short(self: Predictor, embedding: Any, prompts: Any, **options: Any) -> Any:
        if len(prompts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return candidates(self, embedding, prompts, **options)

    monkeypatch.setattr(Predictor, "candidates", short)
    generate_stage(on(filled, "local"), recipe, Silent())
    rows = filled.lake.rows("SELECT DISTINCT savings['points_per_batch'] AS n FROM image_sets")
    assert len(rows) == 1
    assert 1 <= rows[0]["n"] <= 4


def test_parts_name_the_mask_of_their_whole(filled: Workspace, recipe: Recipe) -> None:
    loose = replace(
        recipe.generation,
        points_per_side=8,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        box_nms_thresh=0.9,
        mask_nms_thresh=1.0,
        containment_thresh=1.0,
    )
    generate_stage(on(filled, "local"), replace(recipe, generation=loose), Silent())
    levels = filled.lake.rows(
        """SELECT part.level, whole.level AS of_level, count(*) AS n,
                  bool_and(part.image_id = whole.image_id AND part.area < whole.area) AS smaller
           FROM current_masks part LEFT JOIN masks whole ON part.part_of = whole.mask_id
           WHERE part.stage = 'auto' GROUP BY ALL"""
    )
    found = {(row["level"], row["of_level"]): row["smaller"] for row in levels}
    assert found.keys() >= {("whole", None), ("part", "whole")}
    assert found.keys() <= {
        ("whole", None),
        ("part", "whole"),
        ("subpart", "part"),
        ("subpart", "subpart"),
    }
    assert all(smaller for (level, _), smaller in found.items() if level != "whole")


GENERATE = """
import pickle, sys
import torch
torch.set_num_threads(1)
from dataclasses import replace
from flows.generation.generate import generate_stage
from flows.progress import Silent
from flows.settings import WorkerSettings
from flows.workspace import open_workspace
root, recipe = pickle.load(sys.stdin.buffer)
workspace = open_workspace(root)
local = replace(workspace.settings, workers=WorkerSettings(kind="local"))
generate_stage(replace(workspace, settings=local), recipe, Silent())
"""


def killed_at(point: str, root: Path, recipe: Recipe) -> None:
    """Generate in a process that dies there."""
    process = subprocess.run(
        [sys.executable, "-c", GENERATE],
        input=pickle.dumps((root, recipe)),
        env={**os.environ, "MASKLOOP_FAILPOINT": point},
        cwd=PROJECT,
        check=False,
    )
    assert process.returncode == 137


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "runs"),
    [
        ("promote.after_weights", ["done"]),
        ("shard.after_write", ["failed", "done"]),
        ("shard.after_write:2", ["failed", "done"]),
        ("commit.after_update", ["failed", "done"]),
        ("commit.after_add", ["failed", "done"]),
        # Everything was committed: the second run has nothing to do.
        ("commit.after_commit", ["failed"]),
    ],
)
def test_killed_anywhere_each_image_is_labelled_once(
    filled: Workspace, recipe: Recipe, point: str, runs: list[str]
) -> None:
    small = replace(recipe, shard_size=2)
    killed_at(point, filled.root, small)
    opened = open_workspace(filled.root)
    generate_stage(on(opened, "local"), small, Silent())
    assert each_image_once(opened)
    assert fsck(opened) == []
    rows = opened.lake.rows("SELECT status FROM runs WHERE stage = 'generate' ORDER BY started_at")
    assert [row["status"] for row in rows] == runs
