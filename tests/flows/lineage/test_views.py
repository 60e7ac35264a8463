"""The views of lineage say what a slow look through the tables says, over three turns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flows.errors import StageError
from flows.recipes import Recipe
from flows.training import train
from flows.training.labels import training_labels
from flows.training.model_line import check_joins, check_no_gold
from flows.training.train import TrainRequest
from flows.workspace import Workspace
from storage.catalog.sqlgate import run_user_sql
from storage.rows import RetractionRow, TrainingSetRow, mask_id, utcnow

Row = dict[str, Any]
PEOPLE = ("label", "manual", "semi")


def table(workspace: Workspace, name: str) -> list[Row]:
    return workspace.lake.rows(f"SELECT * FROM {name}")


def standing(workspace: Workspace) -> set[str]:
    """Slowly: of people, what no mask that stands or was replaced in turn stands in for."""
    masks = {row["mask_id"]: row for row in table(workspace, "masks")}
    retracted = {row["mask_id"]: row["cause"] for row in table(workspace, "retractions")}

    def is_replaced(name: str) -> bool:
        for other in masks.values():
            if other["supersedes"] == name:
                revoked = retracted.get(other["mask_id"]) is not None
                if not revoked or is_replaced(other["mask_id"]):
                    return True
        return False

    return {
        name
        for name, row in masks.items()
        if row["stage"] in PEOPLE and name not in retracted and not is_replaced(name)
    }


def ancestors(workspace: Workspace, version: str) -> set[str]:
    """Slowly: by parents and by the models behind the masks that were learnt."""
    parents = {row["version"]: row["parent"] for row in table(workspace, "model_versions")}
    helped = {row["mask_id"]: row["model_version"] for row in table(workspace, "masks")}
    found: set[str] = set()
    waiting = [version]
    while waiting:
        name = waiting.pop()
        before = {parents[name]}
        for row in table(workspace, "training_sets"):
            if row["version"] == name:
                before |= {helped[learnt] for learnt in row["mask_ids"]}
        new = {other for other in before if other} - found
        found |= new
        waiting += new
    return found


def people_standing(workspace: Workspace) -> set[str]:
    rows = workspace.lake.rows("SELECT mask_id FROM current_masks WHERE stage <> 'auto'")
    return {row["mask_id"] for row in rows}


def test_models_descend_by_parents_and_by_masks(looked_at: Any) -> None:
    found: dict[str, set[str]] = {f"v{number}": set() for number in (1, 2, 3, 4)}
    for row in table(looked_at.workspace, "model_descent"):
        found[row["version"]].add(row["ancestor"])
    assert found == {name: ancestors(looked_at.workspace, name) for name in found}
    assert found["v4"] == {"v1", "v2", "v3"}


def test_each_model_says_what_it_learnt(looked_at: Any, names: dict[str, str]) -> None:
    learnt: dict[str, set[str]] = {}
    for row in table(looked_at.workspace, "training_masks"):
        learnt.setdefault(row["version"], set()).add(names[row["mask_id"]])
    assert learnt == {
        "v2": {"label", "ada1", "bob1"},
        "v3": {"label", "over", "bob1", "ada2", "bob2"},
        "v4": {"label", "over", "bob1", "ada2", "bob2", "ada3", "bob3"},
    }
    rows = {row["version"]: row for row in table(looked_at.workspace, "model_lineage")}
    facts = ("parent", "training_depth", "num_annotators", "num_helped_masks", "num_ancestors")
    assert [rows["v4"][name] for name in facts] == ["v3", 3, 2, 2, 3]
    assert [rows["v1"][name] for name in facts] == [None, 0, 0, 0, 0]
    assert rows["v4"]["num_training_masks"] == 7
    assert not any(row["descends_from_revoked"] for row in rows.values())


def test_what_an_earlier_maskloop_trained_on_is_told_by_times(turned: Any) -> None:
    kept = sorted(table(turned.workspace, "training_masks"), key=str)
    turned.workspace.lake.commit(
        lambda tx: tx.execute("UPDATE training_sets SET mask_ids = NULL"), message="earlier"
    )
    assert sorted(table(turned.workspace, "training_masks"), key=str) == kept


def test_each_mask_says_where_it_comes_from(looked_at: Any, names: dict[str, str]) -> None:
    answer = run_user_sql(looked_at.workspace.lake, "SELECT * FROM mask_lineage").to_pylist()
    rows = {names[row["mask_id"]]: row for row in answer}
    assert set(rows) == set(names.values())
    parts = ("annotator", "prompt", "model_version", "parent_version", "generation_depth")
    assert [rows["ada2"][name] for name in parts] == ["ada", "proposal", "v2", "v1", 2]
    assert [rows["auto3"][name] for name in parts] == [None, None, "v4", "v3", 4]
    assert (rows["ada2"]["run_stage"], rows["ada2"]["iteration"]) == ("merge", 2)
    assert rows["auto3"]["num_training_masks"] == 7
    assert rows["over"]["supersedes"] == mask_id("ada1")
    assert rows["ada1"]["superseded_by"] == mask_id("over")


def revoked(*made_of: str) -> list[RetractionRow]:
    return [
        RetractionRow(
            mask_id=mask_id(name), run_id="r", created_at=utcnow(), cause="run r", snapshot=1
        )
        for name in made_of
    ]


REVOKED = {
    "nothing": [],
    "what replaced another": ["over"],
    "what was replaced": ["ada1"],
    "both": ["ada1", "over"],
    "the second of a chain of three": ["over"],
    "the second and the third": ["over", "third"],
}


@pytest.mark.parametrize("case", REVOKED)
def test_what_a_revoked_mask_had_replaced_stands_again(
    turned: Any,
    insert: Callable[..., None],
    drawn_mask: Callable[..., Any],
    case: str,
) -> None:
    workspace = turned.workspace
    if "second" in case:
        third = drawn_mask(
            "third", "a1", "manual", (1, 1, 11, 9), run_id="merge3", supersedes=mask_id("over")
        )
        insert(workspace, third)
    insert(workspace, *revoked(*REVOKED[case]))
    assert people_standing(workspace) == standing(workspace)
    stands_again = mask_id("ada1") in people_standing(workspace)
    assert stands_again == (case in ("what replaced another", "the second and the third"))


def test_what_an_answer_took_away_leaves_nothing_in_its_place(
    turned: Any, insert: Callable[..., None]
) -> None:
    taken = RetractionRow(
        mask_id=mask_id("over"), submission_id="s", run_id="r", created_at=utcnow()
    )
    insert(turned.workspace, taken)
    assert mask_id("ada1") not in people_standing(turned.workspace)
    assert people_standing(turned.workspace) == standing(turned.workspace)


def test_no_gold_image_has_a_footprint(looked_at: Any) -> None:
    assert table(looked_at.workspace, "gold_footprint") == []
    check_no_gold(looked_at.workspace.lake)


@pytest.mark.parametrize(
    ("image_id", "words"),
    [("gold", r"gold image gold .*\(itself\)"), ("twin", "near-duplicate twin")],
    ids=["itself", "near-duplicate"],
)
def test_a_footprint_of_gold_is_found_and_stops_a_training(
    turned: Any, image_id: str, words: str
) -> None:
    def spoil(tx: Any) -> None:
        tx.execute(
            "INSERT INTO images SELECT * REPLACE ('twin' AS image_id, 'train' AS split) "
            "FROM images WHERE image_id = 'gold'"
        )
        tx.insert([TrainingSetRow(version="v2", image_id=image_id, num_masks=1, mask_ids=[])])

    turned.workspace.lake.commit(spoil, message="spoilt")
    [row] = table(turned.workspace, "gold_footprint")
    assert (row["image_id"], row["version"]) == ("gold", "v2")
    with pytest.raises(StageError, match=words):
        check_no_gold(turned.workspace.lake)


def test_a_model_that_learnt_what_is_revoked_by_now_does_not_join(
    turned: Any, insert: Callable[..., None]
) -> None:
    insert(turned.workspace, *revoked("bob1"))

    def joins(tx: Any, version: str, learnt: str) -> None:
        ids = [mask_id(learnt)]
        tx.insert([TrainingSetRow(version=version, image_id="a1", num_masks=1, mask_ids=ids)])
        check_joins(tx, version)

    with pytest.raises(StageError, match=r"v5: 1 of the masks .* were revoked meanwhile"):
        turned.workspace.lake.commit(lambda tx: joins(tx, "v5", "bob1"), message="no")
    turned.workspace.lake.commit(lambda tx: joins(tx, "v5", "over"), message="yes")
    rows = turned.workspace.lake.rows("SELECT mask_id FROM training_masks WHERE version = 'v5'")
    assert rows == [{"mask_id": mask_id("over")}]


@pytest.mark.parametrize("max_depth", [None, 0, 1, 2, 3])
def test_masks_with_too_many_models_behind_them_are_not_learnt(
    looked_at: Any, max_depth: int | None
) -> None:
    workspace = looked_at.workspace
    labels = training_labels(workspace, workspace.lake.snapshot(), max_depth=max_depth)
    depths = {row["mask_id"]: row["generation_depth"] for row in table(workspace, "masks")}
    of_image = {row["mask_id"]: row["image_id"] for row in table(workspace, "masks")}
    expected = {
        name
        for name in standing(workspace)
        if of_image[name] != "gold" and (max_depth is None or depths[name] <= max_depth)
    }
    assert {name for image in labels.images for name in image.mask_ids} == expected
    assert all(image.mask_ids for image in labels.images)
    for image in labels.images:
        assert [depths[name] for name in image.mask_ids] == list(image.depths)
    # Of an image that lost a mask, the rest is not known to be background.
    lost = {of_image[name] for name in standing(workspace) - expected} - {"gold"}
    assert not any(image.complete for image in labels.images if image.image_id in lost)


def test_a_recipe_caps_by_depth_and_refuses_nonsense(looked_at: Any, recipe: Recipe) -> None:
    workspace = looked_at.workspace
    found = train._labels(
        workspace, replace(recipe, max_depth=2), workspace.lake.snapshot(), TrainRequest()
    )
    assert max(depth for depths in found.depths for depth in depths) == 2
    with pytest.raises(ValueError, match="max_depth: must be at least 0, but got -1"):
        replace(recipe, max_depth=-1)
