"""docs/sql.md: each statement and snippet runs, and the ten questions have the right answers."""

import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import mask_functions, rle
from flows import workspace as workspaces
from flows.cli import app
from flows.workspace import Workspace
from storage.catalog import connection
from storage.catalog.sqlgate import run_user_sql
from storage.rows import (
    CandidateRow,
    DecisionRow,
    ImageRow,
    ImageSetRow,
    MaskRow,
    ModelVersionRow,
    ReviewRow,
    Row,
    TrainingSetRow,
    mask_id,
)

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUESTION = re.compile(r"^### (\d+)\..*?^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOW = datetime(2026, 1, 2)
TRAINED = (("v1", "a"), ("v2", "a"), ("v2", "b"))
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "1": [("auto", 1, 25), ("label", 2, 190), ("semi", 1, 400)],
    "2": [("v1", 1, 0), ("v2", 2, 2)],
    "3": [("a", 25, 0.95)],
    "4": [(1, "v2", 2, 2), (2, "v1", 1, 1)],
    "5": [("a", 2, 0), ("b", 1, 0)],
    "6": [(0.7, 3), (0.8, 2), (0.9, 1)],
    "7": [("v1", 1, 0.0), ("v2", 2, 0.5)],
    "8": [("ann", "clicks", 1), ("imported", "import", 2), ("v2", "grid", 2)],
    "9": [(*sorted((mask_id("one"), mask_id("other"))), 0.9)],
    "10": [("ann", 10.0), ("bob", 30.0)],
}


def image(name: str) -> ImageRow:
    return ImageRow(
        image_id=name, uri=f"source:photos/{name}.png", height=30, width=40, split="train",
        source="photos", group_id=name, file_name=f"{name}.png", format="PNG", mode="RGB",
        bit_depth=8, had_alpha=False, num_frames=1, dhash="0" * 16, run_id="run", added_at=NOW,
    )  # fmt: skip


def mask(name: str, image_id: str, stage: str, rows: int, columns: int, **more: Any) -> MaskRow:
    shape = np.zeros((30, 40), dtype=bool)
    shape[2 : 2 + rows, 3 : 3 + columns] = True
    code = rle.encode_one(shape)
    return MaskRow(
        mask_id=mask_id(name), image_id=image_id, stage=stage, run_id="run",
        segmentation={"size": [30, 40], "counts": code.counts}, area=rows * columns,
        bbox=[3.0, 2.0, float(columns), float(rows)], created_at=NOW,
        **more,
    )  # fmt: skip


def automatic(name: str, image_id: str, version: str, side: int, score: float) -> MaskRow:
    return mask(
        name, image_id, "auto", side, side, model_version=version, config_hash="config",
        prompt="grid", predicted_iou=score,
    )  # fmt: skip


def image_set(image_id: str, version: str) -> ImageSetRow:
    return ImageSetRow(
        image_id=image_id, model_version=version, config_hash="config", run_id="run",
        shard_key="shard", num_proposed=1, num_masks=1, rejections={}, created_at=NOW,
    )  # fmt: skip


def model(version: str, status: str, snapshot: int, parent: str | None) -> ModelVersionRow:
    return ModelVersionRow(
        version=version, weights_uri=f"models/{version}", weights_sha256="0", parent=parent,
        architecture="nano", config_hash="c", config="{}", training_snapshot=snapshot,
        num_training_images=1, num_training_masks=1, generation_depth=1, role="candidate",
        status=status, run_id="run", created_at=NOW,
    )  # fmt: skip


def candidate(number: int, score: float) -> CandidateRow:
    seen = automatic("seen", "a", "v2", 5, score)
    return CandidateRow(
        image_id="a", model_version="v2", config_hash="config", run_id="run", shard_key="shard",
        number=number, segmentation=seen.segmentation, bbox=seen.bbox, crop_box=seen.bbox,
        crop_layer=0, area=25, predicted_iou=score, stability_score=0.9, point_coords=[[1.0, 1.0]],
    )  # fmt: skip


