"""Stage 2: images nobody has seen, once each, with proposals that people can decide on."""

from dataclasses import replace

import pytest

from annotator.item import ItemPayload, proposal_ids
from annotator.submission import Decision, Submission
from engine import rle
from flows.asking.assist import assist_stage
from flows.errors import UsageError
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import AssistConfig, Recipe
from flows.workspace import Workspace


def queued(workspace: Workspace) -> set[str]:
    return workspace.queue.open_images()


def unlabelled(workspace: Workspace) -> set[str]:
    rows = workspace.lake.rows("SELECT image_id FROM images WHERE split = 'unlabelled'")
    return {row["image_id"] for row in rows}


@pytest.fixture
def all_at_once(recipe: Recipe) -> Recipe:
    return replace(recipe, assist=replace(recipe.assist, num_images=12, pool=12))


def test_only_images_that_nobody_has_seen_are_enqueued_and_each_once(
    filled: Workspace, recipe: Recipe, all_at_once: Recipe
) -> None:
    free = unlabelled(filled)
    first = assist_stage(filled, recipe, Silent())
    assert first.num_items == 2
    seen = queued(filled)
    assert seen < free
    second = assist_stage(filled, all_at_once, Silent())
    assert second.num_items == len(free) - 2
    assert queued(filled) == free
    with pytest.raises(UsageError, match="every image has labels, is gold or waits"):
        assist_stage(filled, recipe, Silent())


def test_items_carry_proposals_and_an_embedding(filled: Workspace, all_at_once: Recipe) -> None:
    outcome = assist_stage(filled, all_at_once, Silent())
    lease = filled.queue.claim("ada")
    assert lease is not None
    item = lease.item
    assert (item.model_version, item.run_id, item.iteration) == ("v1", outcome.run_id, 0)
    for proposal in ItemPayload.from_dict(item.payload).proposals:
        assert proposal.segmentation.size == (item.height, item.width)
        assert proposal.area == rle.area(proposal.segmentation)
    kept = filled.lake.rows("SELECT image_id FROM embeddings")
    assert {row["image_id"] for row in kept} == unlabelled(filled)
    [run] = filled.lake.rows("SELECT * FROM runs WHERE stage = 'assist'")
    assert (run["status"], run["num_images"]) == ("done", outcome.num_items)
    assert run["recipe"] == all_at_once.name


def test_an_answered_image_is_not_asked_about_again(
    filled: Workspace, recipe: Recipe, all_at_once: Recipe
) -> None:
    assist_stage(filled, recipe, Silent())
    lease = filled.queue.claim("ada")
    assert lease is not None
    decisions = tuple(
        Decision(proposal_id=name, action="rejected") for name in proposal_ids(lease.item.payload)
    )
    body = Submission(decisions=decisions).to_dict()
    filled.queue.submit(lease.item.item_id, lease.lease_token, "ada", "key", body)
    # Answered, but not in the store yet.
    assist_stage(filled, all_at_once, Silent())
    assert lease.item.image_id not in queued(filled)
    merge_stage(filled, Silent())
    assert lease.item.image_id not in unlabelled(filled)


def test_a_skipped_out_image_does_not_take_the_place_of_others(
    filled: Workspace, recipe: Recipe
) -> None:
    assist_stage(filled, recipe, Silent())
    dead: set[str] = set()
    while (lease := filled.queue.claim("ada")) is not None:
        dead.add(lease.item.image_id)
        filled.queue.skip(lease.item.item_id, lease.lease_token, "ada")
    assert queued(filled) == set()
    outcome = assist_stage(filled, recipe, Silent())
    assert outcome.num_items == 2
    assert len(queued(filled)) == 2
    assert not queued(filled) & dead


def test_without_images_nothing_is_registered(workspace: Workspace, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="there are no images yet; run: maskloop add"):
        assist_stage(workspace, recipe, Silent())
    assert serving.current_version(workspace) is None
    assert workspace.lake.rows("SELECT version FROM model_versions") == []


def test_a_recipe_of_another_architecture_asks_with_the_model_that_serves(
    filled: Workspace, recipe: Recipe
) -> None:
    serving.ensure_base(filled, recipe, Silent())
    outcome = assist_stage(filled, replace(recipe, start="vit_b"), Silent())
    assert (outcome.version, outcome.num_items) == ("v1", 2)


@pytest.mark.parametrize("num_images", [0, 4], ids=["none", "more than looked at"])
def test_the_number_of_images_is_checked(num_images: int) -> None:
    with pytest.raises(ValueError, match=r"num_images: must be from 1 to pool \(3\)"):
        AssistConfig(num_images=num_images, pool=3)
