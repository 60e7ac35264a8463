"""Hidden checks and second pairs of eyes, worked by simulated people who differ in care."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotator.simulated import run_simulated
from annotator.truth import Truth
from annotator.visit import SimulationConfig
from flows.annotating.people import annotator_server
from flows.merging.merge import MergeOutcome, merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.queue.people import People, Role

# Few clicks, then the brush: how masks are made is not the point here.
CAREFUL = SimulationConfig.careful(max_clicks_per_mask=1)
CARELESS = SimulationConfig(slip_rate=0.5, seed=13)


class Team:
    """Simulated people of one workspace, each with a token, who know the truth of its images."""

    def __init__(self, workspace: Workspace, truth: Path, version: str, url: str) -> None:
        self.workspace = workspace
        self.truth = truth
        self.version = version
        self.url = url
        self._tokens: dict[str, str] = {}

    def add(self, name: str, role: Role = "annotator") -> str:
        people = People(self.workspace.queue.database)
        self._tokens[name] = people.add(name, role)
        return name

    def ask(self, kind: str, split: str, num: int, **more: Any) -> list[dict[str, Any]]:
        """Items of a kind, without proposals, for images of a split."""
        rows = self.workspace.lake.rows(
            "SELECT image_id, file_name, height, width FROM images WHERE split = ? "
            "ORDER BY file_name LIMIT ?",
            (split, num),
        )
        self.workspace.queue.enqueue(
            NewItem(
                **row,
                model_version=self.version,
                run_id="assist",
                iteration=1,
                stage=kind,
                payload={"proposals": []},
                **more,
            )
            for row in rows
        )
        return rows

    def work(self, name: str, config: SimulationConfig) -> int:
        """Let somebody answer all there is for them; returns how many items."""
        token = self._tokens[name]
        return run_simulated(self.url, self.truth, token=token, config=config).num_items

    def merge(self) -> MergeOutcome:
        return merge_stage(self.workspace, Silent())


@pytest.fixture
def team(filled: Workspace, drawn: Any, recipe: Recipe) -> Iterator[Team]:
    version = serving.ensure_base(filled, recipe, Silent())
    with annotator_server(filled) as url:
        yield Team(filled, drawn.truth, version, url)


def test_a_careless_annotator_scores_lower_on_gold_than_a_careful_one(team: Team) -> None:
    careful, careless = team.add("simulated-a"), team.add("simulated-b")
    queue = team.workspace.queue
    team.ask("gold", "gold", 3)
    assert team.work(careful, CAREFUL) == 3
    for done in queue.submissions_after(0):
        queue.reopen(done.item.item_id)
    assert team.work(careless, CARELESS) == 3
    team.merge()
    rows = team.workspace.lake.rows(
        "SELECT annotator, avg(mean_iou) AS mean_iou, avg(f1_50) AS f1_50, count(*) AS images "
        "FROM agreements WHERE kind = 'gold' GROUP BY annotator ORDER BY annotator"
    )
    exact, loose = rows
    assert (exact["mean_iou"], exact["f1_50"], exact["images"]) == (1.0, 1.0, 3)
    assert (loose["annotator"], loose["images"]) == (careless, 3)
    assert loose["mean_iou"] < 0.7
    assert loose["f1_50"] < 0.9
    assert team.workspace.lake.rows("FROM masks WHERE stage <> 'label'") == []


def test_a_second_pair_of_eyes_finds_what_went_wrong_and_a_lead_settles_it(team: Team) -> None:
    first, second = team.add("simulated-a"), team.add("simulated-b")
    lead = team.add("simulated-lead", "lead")
    images = team.ask("assist", "unlabelled", 2)
    assert team.work(first, CARELESS) == 2
    assert team.merge().num_disputes == 0
    for row in images:
        team.workspace.queue.enqueue([second_look(team, row, first)])
    assert team.work(first, CAREFUL) == 0, "nobody looks at their own work again"
    assert team.work(second, CAREFUL) == 2
    assert team.merge().num_disputes == 2
    assert team.work(second, CAREFUL) == 0, "disputes are for leads"
    before = standing(team, images)
    assert team.work(lead, CAREFUL) == 2
    assert team.merge().num_disputes == 0

    truth = Truth.read(team.truth)
    wanted = {mask.counts for row in images for mask in truth.masks[row["file_name"]]}
    assert standing(team, images) == wanted != before
    lake = team.workspace.lake
    assert lake.rows("FROM retractions"), "a mask beside its object goes"
    edits = lake.rows("FROM masks WHERE annotator = ? AND supersedes IS NOT NULL", (lead,))
    assert edits, "a mask that is nearly right is corrected"
    assert fsck(team.workspace) == []


def second_look(team: Team, image: dict[str, Any], first: str) -> NewItem:
    return NewItem(
        **image,
        model_version=team.version,
        run_id="assist",
        iteration=1,
        stage="second",
        not_for=first,
        payload={"proposals": []},
    )


def standing(team: Team, images: list[dict[str, Any]]) -> set[str]:
    """The masks of people that stand, as run-length codes."""
    rows = team.workspace.lake.rows(
        "SELECT image_id, segmentation FROM current_masks WHERE stage IN ('semi', 'manual')"
    )
    wanted = {row["image_id"] for row in images}
    return {row["segmentation"]["counts"] for row in rows if row["image_id"] in wanted}
