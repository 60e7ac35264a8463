"""Stop or go on: what people's work bought, read from the store, and what follows from it."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.report.advice import METRICS, advice
from flows.runs import finish_run, new_run
from flows.workspace import Workspace
from storage.rows import EvaluationRow, ReviewRow, utcnow

START = datetime(2026, 1, 1)


class Story:
    """A store in which trainings and merges happened at given hours."""

    def __init__(self, workspace: Workspace, recipe: Recipe) -> None:
        self.workspace = workspace
        self.version = serving.ensure_base(workspace, recipe, Silent())
        self._reviews = 0

    def run(self, stage: str, hour: int, version: str | None = None) -> str:
        row = replace(new_run(stage), started_at=START + timedelta(hours=hour))

        def body(tx: object) -> None:
            tx.insert([row])  # type: ignore[attr-defined]
            finish_run(tx, row.run_id, model_version=version)  # type: ignore[arg-type]

        self.workspace.lake.commit(body, message="test")
        return row.run_id

    def work(self, hour: int, num_clicks: int, kind: str = "assist") -> None:
        """A merged answer with as many clicks, and nothing else."""
        self._reviews += 1
        number = self._reviews
        row = ReviewRow(
            submission_id=f"s{number}",
            image_id=f"i{number}",
            item_id=f"t{number}",
            annotator="ada",
            model_version="v1",
            run_id=self.run("merge", hour),
            seq=number,
            num_proposals=0,
            num_accepted=0,
            num_edited=0,
            num_rejected=0,
            num_added=0,
            num_clicks=num_clicks,
            submitted_at=utcnow(),
            kind=kind,
        )
        self.workspace.lake.commit(lambda tx: tx.insert([row]), message="test")

    def train(self, hour: int, version: str, parent: str) -> None:
        row = replace(
            serving.model_row(self.workspace, "v1"),
            version=version,
            parent=parent,
            role="candidate",
        )
        self.workspace.lake.commit(lambda tx: tx.insert([row]), message="test")
        self.run("train", hour, version)

    def score(self, version: str, ious: list[float]) -> None:
        """Gold scores of one mask on each image, all metrics alike."""
        splits = [("gold", float(np.mean(ious)))]
        splits += [(f"gold:i{number}", iou) for number, iou in enumerate(ious)]
        rows = [
            EvaluationRow(
                model_version=version,
                split=split,
                metric=metric,
                value=value,
                num_images=1,
                num_masks=1,
                config_hash="same",
                run_id="run",
                created_at=utcnow(),
            )
            for split, value in splits
            for metric in METRICS
        ]
        self.workspace.lake.commit(lambda tx: tx.insert(rows), message="test")


@pytest.fixture
def story(workspace: Workspace, recipe: Recipe) -> Story:
    return Story(workspace, recipe)


def scores(mean: float, spread: float = 0.0) -> list[float]:
    return list(mean + spread * np.random.default_rng(0).standard_normal(30))


def test_before_a_training_there_is_nothing_to_say(story: Story) -> None:
    assert advice(story.workspace.lake) is None


def test_work_that_tells_asks_for_more(story: Story) -> None:
    story.work(1, 150)
    story.work(2, 50)
    story.train(3, "v2", "v1")
    story.score("v1", scores(0.6))
    story.score("v2", scores(0.62))
    found = advice(story.workspace.lake)
    assert found is not None
    assert (found.verdict, found.num_actions, found.num_waiting) == ("ask", 200, 0)
    assert found.gain == pytest.approx(0.02)
    assert "200 actions of people went into v2" in found.words
    assert "+0.0100 for each hundred" in found.words
    assert "maskloop assist" in found.words


@pytest.mark.parametrize("actions", [0, 1, 19])
def test_a_few_actions_say_nothing(story: Story, actions: int) -> None:
    story.work(1, actions)
    story.train(3, "v2", "v1")
    story.score("v1", scores(0.6))
    story.score("v2", scores(0.62))
    story.work(4, actions)
    found = advice(story.workspace.lake)
    assert found is not None
    assert found.verdict == "few", "nor is it time to train for so few that wait"
    assert "hundred" not in found.words
    assert ("1 action of people" in found.words) is (actions == 1)


def test_what_got_worse_is_not_ended_by_generation(story: Story) -> None:
    story.work(1, 200)
    story.train(3, "v2", "v1")
    story.score("v1", scores(0.6))
    story.score("v2", scores(0.55))
    found = advice(story.workspace.lake)
    assert found is not None
    assert found.verdict == "worse"
    assert "maskloop lineage" in found.words


def test_what_may_be_luck_is_called_so(story: Story) -> None:
    story.work(1, 100)
    story.train(3, "v2", "v1")
    story.score("v1", scores(0.6))
    story.score("v2", scores(0.601, spread=0.1))
    found = advice(story.workspace.lake)
    assert found is not None
    assert found.verdict == "unclear"
    assert found.noise is not None
    assert found.noise.low < 0 < found.noise.high


def test_work_that_hardly_tells_ends_in_generation(story: Story) -> None:
    story.work(1, 5000)
    story.train(3, "v2", "v1")
    story.score("v1", scores(0.6))
    story.score("v2", scores(0.605))
    found = advice(story.workspace.lake)
    assert found is not None
    assert found.verdict == "automatic"
    assert "maskloop generate" in found.words


def test_only_work_since_the_training_before_counts_and_what_waits_is_learnt_first(
    story: Story,
) -> None:
    story.work(1, 500)
    story.train(2, "v2", "v1")
    story.work(3, 70)
    story.work(3, 30, kind="gold")
    story.train(4, "v3", "v2")
    story.score("v2", scores(0.6))
    story.score("v3", scores(0.65))
    found = advice(story.workspace.lake)
    assert found is not None
    assert (found.verdict, found.version, found.num_actions) == ("ask", "v3", 70)
    story.work(5, 80)
    found = advice(story.workspace.lake)
    assert found is not None
    assert (found.verdict, found.num_waiting) == ("train", 80)
    assert "maskloop train" in found.words


def test_without_a_gold_image_nobody_knows(story: Story) -> None:
    story.work(1, 100)
    story.train(3, "v2", "v1")
    found = advice(story.workspace.lake)
    assert found is not None
    assert (found.verdict, found.gain) == ("unclear", None)
    assert "not known: no gold image" in found.words
