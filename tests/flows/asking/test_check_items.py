"""Hidden checks and second looks: how many, of what, and for whom."""

from collections.abc import Callable

import pytest

from annotator.item import ItemPayload
from annotator.submission import Decision, Submission
from flows.asking.assist import assist_stage
from flows.merging.merge import merge_stage
from flows.progress import Silent
from flows.recipes import Recipe
from flows.workspace import Workspace
from storage.queue.items import Item
from storage.queue.people import People


@pytest.fixture
def gold(filled: Workspace) -> set[str]:
    rows = filled.lake.rows("SELECT image_id FROM images WHERE split = 'gold'")
    return {row["image_id"] for row in rows}


@pytest.fixture
def work(filled: Workspace) -> Callable[[str], list[Item]]:
    """Answers all there is for somebody, and merges; returns the items."""

    def answer(name: str) -> list[Item]:
        done = []
        while (lease := filled.queue.claim(name, is_lead=False)) is not None:
            proposals = ItemPayload.from_dict(lease.item.payload).proposals
            decisions = tuple(
                Decision(proposal_id=each.proposal_id, action="accepted") for each in proposals
            )
            body = Submission(decisions=decisions).to_dict()
            item = lease.item
            filled.queue.submit(item.item_id, lease.lease_token, name, item.item_id, body)
            done.append(item)
        merge_stage(filled, Silent())
        return done

    return answer


def test_hidden_checks_are_of_gold_images_at_the_rate(
    filled: Workspace, recipe: Recipe, gold: set[str]
) -> None:
    outcome = assist_stage(filled, recipe.asking({"gold": 0.5}), Silent())
    heads = filled.queue.ready_items(("gold",))
    assert outcome.num_items == 2
    assert len(heads) == 1
    assert {head.image_id for head in heads} < gold
    assert {head.run_id for head in heads} == {outcome.run_id}


def test_the_next_check_is_of_another_image(
    filled: Workspace, recipe: Recipe, gold: set[str], work: Callable[[str], list[Item]]
) -> None:
    asked: list[str] = []
    for _ in range(2):
        assist_stage(filled, recipe.asking({"gold": 0.5}), Silent())
        asked += [item.image_id for item in work("ada") if item.stage == "gold"]
    assert len(set(asked)) == 2
    assert set(asked) < gold
    found = filled.lake.rows("SELECT image_id FROM agreements WHERE kind = 'gold'")
    assert {row["image_id"] for row in found} == set(asked)


def test_without_a_rate_nobody_is_checked(filled: Workspace, recipe: Recipe) -> None:
    assist_stage(filled, recipe, Silent())
    assert filled.queue.ready_items(("gold", "second")) == []


def test_an_answer_is_asked_of_somebody_else(
    filled: Workspace, recipe: Recipe, work: Callable[[str], list[Item]]
) -> None:
    people = People(filled.queue.database)
    for name in ("ada", "bob"):
        people.add(name)
    every = recipe.asking({"second": 1.0})
    assist_stage(filled, every, Silent())
    first = work("ada")
    assist_stage(filled, every, Silent())
    heads = filled.queue.ready_items(("second",))
    assert {head.image_id for head in heads} == {item.image_id for item in first}
    assert {head.not_for for head in heads} == {"ada"}
    # Nobody waits for them with the batch that they came with.
    merges = {row["run_id"] for row in filled.lake.rows("SELECT run_id FROM reviews")}
    assert {head.run_id for head in heads} <= merges
    kinds = [item.stage for item in work("ada")]
    assert "second" not in kinds
    seconds = [item for item in work("bob") if item.stage == "second"]
    assert len(seconds) == len(first)
    found = filled.lake.rows("SELECT * FROM agreements WHERE kind = 'second'")
    assert {(row["annotator"], row["reference_annotator"]) for row in found} == {("bob", "ada")}
    # They took the same proposals, so they agree.
    assert {row["mean_iou"] for row in found} == {1.0}


def test_nobody_is_asked_again_where_there_is_nobody_else(
    filled: Workspace, recipe: Recipe, work: Callable[[str], list[Item]]
) -> None:
    people = People(filled.queue.database)
    people.add("ada")
    people.add("bob")
    people.revoke("bob")
    # The loop looks at the queue under this name, and does nothing.
    people.add("loop")
    every = recipe.asking({"second": 1.0})
    assist_stage(filled, every, Silent())
    work("ada")
    assist_stage(filled, every, Silent())
    assert filled.queue.ready_items(("second",)) == []
