"""Names that proposals come with: through queue, annotator and merge they are suggestions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from annotator.client import AnnotatorClient, Work
from annotator.item import ItemPayload, Proposal, Suggestion
from annotator.submission import AddedMask, Decision, Submission
from engine.clip.classes import ClassPrompts
from engine.clip.config import ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.clip.weights import to_bytes
from engine.drawing.kinds import KINDS
from flows.annotating.people import annotator_server
from flows.asking.assist import assist_stage
from flows.asking.auditing import audit_stage
from flows.clip.clips import class_prompts, mask_encoder
from flows.clip.labelling import LabelOutcome, label_stage
from flows.exporting import export_coco
from flows.generation.generate import generate_stage
from flows.merging.disputes import of_people, standing_of
from flows.merging.merge import merge_stage
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import ClipSettings, ProjectSettings, WorkerSettings
from flows.training.train import TrainRequest, train_stage
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.rows import MaskLabelRow, utcnow

NAMES = sorted(KINDS)
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of random weights: what it says is arbitrary, and always the same."""
    words = [text for group in ClassPrompts.parse(NAMES).prompts() for text in group]
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    path.write_bytes(to_bytes(Clip.new(ClipConfig(tokens=tokens_of(words)), seed=0)))
    return path


@pytest.fixture
def naming(filled: Workspace, clip_weights: Path) -> Workspace:
    """The drawn images in a workspace whose settings name classes.

    What the file named was seen, so that sureness is fitted on it.
    """
    (filled.root / "classes.txt").write_text("\n".join(NAMES))
    settings = replace(
        filled.settings,
        clip=ClipSettings(weights=str(clip_weights), classes="classes.txt"),
        workers=WorkerSettings(kind="local"),
    )
    opened = replace(filled, settings=settings)
    label(opened)
    return opened


@pytest.fixture
def recipe_of_six(recipe: Recipe) -> Recipe:
    """Many and bad proposals, of all images that nobody has labelled."""
    sure = replace(recipe.assist.proposals, min_predicted_iou=0.0, min_stability_score=0.0)
    grid = replace(
        recipe.generation, points_per_side=8, pred_iou_thresh=0.3, stability_score_thresh=0.3
    )
    assist = replace(recipe.assist, num_images=6, pool=6, proposals=sure, generation=grid)
    return replace(recipe, assist=assist, generation=grid)


def label(workspace: Workspace, **options: Any) -> LabelOutcome:
    prompts, encoder = class_prompts(workspace), mask_encoder(workspace)
    return label_stage(workspace, encoder, prompts, Silent(), **options)


def offered(workspace: Workspace) -> list[Proposal]:
    """All proposals of the queue's open items."""
    heads = workspace.queue.ready_items(("assist", "audit"))
    payloads = [workspace.queue.item(head.item_id).payload for head in heads]
    return [one for each in payloads for one in ItemPayload.from_dict(each).proposals]


Choose = Callable[[int, Proposal], str | None]


def review(workspace: Workspace, choose: Choose, added: tuple[AddedMask, ...] = ()) -> list[Work]:
    """Accept everything over the annotator's API, each with the name that `choose` gives."""
    done = []
    with annotator_server(workspace) as url, AnnotatorClient(url, "ada") as client:
        while (work := client.claim()) is not None:
            decisions = tuple(
                Decision(
                    proposal_id=one.proposal_id, action="accepted", category=choose(number, one)
                )
                for number, one in enumerate(work.item.proposals)
            )
            client.submit(work, Submission(decisions=decisions, added=added))
            done.append(work)
    return done


def labels(workspace: Workspace) -> dict[str, Rows]:
    """The names and suggestions of people's masks, by the proposal that each was."""
    found: dict[str, Rows] = {}
    for row in workspace.lake.rows(
        """SELECT m.proposal_id, l.* FROM masks m LEFT JOIN mask_labels l USING (mask_id)
           WHERE m.stage = 'semi' ORDER BY l.accepted_by NULLS FIRST"""
    ):
        found.setdefault(row["proposal_id"], []).append(row)
    return found


def test_assist_suggests_what_label_would_say_of_the_same_masks(
    naming: Workspace, recipe_of_six: Recipe
) -> None:
    assist_stage(naming, recipe_of_six, Silent())
    proposals = {one.proposal_id: one for one in offered(naming)}
    said = {name: one.suggestion for name, one in proposals.items() if one.suggestion}
    assert len(said) > 3
    assert {suggestion.category for suggestion in said.values()} <= set(NAMES)
    review(naming, lambda *_: None)
    merge_stage(naming, Silent())
    naming.lake.commit(
        lambda tx: tx.execute("DELETE FROM mask_labels WHERE classes_hash IS NOT NULL"),
        message="nothing was suggested",
    )
    label(naming)
    rows = {name: row for name, (row,) in labels(naming).items()}
    assert rows.keys() == proposals.keys()
    for name, row in rows.items():
        suggestion = said.get(name)
        assert row["category"] == (suggestion.category if suggestion else None)
        if suggestion:
            assert row["score"] == pytest.approx(suggestion.score, abs=1e-3)
            assert row["classes_hash"] == suggestion.classes_hash


