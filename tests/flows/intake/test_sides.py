"""What shows the same thing is never measured on and trained on at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.errors import UsageError
from flows.intake.adding import add_images
from flows.intake.rows import IntakeReport, known_images
from flows.workspace import Workspace

Import = Callable[..., IntakeReport]
Copy = Callable[[Path, Path], Path]


def quiet(_done: int, _total: int) -> None:
    return


def splits(workspace: Workspace) -> dict[str, str]:
    rows = workspace.lake.rows("SELECT file_name, split FROM images")
    return {row["file_name"]: row["split"] for row in rows}


def with_masks(workspace: Workspace) -> set[str]:
    rows = workspace.lake.rows("SELECT DISTINCT file_name FROM masks JOIN images USING (image_id)")
    return {row["file_name"] for row in rows}


def of_images(document: dict[str, Any], *numbers: int) -> dict[str, Any]:
    """The part of a COCO document that is about some images."""
    return document | {
        "images": [item for item in document["images"] if item["id"] in numbers],
        "annotations": [item for item in document["annotations"] if item["image_id"] in numbers],
    }


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_near_duplicates_of_one_file_share_a_side(
    bring: Import,
    workspace: Workspace,
    drawn: Any,
    pictures: Path,
    near_duplicate: Copy,
    tmp_path: Path,
) -> None:
    document = drawn.document
    for number in range(1, 13):
        name = f"scene-{number:02d}.png"
        near_duplicate(pictures / name, pictures / f"again-{number:02d}.png")
        entry = document["images"][number - 1]
        document["images"].append(
            entry | {"id": 100 + number, "file_name": f"again-{number:02d}.png"}
        )
    bring(write(tmp_path / "twice.json", document), pictures, labelled=0.4, gold=0.4)
    found = splits(workspace)
    assert set(found.values()) == {"gold", "train", "unlabelled"}
    assert all(
        found[f"scene-{number:02d}.png"] == found[f"again-{number:02d}.png"]
        for number in range(1, 13)
    )


@pytest.mark.parametrize("first", ["scene-01.png", "scene-04.png"], ids=["gold", "in training"])
def test_a_near_duplicate_that_is_added_later_goes_where_the_first_is(
    filled: Workspace, drawn: Any, near_duplicate: Copy, tmp_path: Path, first: str
) -> None:
    before = splits(filled)[first]
    copy = near_duplicate(drawn.folder / first, tmp_path / "copy.png")
    add_images(filled, [str(copy)], strict=False, progress=quiet)
    expected = "gold" if before == "gold" else "unlabelled"
    assert splits(filled)["copy.png"] == expected


def test_a_near_duplicate_of_a_second_file_never_measures_what_was_trained_on(
    bring: Import,
    workspace: Workspace,
    drawn: Any,
    pictures: Path,
    near_duplicate: Copy,
    tmp_path: Path,
) -> None:
    bring(write(tmp_path / "a.json", of_images(drawn.document, 1)), gold=0.0)
    near_duplicate(pictures / "scene-01.png", pictures / "copy.png")
    second = of_images(drawn.document, 1)
    second["images"][0]["file_name"] = "copy.png"
    again = write(tmp_path / "b.json", second)
    bring(again, pictures, gold=1.0)
    assert splits(workspace) == {"scene-01.png": "train", "copy.png": "unlabelled"}
    names = tmp_path / "gold.txt"
    names.write_text("third.png")
    near_duplicate(pictures / "copy.png", pictures / "third.png")
    second["images"][0]["file_name"] = "third.png"
    (pictures / "third.png").write_bytes((pictures / "third.png").read_bytes() + b" ")
    with pytest.raises(UsageError, match=r"'third.png': .* is in training already"):
        bring(write(tmp_path / "c.json", second), pictures, gold_list=names)


def test_what_nobody_has_labelled_yet_joins_its_near_duplicate_on_the_gold_side(
    bring: Import,
    workspace: Workspace,
    drawn: Any,
    near_duplicate: Copy,
    tmp_path: Path,
) -> None:
    copy = near_duplicate(drawn.folder / "scene-01.png", tmp_path / "copy.png")
    add_images(workspace, [str(copy)], strict=True, progress=quiet)
    bring(write(tmp_path / "a.json", of_images(drawn.document, 1)), gold=1.0)
    assert splits(workspace) == {"scene-01.png": "gold", "copy.png": "gold"}
    assert with_masks(workspace) == {"scene-01.png"}
    groups = {row["group_id"] for row in known_images(workspace).values()}
    assert len(groups) == 1


def test_images_of_one_source_group_share_a_side(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    document = drawn.document
    for entry in document["images"]:
        entry["group"] = f"patient {entry['id'] % 4}"
    names = tmp_path / "gold.txt"
    names.write_text("scene-01.png")
    first = write(tmp_path / "a.json", of_images(document, *range(1, 9)))
    bring(first, labelled=0.5, gold_list=names)
    second = write(tmp_path / "b.json", of_images(document, *range(9, 13)))
    bring(second, labelled=0.0, gold=1.0)
    rows = workspace.lake.rows(
        "SELECT source_group, list(DISTINCT split = 'gold') AS gold, "
        "count(DISTINCT group_id) AS groups FROM images GROUP BY 1"
    )
    assert {"scene-01.png", "scene-05.png", "scene-09.png"} <= {
        name for name, side in splits(workspace).items() if side == "gold"
    }
    assert [(len(row["gold"]), row["groups"]) for row in rows] == [(1, 1)] * 4


def test_an_image_between_both_sides_is_left_out(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    document = drawn.document
    for number, group in ((1, "left"), (2, "right")):
        document["images"][number - 1]["group"] = group
    bring(write(tmp_path / "a.json", of_images(document, 1)), gold=1.0)
    bring(write(tmp_path / "b.json", of_images(document, 2)), gold=0.0)
    # The same picture cannot name two groups, so a store is made in which they are one.
    workspace.lake.commit(
        lambda tx: tx.execute("UPDATE images SET source_group = 'both'"), message="test"
    )
    document["images"][2]["group"] = "both"
    report = bring(write(tmp_path / "c.json", of_images(document, 3)))
    assert report.num_new == 0
    assert "on the gold and on the training side" in report.problems[0]