def review(name: str, annotator: str, version: str, seconds: float, accepted: int) -> ReviewRow:
    return ReviewRow(
        submission_id=name, image_id="a", item_id=name, annotator=annotator, model_version=version,
        run_id="run", seq=1, seconds=seconds, num_proposals=2, num_accepted=accepted,
        num_edited=1, num_rejected=0, num_added=0, num_clicks=0, submitted_at=NOW,
    )  # fmt: skip


def decision(name: str, submission: str, version: str, action: str) -> DecisionRow:
    return DecisionRow(
        proposal_id=name, submission_id=submission, image_id="a", model_version=version,
        action=action, num_clicks=0, run_id="run",
    )  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    opened = workspaces.create(tmp_path_factory.mktemp("asked") / "workspace")
    one = mask("one", "a", "label", 10, 10, prompt="import")
    other = mask("other", "a", "label", 10, 9, prompt="import")
    later: list[Row] = [
        model("v1", "retired", 1, None),
        model("v2", "promoted", 2, "v1"),
        *(TrainingSetRow(version=v, image_id=i, num_masks=1) for v, i in TRAINED),
        automatic("auto of a", "a", "v2", 5, 0.95),
        automatic("auto of b", "b", "v2", 20, 0.95),
        automatic("earlier", "b", "v1", 5, 0.95),
        *(image_set(i, v) for i, v in (("a", "v2"), ("b", "v2"), ("b", "v1"))),
        mask("drawn", "a", "semi", 20, 20, annotator="ann", prompt="clicks"),
        *(candidate(number, score) for number, score in enumerate((0.75, 0.85, 0.95))),
        review("s1", "ann", "v2", 20.0, 1),
        review("s2", "bob", "v1", 30.0, 0),
        decision("p1", "s1", "v2", "accepted"),
        decision("p2", "s1", "v2", "edited"),
        decision("p3", "s2", "v1", "edited"),
        decision("p4", "s1", "v2", "withheld"),
    ]
    for rows in ([image("a"), image("b"), one, other], later):
        opened.lake.commit(lambda tx, rows=rows: tx.insert(rows), message="test")
    yield opened
    opened.lake.close()


def test_there_are_ten_questions() -> None:
    assert [number for number, _ in QUESTION.findall(PAGE)] == list(ANSWERS)


@pytest.mark.parametrize(("number", "sql"), QUESTION.findall(PAGE))
def test_a_question_has_its_answer(filled: Workspace, number: str, sql: str) -> None:
    answer = run_user_sql(filled.lake, sql, functions=mask_functions)
    found = [tuple(row.values()) for row in answer.to_pylist()]
    assert [tuple(map(plain, row)) for row in found] == ANSWERS[number]


def plain(value: Any) -> Any:
    """Decimals, which SQL makes of 0.7, as floats."""
    return value if isinstance(value, str | int) else float(value)


def test_commands_and_python_of_the_page_run_in_order(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(filled.root)
    names: dict[str, Any] = {}
    for language, text in BLOCK.findall(PAGE):
        if language == "python":
            exec(compile(text, "docs/sql.md", "exec"), names)
        elif language == "bash":
            for line in text.splitlines():
                run(line, monkeypatch)
    expected = sorted(
        row["mask_id"] for row in filled.lake.rows("SELECT mask_id FROM current_masks")
    )
    assert sorted(names["frame"]["mask_id"]) == expected
    assert sorted(names["table"]["mask_id"].to_pylist()) == expected
    assert sorted(names["polars_frame"]["mask_id"]) == expected
    assert len(names["polars"].read_parquet("masks.parquet")) == len(expected)
    stored = names["pyarrow"].dataset.dataset(names["files"]).count_rows()
    assert stored == filled.lake.rows("SELECT count(*) AS n FROM masks")[0]["n"]
    names["store"].close()


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", shlex.split(line))
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert not ended.value.code, line


def test_the_command_line_of_duckdb(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(filled.root)
    text = next(sql for kind, sql in BLOCK.findall(PAGE) if kind == "sql" and "ATTACH" in sql)
    with connection._bare(filled.lake.place) as bare:  # with the extensions that the page installs
        for statement in text.split(";")[:-1]:
            if not statement.strip().startswith(("INSTALL", "LOAD")):
                answer = bare.execute(statement).fetchall()
    assert answer == [(5,)]
