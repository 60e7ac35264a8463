"""Other thresholds on kept candidates: the masks of generating again, committed as they are."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.generation.config import GenerationConfig
from flows.errors import UsageError
from flows.generation.generate import generate_stage
from flows.generation.replaying import replay_stage
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import WorkerSettings
from flows.upkeep.checking import fsck
from flows.workspace import Workspace

GRID = GenerationConfig(
    points_per_side=5,
    pred_iou_thresh=0.4,
    stability_score_thresh=0.6,
    min_mask_region_area=0,
)


def local(workspace: Workspace) -> Workspace:
    workers = WorkerSettings(kind="local")
    return replace(workspace, settings=replace(workspace.settings, workers=workers))


@pytest.fixture
def here(filled: Workspace) -> Workspace:
    return local(filled)


@pytest.fixture(scope="module")
def plain(recipe: Recipe) -> Recipe:
    return replace(recipe, generation=GRID)


@pytest.fixture(scope="module")
def keeping(plain: Recipe) -> Recipe:
    return replace(plain, keep_candidates=True)


@pytest.fixture(scope="module")
def kept_root(
    filled_root: Path, keeping: Recipe, copied: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("kept") / "workspace"
    with copied(filled_root, root) as opened:
        generate_stage(local(opened), keeping, Silent())
    return root


@pytest.fixture
def kept(kept_root: Path, copied: Any, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace whose images have masks and their candidates."""
    with copied(kept_root, tmp_path / "kept") as opened:
        yield local(opened)


def masks_of(workspace: Workspace, config_hash: str) -> list[Any]:
    rows = workspace.lake.rows(
        """SELECT image_id, segmentation, predicted_iou, stability_score, point_coords, crop_box
           FROM masks WHERE stage = 'auto' AND config_hash = ?""",
        (config_hash,),
    )
    return sorted(rows, key=lambda row: json.dumps(row))


@pytest.mark.parametrize(
    "changes",
    [
        {"pred_iou_thresh": 0.7},
        {"pred_iou_thresh": 0.25, "stability_score_thresh": 0.4},
        {"box_nms_thresh": 1.0, "mask_nms_thresh": 1.0, "containment_thresh": 1.0},
    ],
)
def test_replayed_is_generated(kept: Workspace, plain: Recipe, changes: dict[str, Any]) -> None:
    replayed = replay_stage(kept, plain, changes, Silent())
    other = replace(plain, generation=replace(GRID, **changes))
    found = masks_of(kept, other.generation_key())
    assert replayed.num_masks == len(found) > 0
    assert replayed.num_images == kept.lake.rows("SELECT count(*) AS n FROM images")[0]["n"]
    # The same set once more, by a recipe that has to run the model.
    again = replace(other, keep_candidates=True)
    generated = generate_stage(kept, again, Silent())
    assert generated.run_id is not None
    assert masks_of(kept, again.generation_key()) == found
    assert fsck(kept) == []


def test_what_was_replayed_stands(kept: Workspace, plain: Recipe) -> None:
    outcome = replay_stage(kept, plain, {"pred_iou_thresh": 0.8}, Silent())
    [row] = kept.lake.rows("SELECT count(*) AS n FROM current_masks WHERE stage = 'auto'")
    suppressed = kept.lake.rows("SELECT count(*) AS n FROM suppressions")[0]["n"]
    assert outcome.num_masks - suppressed <= row["n"] <= outcome.num_masks
    [run] = kept.lake.rows("SELECT * FROM runs WHERE stage = 'replay'")
    assert (run["status"], run["num_masks"]) == ("done", outcome.num_masks)
    assert json.loads(run["config"])["pred_iou_thresh"] == 0.8
    assert replay_stage(kept, plain, {"pred_iou_thresh": 0.8}, Silent()).run_id is None


def standing(workspace: Workspace) -> set[str]:
    rows = workspace.lake.rows("SELECT config_hash FROM current_masks WHERE stage = 'auto'")
    return {row["config_hash"] for row in rows}


def test_an_earlier_set_can_stand_again(kept: Workspace, plain: Recipe, keeping: Recipe) -> None:
    keys = []
    for changes in ({"pred_iou_thresh": 0.6}, {"pred_iou_thresh": 0.5}):
        replay_stage(kept, plain, changes, Silent())
        keys.append(replace(plain, generation=replace(GRID, **changes)).generation_key())
    assert standing(kept) == {keys[1]}
    assert replay_stage(kept, plain, {"pred_iou_thresh": 0.6}, Silent()).run_id is None
    assert standing(kept) == {keys[0]}
    assert replay_stage(kept, plain, {}, Silent()).run_id is None
    assert standing(kept) == {keeping.generation_key()}
    assert fsck(kept) == []


def test_an_image_without_candidates_keeps_its_masks(
    here: Workspace, plain: Recipe, keeping: Recipe
) -> None:
    broken = sorted(here.reader.sources.folders.values())[0]
    victim = sorted(broken.glob("*.png"))[0]
    before = victim.read_bytes()
    victim.write_bytes(b"gone")
    assert generate_stage(here, keeping, Silent()).num_dead == 1
    victim.write_bytes(before)
    generate_stage(here, plain, Silent())
    outcome = replay_stage(here, plain, {"pred_iou_thresh": 0.6}, Silent())
    other = replace(plain, generation=replace(GRID, pred_iou_thresh=0.6))
    assert outcome.num_images == here.lake.rows("SELECT count(*) AS n FROM images")[0]["n"] - 1
    assert standing(here) <= {other.generation_key(), plain.generation_key()}
    assert fsck(here) == []


def test_candidates_say_why_they_went(kept: Workspace) -> None:
    for row in kept.lake.rows(
        """SELECT s.num_masks, s.num_candidates, count(*) AS n,
                  count(*) FILTER (rejected_because IS NULL) AS kept
           FROM candidates c JOIN image_sets s USING (image_id, model_version, config_hash)
           GROUP BY ALL"""
    ):
        assert row["n"] == row["num_candidates"]
        assert row["kept"] == row["num_masks"]
    [found] = kept.lake.rows(
        """SELECT count(*) AS n FROM candidates c JOIN masks m
           ON m.image_id = c.image_id AND m.point_coords = c.point_coords
              AND m.segmentation = c.segmentation
           WHERE c.rejected_because IS NULL AND m.stage = 'auto'"""
    )
    assert found["n"] == kept.lake.rows("SELECT sum(num_masks) AS n FROM image_sets")[0]["n"]


def test_a_set_with_candidates_will_do_and_one_without_does_not(
    here: Workspace, plain: Recipe, keeping: Recipe
) -> None:
    assert generate_stage(here, plain, Silent()).run_id is not None
    with pytest.raises(UsageError, match=r"0 have candidates.*generate --keep-candidates"):
        replay_stage(here, plain, {"pred_iou_thresh": 0.7}, Silent())
    assert generate_stage(here, keeping, Silent()).run_id is not None
    assert generate_stage(here, plain, Silent()).run_id is None
    assert replay_stage(here, plain, {"pred_iou_thresh": 0.7}, Silent()).run_id is not None
    assert fsck(here) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_iou_thresh": 0.5}, "0 have candidates"),
        ({"pred_iou_thresh": 0.1}, "--pred-iou-thresh: must be at least 0.2, the floor"),
        ({"points_per_side": 9}, "--points-per-side: decides what is proposed"),
        ({"max_masks": 0}, "--max-masks: must be a whole number"),
    ],
)
def test_what_cannot_be_replayed(
    here: Workspace, plain: Recipe, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        replay_stage(here, plain, changes, Silent())
