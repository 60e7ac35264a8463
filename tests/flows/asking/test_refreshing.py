"""After a promotion: new proposals for what waits, and nothing changed for who holds an item."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from annotator.item import ItemPayload
from flows.asking.assist import assist_stage
from flows.asking.looking import Candidate, Looker
from flows.asking.refreshing import RefreshOutcome, refresh_stage
from flows.lineage.descent import Target
from flows.lineage.revoking import revoke
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.upkeep.checking import fsck
from flows.waiting import outdated
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.queue.schema import KINDS
from storage.queue.work import Lease

Copied = Callable[[Path, Path], AbstractContextManager[Workspace]]
NUM_ITEMS = 4


def promoted_anew(workspace: Workspace, version: str) -> None:
    """The model in service under another version, in service."""
    row = serving.model_row(workspace, "v1")
    new = replace(row, version=version, status="candidate", parent="v1")
    workspace.lake.commit(lambda tx: tx.insert([new]), message="test")
    serving.promote(workspace, version, reason="test")


def made(kind: str, version: str, image: dict[str, Any]) -> NewItem:
    """An item of that kind for anybody but ada."""
    return NewItem(
        image_id=image["image_id"],
        file_name=image["file_name"],
        height=image["height"],
        width=image["width"],
        model_version=version,
        run_id="assisted",
        iteration=3,
        stage=kind,
        not_for="ada",
    )


def payloads(workspace: Workspace) -> dict[str, ItemPayload]:
    """What waits, by image."""
    return {
        head.image_id: ItemPayload.from_dict(workspace.queue.item(head.item_id).payload)
        for head in workspace.queue.ready_items(("assist",))
    }


@dataclass(frozen=True)
class Refreshed:
    """A batch of which somebody holds an item when a model is promoted, after the refresh."""

    workspace: Workspace
    run_id: str
    held: Lease
    before: dict[str, ItemPayload]
    outcome: RefreshOutcome


@pytest.fixture(scope="module")
def refreshed(
    filled_root: Path, recipe: Recipe, copied: Copied, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Refreshed]:
    with copied(filled_root, tmp_path_factory.mktemp("refreshed") / "workspace") as opened:
        whole = replace(recipe, assist=replace(recipe.assist, num_images=NUM_ITEMS, pool=12))
        run_id = assist_stage(opened, whole, Silent()).run_id
        held = opened.queue.claim("ada")
        assert held is not None
        before = payloads(opened)
        promoted_anew(opened, "v2")
        outcome = refresh_stage(opened, recipe, Silent())
        yield Refreshed(opened, run_id, held, before, outcome)


def test_what_waits_gets_the_model_in_service(refreshed: Refreshed) -> None:
    waiting = refreshed.workspace.queue.ready_items(("assist",))
    assert refreshed.outcome.num_items == len(waiting) == NUM_ITEMS - 1
    assert {item.model_version for item in waiting} == {"v2"}
    assert {item.run_id for item in waiting} == {refreshed.run_id}, "the batch stays one"
    assert refreshed.workspace.queue.progress(refreshed.run_id).open == NUM_ITEMS
    assert outdated(refreshed.workspace) == []


def test_what_somebody_holds_keeps_its_model(refreshed: Refreshed) -> None:
    held = refreshed.held
    refreshed.workspace.queue.check_held(held.item.item_id, held.lease_token, "ada")
    assert refreshed.workspace.queue.item(held.item.item_id).model_version == "v1"


def test_new_items_have_proposals_of_their_own(refreshed: Refreshed) -> None:
    after = payloads(refreshed.workspace)
    assert after.keys() == refreshed.before.keys()
    for image_id, new in after.items():
        old = refreshed.before[image_id]
        # The same weights see the same; but a decision is on the proposal of one model.
        assert [p.segmentation for p in new.proposals] == [p.segmentation for p in old.proposals]
        names = [{p.proposal_id for p in payload.proposals} for payload in (new, old)]
        assert not names[0] & names[1]


def test_the_run_says_what_it_did(refreshed: Refreshed) -> None:
    [row] = refreshed.workspace.lake.rows("SELECT * FROM runs WHERE stage = 'refresh'")
    assert (row["status"], row["num_images"]) == ("done", NUM_ITEMS - 1)
    assert (row["run_id"], row["model_version"]) == (refreshed.outcome.run_id, "v2")
    assert fsck(refreshed.workspace) == []


def test_again_there_is_nothing_to_do(refreshed: Refreshed, recipe: Recipe) -> None:
    assert refresh_stage(refreshed.workspace, recipe, Silent()).run_id is None
    assert len(refreshed.workspace.lake.rows("SELECT 1 FROM runs WHERE stage = 'refresh'")) == 1


def test_what_an_item_is_for_stays(filled: Workspace, recipe: Recipe) -> None:
    serving.ensure_base(filled, recipe, Silent())
    [image, *_] = filled.lake.rows("SELECT * FROM images WHERE split = 'unlabelled'")
    filled.queue.enqueue([made("second", "v1", image)])
    promoted_anew(filled, "v2")
    assert refresh_stage(filled, recipe, Silent()).num_items == 1
    [head] = filled.queue.ready_items(("second",))
    assert (head.model_version, head.not_for, head.iteration) == ("v2", "ada", 3)


def test_an_item_that_is_claimed_meanwhile_is_left_alone(
    filled: Workspace, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assist_stage(filled, recipe, Silent())
    promoted_anew(filled, "v2")
    look = Looker.look

    def claimed_while_looking(looker: Looker, *arguments: Any) -> list[Candidate]:
        filled.queue.claim("ada")
        return look(looker, *arguments)

    monkeypatch.setattr(Looker, "look", claimed_while_looking)
    assert refresh_stage(filled, recipe, Silent()).num_items == 1
    assert filled.queue.counts()["leased"] == 1
    assert outdated(filled) == []


def test_the_way_back_brings_the_former_model_s_proposals(
    filled: Workspace, recipe: Recipe
) -> None:
    run_id = assist_stage(filled, recipe, Silent()).run_id
    first = {head.item_id for head in filled.queue.ready_items(("assist",))}
    promoted_anew(filled, "v2")
    num_items = refresh_stage(filled, recipe, Silent()).num_items
    serving.rollback(filled)
    assert len(outdated(filled)) == num_items == len(first)
    assert refresh_stage(filled, recipe, Silent()).num_items == num_items
    heads = filled.queue.ready_items(("assist",))
    assert {head.item_id for head in heads} == first, "those that had given way"
    assert {(head.model_version, head.run_id) for head in heads} == {("v1", run_id)}
    assert outdated(filled) == []


def test_nothing_of_a_revoked_model_waits_once_another_serves(
    filled: Workspace, recipe: Recipe
) -> None:
    assist_stage(filled, recipe, Silent())
    promoted_anew(filled, "v2")
    refresh_stage(filled, recipe, Silent())
    [image, other, *_] = filled.lake.rows("SELECT * FROM images WHERE split = 'unlabelled'")
    filled.queue.enqueue([made("dispute", "v2", image), made("audit", "v2", other)])
    revoke(filled, Target(kind="model", name="v2"))
    assert outdated(filled) == [], "it serves"
    serving.rollback(filled)
    outcome = refresh_stage(filled, recipe, Silent())
    assert outcome.num_withdrawn == 1, "nobody need look at its masks"
    waiting = filled.queue.ready_items(KINDS)
    assert {head.model_version for head in waiting} == {"v1"}
    [dispute] = [head for head in waiting if head.stage == "dispute"]
    assert (dispute.image_id, dispute.not_for) == (image["image_id"], "ada")
    assert outdated(filled) == []
    assert fsck(filled) == []