def test_without_classes_nothing_is_suggested(filled: Workspace, recipe_of_six: Recipe) -> None:
    assist_stage(filled, recipe_of_six, Silent())
    assert {one.suggestion for one in offered(filled)} == {None}


def test_accepting_a_mask_leaves_its_name_a_suggestion_and_confirming_makes_it_the_person_s(
    naming: Workspace, recipe_of_six: Recipe
) -> None:
    assist_stage(naming, recipe_of_six, Silent())
    said = {one.proposal_id: one.suggestion for one in offered(naming)}

    def choose(number: int, proposal: Proposal) -> str | None:
        if number % 3 == 0 or proposal.suggestion is None:
            return None
        return proposal.suggestion.category if number % 3 == 1 else "something else"

    chosen = {
        one.proposal_id: choose(number, one)
        for work in review(naming, choose)
        for number, one in enumerate(work.item.proposals)
    }
    assert len({name is None for name in chosen.values()}) == 2
    merge_stage(naming, Silent())
    for name, rows in labels(naming).items():
        suggested = [row for row in rows if row["classes_hash"] is not None]
        named = [row for row in rows if row["accepted_by"] is not None]
        expected = said[name]
        assert [(row["category"], row["score"], row["classes_hash"]) for row in suggested] == (
            [(expected.category, expected.score, expected.classes_hash)] if expected else []
        )
        assert {row["accepted_by"] for row in suggested} <= {None}
        assert [(row["category"], row["accepted_by"], row["score"]) for row in named] == (
            [(chosen[name], "ada", 1.0)] if chosen[name] else []
        )
    assert fsck(naming) == []


def test_a_name_that_the_project_does_not_know_is_not_suggested(
    naming: Workspace, recipe_of_six: Recipe
) -> None:
    assist_stage(naming, recipe_of_six, Silent())
    suggested = [one.suggestion.category for one in offered(naming) if one.suggestion]
    known = max(set(suggested), key=suggested.count)
    settings = replace(naming.settings, project=ProjectSettings(categories=(known, "other")))
    works = review(replace(naming, settings=settings), lambda *_: None)
    shown = [one.suggestion for work in works for one in work.item.proposals]
    categories = [suggestion.category for suggestion in shown if suggestion]
    assert len(shown) == len(offered_ids(works))
    assert categories == [known] * suggested.count(known)


def offered_ids(works: list[Work]) -> set[str]:
    return {one.proposal_id for work in works for one in work.item.proposals}


def test_audits_show_what_label_said_last_of_masks_that_nobody_named(
    naming: Workspace, recipe: Recipe
) -> None:
    generate_stage(naming, recipe, Silent())
    label(naming)
    said = naming.lake.rows(
        """SELECT mask_id, category, score FROM mask_labels JOIN current_masks USING (mask_id)
           JOIN images i USING (image_id)
           WHERE stage = 'auto' AND split = 'unlabelled' AND category IS NOT NULL
           ORDER BY mask_id"""
    )
    assert len(said) > 2
    known, newer = said[0]["mask_id"], said[1]["mask_id"]
    rows = [
        MaskLabelRow(
            mask_id=known, category="cube", score=1.0, accepted_by="bob", created_at=utcnow()
        ),
        MaskLabelRow(
            mask_id=newer, category="star", score=0.7, classes_hash="later", created_at=utcnow()
        ),
    ]
    naming.lake.commit(lambda tx: tx.insert(rows), message="more is known")
    audit_stage(naming, 12)
    found = {one.proposal_id: one.suggestion for one in offered(naming)}
    assert found[known] is None
    assert found[newer] == Suggestion(category="star", score=0.7, classes_hash="later")
    for row in said[2:]:
        suggestion = found[row["mask_id"]]
        assert suggestion is not None
        assert (suggestion.category, suggestion.score) == (row["category"], row["score"])


