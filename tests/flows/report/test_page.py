"""The page: what a store holds is on it, in a browser at any width."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from flows.recipes import GateConfig
from flows.report.reasons import Reason, parted
from flows.report.reporting import write_report
from flows.training.gate import Paired, judge
from flows.workspace import Workspace
from storage.catalog.lake import Transaction
from storage.rows import (
    AgreementRow,
    DecisionRow,
    ModelVersionRow,
    ReviewRow,
    RunRow,
    TrainingStepRow,
    utcnow,
)

METRICS = ("iou_1_click", "iou_3_clicks")
REJECTED = judge(
    {"iou_1_click": 0.4, "iou_3_clicks": 0.5},
    {"iou_1_click": 0.6, "iou_3_clicks": 0.7},
    GateConfig(metrics=METRICS),
    paired=Paired(candidate={}, current={}),
).reason


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("", Reason("")),
        ("passes", Reason("passes")),
        ("two\nlines", Reason("two\nlines")),
        ("sum:\na  b c\n1  2 to 3", Reason("sum:", [["a", "b c"], ["1", "2 to 3"]])),
        ("sum:\na  b\n1", Reason("sum:\na  b\n1")),
    ],
    ids=["nothing", "a sentence", "text", "a table", "no table"],
)
def test_a_reason_is_a_sentence_and_a_table(reason: str, expected: Reason) -> None:
    assert parted(reason) == expected


def test_the_gate_says_it_in_a_table() -> None:
    found = parted(REJECTED)
    assert "falls short" in found.text
    assert [row[0] for row in found.table] == ["metric", *METRICS, "mean"]
    assert found.table[1][1:] == ["0.4000", "0.6000", "-0.2000", "unknown"]


def run(run_id: str, stage: str, iteration: int | None, **more: Any) -> RunRow:
    values: dict[str, Any] = {"config": "{}", "status": "done", "started_at": utcnow()} | more
    parent = None if stage == "loop" else "loop"
    return RunRow(run_id=run_id, stage=stage, iteration=iteration, parent_run_id=parent, **values)


@pytest.fixture
def turned(
    filled: Workspace, version: Callable[..., ModelVersionRow]
) -> Callable[[str], Workspace]:
    """A loop of one turn and its closing one, by this annotator; the gate rejected the last."""

    def turn(annotator: str) -> Workspace:
        [image] = filled.lake.rows("SELECT image_id FROM images WHERE split = 'unlabelled' LIMIT 1")
        review = ReviewRow(
            submission_id="s",
            image_id=image["image_id"],
            item_id="i",
            annotator=annotator,
            model_version="v2",
            run_id="merge",
            seq=1,
            seconds=7 * 60.0,
            num_proposals=2,
            num_accepted=1,
            num_edited=0,
            num_rejected=1,
            num_added=1,
            num_clicks=3,
            submitted_at=utcnow(),
        )
        runs = [
            run("loop", "loop", None, config='{"iterations":1}'),
            run("train", "train", 1, model_version="v2"),
            run("merge", "merge", 1),
            run("last", "train", 2, model_version="v3"),
        ]
        versions = [
            version("v1", None, role="base"),
            version("v2", "v1", status="promoted", reason="passes", run_id="train"),
            version("v3", "v2", status="rejected", reason=REJECTED, run_id="last"),
        ]
        steps = [
            TrainingStepRow(run_id=name, step=step, loss=1 / step, iou=0.5, seconds=1.0)
            for name in ("train", "last")
            for step in range(1, 5)
        ]
        for rows in (runs, versions, [review], steps):
            filled.lake.commit(partial(Transaction.insert, rows=rows), message="test")
        return filled

    return turn


def said(page: str) -> str:
    """The page's words, without marks and line breaks."""
    body = page.partition("<body>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


def test_a_simulated_annotators_time_is_nowhere(
    turned: Callable[[str], Workspace], tmp_path: Path
) -> None:
    text = said(write_report(turned("simulated"), tmp_path / "r.html").read_text())
    assert "A simulated annotator made 2 masks on 1 image with 3 clicks." in text
    assert "Its time is made up, and so left out." in text
    assert not re.search(r"minutes|seconds a mask|[Pp]erson's masks", text)


def test_the_course_of_the_trainings_is_drawn(
    turned: Callable[[str], Workspace], tmp_path: Path
) -> None:
    page = write_report(turned("simulated"), tmp_path / "r.html").read_text()
    _, _, section = page.partition("How the trainings went")
    section, _, _ = section.partition("</section>")
    assert section.count("<polyline") == 4
    assert section.count('class="line loop earlier"') == section.count('class="line loop"') == 2
    assert "stroke control" not in section


def test_a_persons_time_is_told(turned: Callable[[str], Workspace], tmp_path: Path) -> None:
    text = said(write_report(turned("simon"), tmp_path / "r.html").read_text())
    assert "One person made 2 masks on 1 image in 7 minutes and 3 clicks." in text
    assert "seconds a mask" in text
    assert "210.0" in text


def agreed(name: str, kind: str, iou: float, *, disputed: bool = False) -> AgreementRow:
    return AgreementRow(
        submission_id=f"{name} {kind} {iou}",
        image_id="i",
        annotator=name,
        kind=kind,
        mean_iou=iou,
        f1_50=iou,
        num_masks=2,
        num_reference_masks=2,
        num_matched=2,
        is_disputed=disputed,
        run_id="merge",
        created_at=utcnow(),
    )


def audited(number: int, iou: float | None) -> tuple[DecisionRow, ReviewRow]:
    """One automatic mask that was corrected; without an IoU, rejected."""
    name = f"audit {number}"
    decision = DecisionRow(
        proposal_id=name,
        submission_id=name,
        image_id="i",
        model_version="v2",
        action="rejected" if iou is None else "edited",
        iou_with_result=iou,
        run_id="merge",
    )
    review = ReviewRow(
        submission_id=name,
        image_id="i",
        item_id=name,
        annotator="ada",
        model_version="v2",
        run_id="merge",
        seq=10 + number,
        num_proposals=1,
        num_accepted=0,
        num_edited=1,
        num_rejected=0,
        num_added=0,
        num_clicks=1,
        submitted_at=utcnow(),
        kind="audit",
    )
    return decision, review


def test_what_was_checked_is_told_by_turn_and_by_annotator(
    turned: Callable[[str], Workspace], tmp_path: Path
) -> None:
    workspace = turned("ada")
    empty = said(write_report(workspace, tmp_path / "before.html").read_text())
    assert "second looks" not in empty
    agreements = [
        agreed("ada", "gold", 0.9),
        agreed("ada", "gold", 0.7),
        agreed("bob", "second", 0.6, disputed=True),
    ]
    decisions, reviews = zip(
        *(audited(number, iou) for number, iou in enumerate([0.95, 0.8, 0.5, None])), strict=True
    )
    hidden = [
        replace(decisions[0], proposal_id=str(iou), action="withheld", iou_with_result=iou)
        for iou in (0.9, 0.3)
    ]
    for rows in (agreements, decisions, reviews, hidden):
        workspace.lake.commit(partial(Transaction.insert, rows=rows), message="test")
    page = write_report(workspace, tmp_path / "r.html").read_text()
    _, _, section = page.partition("<h2>Checked</h2>")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", section.partition("</section>")[0])
    assert cells[:8] == ["1", "2", "0.80", "4", "0.25", "0.50", "2", "0.50"]
    assert cells[8:14] == ["ada", "2", "0.80", "–", "–", "–"]
    assert cells[14:20] == ["bob", "–", "–", "1", "0.60", "1"]
    # After a training it is said what people's work bought, also where nothing measures it.
    assert "<h2>Stop or go on?</h2>" in page


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(
    turned: Callable[[str], Workspace], tmp_path: Path, chromium: Browser, width: int
) -> None:
    path = write_report(turned("ada"), tmp_path / "r.html")
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    numbers = page.locator("table.numbers")
    assert numbers.locator("tr").count() == 4
    assert numbers.locator("tr").nth(1).inner_text().split() == [
        *("iou_1_click", "0.4000", "0.6000", "-0.2000", "unknown")
    ]
    assert "Turn 2 closes its loop: " in page.inner_text("main")
    assert page.get_by_role("cell", name="2, closing").count() == 1
    page.close()
