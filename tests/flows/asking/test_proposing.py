"""What people are offered: by a detector, under a promise, and not all of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from annotator.item import ItemPayload
from annotator.submission import AddedMask, Decision, Submission
from engine.detection.config import DetectorConfig
from flows.asking.assist import assist_stage
from flows.asking.promises import judged, thresholds_for
from flows.errors import UsageError
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import AssistConfig, Recipe
from flows.training.detectors import detector_for
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.queue.items import Item
from storage.queue.work import Lease

DETECTOR = DetectorConfig(
    steps=3, batch_images=1, warmup_steps=1, ema=0.1, min_score=0.0, max_boxes=12
)
Change = Callable[..., Recipe]


@pytest.fixture
def asking(recipe: Recipe) -> Change:
    """The recipe with changes in how it asks; it proposes whatever the model gives."""

    def change(**changes: Any) -> Recipe:
        lenient = replace(recipe.assist.proposals, min_predicted_iou=0.0, min_stability_score=0.0)
        generation = replace(
            recipe.assist.generation, pred_iou_thresh=0.0, stability_score_thresh=0.0
        )
        return recipe.asking(
            {"proposals": lenient, "generation": generation, "detector": DETECTOR, **changes}
        )

    return change


def payloads(workspace: Workspace) -> list[ItemPayload]:
    heads = workspace.queue.ready_items(("assist",))
    return [ItemPayload.from_dict(workspace.queue.item(h.item_id).payload) for h in heads]


def answer(
    workspace: Workspace, lease: Lease, action: str, *added: AddedMask, complete: bool = True
) -> Item:
    proposals = ItemPayload.from_dict(lease.item.payload).proposals
    decisions = tuple(
        Decision(proposal_id=proposal.proposal_id, action=action)  # type: ignore[arg-type]
        for proposal in proposals
    )
    body = Submission(decisions=decisions, added=added, complete=complete).to_dict()
    workspace.queue.submit(lease.item.item_id, lease.lease_token, "ada", lease.item.item_id, body)
    return lease.item


def claimed(workspace: Workspace) -> Lease:
    lease = workspace.queue.claim("ada")
    assert lease is not None
    return lease


def test_a_detectors_boxes_prompt_the_model(filled: Workspace, asking: Change) -> None:
    outcome = assist_stage(filled, asking(propose="detector"), Silent())
    assert outcome.num_proposals > 0
    [row] = filled.lake.rows("SELECT * FROM detectors")
    assert (row["model_version"], row["run_id"]) == (outcome.version, outcome.run_id)
    assert row["num_training_images"] > 0
    for payload in payloads(filled):
        for proposal in payload.proposals:
            assert proposal.source == "detector"
            assert proposal.detector_version == row["version"]
            assert proposal.detection_score is not None
            assert 0 <= proposal.score <= proposal.detection_score <= 1
            assert proposal.point_coords == []


def test_who_found_a_mask_goes_with_it_into_the_store(filled: Workspace, asking: Change) -> None:
    assist_stage(filled, asking(propose="detector"), Silent())
    answer(filled, claimed(filled), "accepted")
    merge_stage(filled, Silent())
    masks = filled.lake.rows("SELECT detector_version FROM masks WHERE stage = 'semi'")
    [row] = filled.lake.rows("SELECT version FROM detectors")
    assert masks
    assert {mask["detector_version"] for mask in masks} == {row["version"]}
    assert {r["source"] for r in filled.lake.rows("SELECT source FROM decisions")} == {"detector"}
    assert fsck(filled) == []


def test_a_detector_is_trained_once_for_the_same_labels(filled: Workspace, recipe: Recipe) -> None:
    version = serving.ensure_base(filled, recipe, Silent())
    first = detector_for(filled, DETECTOR, version, "run", Silent())
    again = detector_for(filled, DETECTOR, version, "run", Silent())
    assert again.version == first.version
    assert filled.lake.rows("SELECT count(*) AS n FROM detectors") == [{"n": 1}]
    other = detector_for(filled, replace(DETECTOR, seed=1), version, "run", Silent())
    assert other.version != first.version


def test_a_detector_without_a_label_says_what_to_do(workspace: Workspace, recipe: Recipe) -> None:
    version = serving.ensure_base(workspace, recipe, Silent())
    with pytest.raises(UsageError, match=r"import coco ANNOTATIONS\.json --images DIR"):
        detector_for(workspace, DETECTOR, version, "run", Silent())


def test_some_proposals_are_not_shown_and_always_the_same(
    filled: Workspace, asking: Change
) -> None:
    assist_stage(filled, asking(withhold=0.5), Silent())
    found = payloads(filled)
    shown = sum(len(payload.proposals) for payload in found)
    hidden = sum(len(payload.withheld) for payload in found)
    assert shown > 0
    assert hidden > 0
    assert 0.2 < hidden / (shown + hidden) < 0.8


def test_under_a_promise_nothing_is_shown_until_it_is_known(
    filled: Workspace, asking: Change
) -> None:
    outcome = assist_stage(filled, asking(promise=0.9), Silent())
    assert outcome.num_proposals == 0
    assert sum(len(payload.withheld) for payload in payloads(filled)) > 0
    [run] = filled.lake.rows("SELECT detail FROM runs WHERE stage = 'assist'")
    assert run["detail"].startswith("promise 0.9: tiny none (0 of 0 accepted), small none")


def test_what_people_make_of_withheld_proposals_is_what_thresholds_learn(
    filled: Workspace, asking: Change
) -> None:
    recipe = asking(promise=0.5)
    assist_stage(filled, recipe, Silent())
    lease = claimed(filled)
    withheld = ItemPayload.from_dict(lease.item.payload).withheld
    # The person makes the first half just so, and nothing of the rest.
    made = withheld[: len(withheld) // 2]
    assert made
    answer(filled, lease, "accepted", *(AddedMask(segmentation=p.segmentation) for p in made))
    merge_stage(filled, Silent())
    seen = judged(filled, "grid", "v1")
    assert len(seen) == len(withheld)
    assert int(seen.accepted.sum()) >= len(made)
    assert thresholds_for(filled, recipe.assist, "v1") is not None
    # Where the image was not finished, what is missing says nothing.
    answer(filled, claimed(filled), "accepted", complete=False)
    merge_stage(filled, Silent())
    assert len(judged(filled, "grid", "v1")) == len(seen)


def test_what_people_accept_and_reject_is_what_thresholds_learn(
    filled: Workspace, asking: Change
) -> None:
    assist_stage(filled, asking(), Silent())
    accepted = ItemPayload.from_dict(answer(filled, claimed(filled), "accepted").payload)
    rejected = ItemPayload.from_dict(answer(filled, claimed(filled), "rejected").payload)
    merge_stage(filled, Silent())
    seen = judged(filled, "grid", "v1")
    scores = {True: accepted.proposals, False: rejected.proposals}
    for is_accepted, proposals in scores.items():
        assert sorted(seen.scores[seen.accepted == is_accepted]) == pytest.approx(
            sorted(proposal.score for proposal in proposals)
        )
    assert len(set(seen.images)) == 2
    assert len(judged(filled, "detector", "v1")) == 0


def test_without_a_promise_there_are_no_thresholds(filled: Workspace, recipe: Recipe) -> None:
    assert thresholds_for(filled, recipe.assist, "v1") is None


def test_a_pinned_image_comes_first(filled: Workspace, asking: Change) -> None:
    rows = filled.lake.rows("SELECT image_id FROM images WHERE split = 'unlabelled' ORDER BY 1")
    for row in rows[:2]:
        filled.queue.pin([row["image_id"]], by="ada")
    assist_stage(filled, asking(num_images=2, pool=2), Silent())
    assert filled.queue.open_images() == {row["image_id"] for row in rows[:2]}


@pytest.mark.parametrize("how", ["random", "uncertainty", "diversity", "coverage", "mixture"])
def test_each_way_to_choose_gives_a_batch(filled: Workspace, asking: Change, how: str) -> None:
    outcome = assist_stage(filled, asking(choose=how), Silent())
    assert outcome.num_items == 2
    assert len(filled.queue.open_images()) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("propose", "magic"), ("choose", "best"), ("promise", 1.0), ("withhold", 2.0), ("gold", -0.1)],
)
def test_what_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        AssistConfig(**{field: value})  # type: ignore[arg-type]