def test_a_lead_s_name_counts_where_a_model_suggested_the_same(
    naming: Workspace, recipe_of_six: Recipe
) -> None:
    assist_stage(naming, recipe_of_six, Silent())
    works = review(naming, lambda *_: None)
    merge_stage(naming, Silent())
    item = next(work.item for work in works if any(one.suggestion for one in work.item.proposals))
    standing = of_people(naming, standing_of(naming, item.image_id))
    suggested = {one.proposal_id: one.suggestion for one in standing if one.suggestion}
    assert sorted(one.category for one in suggested.values()) == sorted(
        one.suggestion.category for one in item.proposals if one.suggestion
    )
    dispute = NewItem(
        image_id=item.image_id,
        file_name=item.file_name,
        height=item.height,
        width=item.width,
        model_version=item.model_version,
        run_id="merge",
        iteration=1,
        payload=ItemPayload(proposals=standing).to_dict(),
        stage="dispute",
        for_role="lead",
    )
    naming.queue.enqueue([dispute])
    before = naming.lake.rows("SELECT count(*) AS n FROM mask_labels")[0]["n"]
    review(naming, lambda _, one: one.suggestion.category if one.suggestion else None)
    merge_stage(naming, Silent())
    named = naming.lake.rows("SELECT * FROM mask_names WHERE accepted_by = 'ada'")
    assert {row["mask_id"]: row["category"] for row in named} == {
        name: one.category for name, one in suggested.items()
    }
    after = naming.lake.rows("SELECT count(*) AS n FROM mask_labels")[0]["n"]
    assert after == before + len(suggested), "what was suggested is not said twice"


@pytest.mark.timeout(300)
def test_the_loop_with_names_ends_in_a_file_that_says_whose_each_name_is(
    naming: Workspace, recipe: Recipe, recipe_of_six: Recipe, tmp_path: Path
) -> None:
    """COCO with categories in, train, assist, generate, label, people, and COCO out again."""
    train_stage(naming, recipe, Silent(), request=TrainRequest())
    two = replace(recipe_of_six, assist=replace(recipe_of_six.assist, num_images=2))
    assist_stage(naming, two, Silent())

    def choose(number: int, proposal: Proposal) -> str | None:
        if number == 0:
            return "thing"
        return proposal.suggestion.category if proposal.suggestion and number % 2 else None

    works = review(naming, choose)
    merge_stage(naming, Silent())
    generate_stage(naming, recipe_of_six, Silent())
    label(naming)

    names = {
        one.proposal_id: choose(number, one)
        for work in works
        for number, one in enumerate(work.item.proposals)
    }
    assert set(names.values()) - {"thing", None}
    semi = {
        row["mask_id"]: names[row["proposal_id"]]
        for row in naming.lake.rows("SELECT * FROM current_masks WHERE stage = 'semi'")
    }
    assert {None, "thing"} < set(semi.values())
    by_stage = exported(naming, tmp_path / "unaccepted.json")
    assert {one["category"] for one in by_stage["label"]} == set(file_names(naming))
    assert {one["category"] for one in by_stage["auto"]} == {"object"}, "nobody has accepted any"
    for one in by_stage["semi"]:
        assert one["category"] == (semi[one["mask_id"]] or "object")
        assert one["category_score"] == (1.0 if semi[one["mask_id"]] else None)

    threshold = median(naming)
    label(naming, accept=threshold)
    suggested = {
        row["mask_id"]: row
        for row in naming.lake.rows(
            "SELECT * FROM mask_labels WHERE classes_hash IS NOT NULL AND category IS NOT NULL"
        )
    }
    accepted = exported(naming, tmp_path / "accepted.json")
    machine = 0
    for one in [*accepted["semi"], *accepted["auto"]]:
        row = suggested.get(one["mask_id"])
        if semi.get(one["mask_id"]):
            assert (one["category"], one["category_score"]) == (semi[one["mask_id"]], 1.0)
        elif row and row["score"] >= threshold:
            machine += 1
            assert (one["category"], one["category_score"]) == (row["category"], row["score"])
        else:
            assert (one["category"], one["category_score"]) == ("object", None)
    assert 0 < machine < len(suggested)
    assert accepted["label"] == by_stage["label"]
    assert fsck(naming) == []


def exported(workspace: Workspace, path: Path) -> dict[str, list[dict[str, Any]]]:
    """The annotations of an export by their stage, with the names of their categories."""
    export_coco(workspace, path)
    document = json.loads(path.read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    found: dict[str, list[dict[str, Any]]] = {"label": [], "semi": [], "auto": []}
    for one in document["annotations"]:
        kept = ("mask_id", "annotator", "category_score")
        entry = {**{name: one[name] for name in kept}, "category": names[one["category_id"]]}
        found[one["stage"]].append(entry)
    return found


def file_names(workspace: Workspace) -> list[str]:
    """The names that the imported file gave to masks that stand."""
    rows = workspace.lake.rows(
        """SELECT DISTINCT category FROM mask_names JOIN current_masks USING (mask_id)
           WHERE stage = 'label' ORDER BY 1"""
    )
    return [row["category"] for row in rows]


def median(workspace: Workspace) -> float:
    """The score that half of all suggestions reach."""
    [row] = workspace.lake.rows(
        """SELECT quantile_disc(score, 0.5) AS score FROM mask_labels
           WHERE classes_hash IS NOT NULL AND category IS NOT NULL"""
    )
    return float(row["score"])
