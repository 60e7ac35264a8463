"""What training and gold see of the store, and truth files beside it."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from engine import coco
from engine.images import DEFAULT_LIMITS
from engine.rle import Rle
from flows.errors import UsageError
from flows.training.labels import check_truth, gold_labels, training_labels, truth_file
from flows.workspace import Workspace
from storage.rows import MaskRow


def image_ids(workspace: Workspace, where: str) -> set[str]:
    return {row["image_id"] for row in workspace.lake.rows(f"SELECT image_id FROM images {where}")}


def test_training_and_gold_have_no_image_in_common(filled: Workspace) -> None:
    trained = training_labels(filled, filled.lake.snapshot())
    gold = gold_labels(filled)
    assert set(gold.image_ids) == image_ids(filled, "WHERE split = 'gold'")
    assert set(trained.image_ids) == image_ids(filled, "WHERE split = 'train'")
    assert len(set(gold.image_ids)) == 3


def test_labels_are_those_of_a_snapshot(filled: Workspace) -> None:
    assert len(training_labels(filled, 1)) == 0
    assert len(gold_labels(filled, 1)) == 0


def test_a_fingerprint_names_images_and_masks(filled: Workspace) -> None:
    stored = gold_labels(filled)
    same = gold_labels(filled)
    other = training_labels(filled, filled.lake.snapshot())
    assert stored.fingerprint() == same.fingerprint()
    assert stored.fingerprint() != other.fingerprint()


def test_beside_a_crowd_nothing_is_known_to_be_background(filled: Workspace) -> None:
    before = training_labels(filled, filled.lake.snapshot())
    first = before.images[0]
    assert first.complete
    [known, *_] = filled.lake.rows("SELECT * FROM masks WHERE image_id = ?", (first.image_id,))
    names = {item.name for item in fields(MaskRow)}
    values = {name: value for name, value in known.items() if name in names}
    crowd = MaskRow(**(values | {"mask_id": "0" * 32, "is_crowd": True}))
    filled.lake.commit(lambda tx: tx.insert([crowd]), message="test")
    after = training_labels(filled, filled.lake.snapshot())
    crowds = (Rle(first.masks[0].size, known["segmentation"]["counts"]),)
    changed = replace(first, complete=False, crowds=crowds)
    assert after.images == (changed, *before.images[1:]), "a crowd is not learnt"


def test_a_truth_file_is_read_beside_the_store(drawn: Any) -> None:
    found = truth_file(coco.read(drawn.truth), drawn.folder, DEFAULT_LIMITS)
    image = found.load(0)
    assert len(found) == 12
    assert {mask.size for mask in image.masks} == {image.image.shape[:2]}


def test_a_truth_file_knows_crowds_and_images_on_which_nothing_is(
    drawn: Any, tmp_path: Path
) -> None:
    document = drawn.document
    document["annotations"] = [item for item in document["annotations"] if item["image_id"] != 1]
    document["annotations"][0]["iscrowd"] = 1
    (tmp_path / "truth.json").write_text(json.dumps(document))
    found = truth_file(coco.read(tmp_path / "truth.json"), drawn.folder, DEFAULT_LIMITS)
    assert len(found) == 12
    assert not found.load(0).masks
    image = found.load(1)
    assert [mask.counts for mask in image.crowds] == [
        document["annotations"][0]["segmentation"]["counts"]
    ]
    assert image.crowds[0] not in image.masks
    assert found.num_masks == len(document["annotations"]) - 1


SPOILT = {
    "other names": ({"file_name": "gone.png"}, "gone.png: No such file.*--images names another"),
    "other size": ({"height": 95}, r"96 x 128 pixels, but the masks of --truth are \(95, 128\)"),
}


@pytest.mark.parametrize(("change", "message"), SPOILT.values(), ids=SPOILT)
def test_a_truth_file_of_other_images_is_refused(
    drawn: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "truth.json"
    document = drawn.document
    document["images"][0] |= change
    for item in document["annotations"]:
        height = document["images"][item["image_id"] - 1]["height"]
        if height != 96:
            # A square that fits into either size.
            item["segmentation"] = [[1, 1, 9, 1, 9, 9, 1, 9]]
    path.write_text(json.dumps(document))
    found = truth_file(coco.read(path), drawn.folder, DEFAULT_LIMITS)
    with pytest.raises(UsageError, match=message):
        found.load(0)


def test_the_truth_of_this_workspace_passes(filled: Workspace, drawn: Any) -> None:
    check_truth(filled, drawn.truth)


def test_a_truth_that_does_not_know_an_image_is_refused(
    filled: Workspace, drawn: Any, tmp_path: Path
) -> None:
    document = drawn.document
    for image in document["images"]:
        image["file_name"] = "other-" + image["file_name"]
    (tmp_path / "other.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"--truth: .*other\.json: must know the images of this"):
        check_truth(filled, tmp_path / "other.json")


def test_a_truth_of_another_size_is_refused(filled: Workspace, drawn: Any, tmp_path: Path) -> None:
    document = drawn.document
    for image in document["images"]:
        image["height"] = 90
    for item in document["annotations"]:
        item["segmentation"] = [[1, 1, 9, 1, 9, 9, 1, 9]]
    (tmp_path / "small.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"must have masks of \(96, 128\).* but got \(90, 128\)"):
        check_truth(filled, tmp_path / "small.json")


def test_a_truth_that_is_no_coco_file_is_refused(filled: Workspace, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UsageError, match=r"--truth: .*bad\.json: line 1: not JSON"):
        check_truth(filled, tmp_path / "bad.json")
