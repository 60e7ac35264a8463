"""Annotations that cannot be used: remembered by image, and brought by the corrected file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.intake.rows import IntakeReport
from flows.training.labels import gold_labels, training_labels
from flows.workspace import Workspace
from storage.rows import ReviewRow, utcnow

Import = Callable[..., IntakeReport]
# In the document of `spoilt` the first image has one annotation that is of no use.
LACKING = "scene-01.png"


def spoilt(drawn: Any, path: Path) -> Path:
    document = drawn.document
    document["annotations"][0]["segmentation"] = [[1, 1, 2]]
    path.write_text(json.dumps(document))
    return path


def facts(workspace: Workspace, name: str = LACKING) -> tuple[int | None, int, bool]:
    """Of an image: annotations that were refused, masks, and whether training takes it as whole."""
    [row] = workspace.lake.rows(
        "SELECT image_id, num_labels_refused AS refused FROM images WHERE file_name = ?", (name,)
    )
    labels = training_labels(workspace, workspace.lake.snapshot())
    [image] = [image for image in labels.images if image.image_id == row["image_id"]]
    return row["refused"], len(image.masks), image.complete


def test_the_corrected_file_brings_what_was_refused(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    first = bring(spoilt(drawn, tmp_path / "labels.json"), gold=0.0)
    assert first.problems[-1].startswith(f"{tmp_path}/labels.json: images that lack annotations")
    assert "which cannot be used: 1; correct them and import the file again" in first.problems[-1]
    refused, num_masks, complete = facts(workspace)
    assert (refused, complete) == (1, False)
    assert facts(workspace, "scene-02.png")[0] == 0
    assert facts(workspace, "scene-02.png")[2], "of another image nothing was refused"
    # Under whatever name.
    second = bring(drawn.truth, gold=0.0)
    assert (second.num_masks, second.num_new, second.repeated) == (1, 0, False)
    assert facts(workspace) == (0, num_masks + 1, True)
    assert bring(drawn.truth, gold=0.0).repeated
    numbers = [str(item["id"]) for item in drawn.document["annotations"]]
    rows = workspace.lake.rows("SELECT source_annotation_id AS id FROM masks")
    assert sorted(row["id"] for row in rows) == sorted(numbers)


def test_another_file_brings_nothing_to_them(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    bring(spoilt(drawn, tmp_path / "labels.json"), gold=0.0)
    before = facts(workspace)
    document = drawn.document
    for item in document["annotations"]:
        item["id"] += 10**6
    (tmp_path / "other.json").write_text(json.dumps(document))
    report = bring(tmp_path / "other.json", gold=0.0)
    assert report.repeated
    assert "keep what they have: 12" in report.problems[0]
    assert facts(workspace) == before


def test_what_a_person_has_looked_at_meanwhile_stays(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    bring(spoilt(drawn, tmp_path / "labels.json"), gold=0.0)
    [row] = workspace.lake.rows("SELECT image_id FROM images WHERE file_name = ?", (LACKING,))
    review = ReviewRow(
        submission_id="s", seq=1, item_id="i", image_id=row["image_id"], annotator="ada",
        model_version="v1", num_proposals=0, num_accepted=0, num_edited=0, num_rejected=0,
        seconds=1.0, num_clicks=0, num_added=0, is_complete=True, run_id="run", iteration=1,
        submitted_at=utcnow(),
    )  # fmt: skip
    workspace.lake.commit(lambda tx: tx.insert([review]), message="test")
    refused, num_masks, complete = facts(workspace)
    assert (refused, complete) == (1, True), "whoever looked said that it is"
    assert bring(drawn.truth, gold=0.0).num_masks == 0
    assert facts(workspace) == (1, num_masks, True)


@pytest.mark.parametrize("side", ["gold", "train"])
def test_an_image_on_which_nothing_is_measures_and_teaches_nothing(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path, side: str
) -> None:
    document = drawn.document
    document["annotations"] = [
        item for item in document["annotations"] if item["image_id"] not in (1, 2)
    ]
    # Of the second, nothing could be used: that is not the same.
    document["annotations"].append({"id": 1, "image_id": 2, "segmentation": []})
    (tmp_path / "labels.json").write_text(json.dumps(document))
    bring(tmp_path / "labels.json", gold=1.0 if side == "gold" else 0.0)
    rows = workspace.lake.rows("SELECT image_id, file_name FROM images")
    names = {row["image_id"]: row["file_name"] for row in rows}
    gold = {names[image.image_id]: len(image.masks) for image in gold_labels(workspace).images}
    labels = training_labels(workspace, workspace.lake.snapshot())
    taught = {names[image.image_id] for image in labels.images}
    others = set(names.values()) - {"scene-01.png", "scene-02.png"}
    if side == "gold":
        assert gold.keys() == others | {"scene-01.png"}
        assert gold["scene-01.png"] == 0
    else:
        assert (taught, gold) == (others, {})
