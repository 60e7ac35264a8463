"""`maskloop export coco`: what stands, pixel by pixel, for any reader of COCO."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from engine import coco, rle
from engine.rle import Rle
from flows import workspace as workspaces
from flows.errors import UsageError
from flows.exporting import export_coco
from flows.intake.adding import add_images
from flows.intake.coco_import import ImportOptions, import_coco
from flows.workspace import Workspace
from storage.rows import MaskLabelRow, MaskRow, utcnow


def quiet(_done: int, _total: int) -> None:
    return


def mask_row(mask_id: str, image_id: str, stage: str, pixels: Any, **more: Any) -> MaskRow:
    [mask] = rle.encode(pixels[None])
    return MaskRow(
        mask_id=mask_id,
        image_id=image_id,
        stage=stage,
        run_id="run",
        segmentation={"size": list(mask.size), "counts": mask.counts},
        bbox=[0.0, 0.0, 1.0, 1.0],
        area=rle.area(mask),
        created_at=utcnow(),
        **more,
    )


def pixels_by_name(path: Path) -> dict[str, list[bytes]]:
    """The masks of each image as pycocotools decodes them."""
    read = COCO(str(path))
    found: dict[str, list[bytes]] = {}
    for annotation in read.anns.values():
        name = read.imgs[annotation["image_id"]]["file_name"]
        found.setdefault(name, []).append(read.annToMask(annotation).astype(bool).tobytes())
    return {name: sorted(masks) for name, masks in found.items()}


def truth_pixels(path: Path, names: Iterable[str]) -> dict[str, list[bytes]]:
    dataset = coco.read(path)
    found: dict[str, list[bytes]] = {}
    for image in dataset.images:
        if image.file_name in names:
            masks = [mask.rle for mask in dataset.masks if mask.image_id == image.id]
            found[image.file_name] = sorted(m.astype(bool).tobytes() for m in rle.decode(masks))
    return found


# pycocotools does not know numpy 2's `copy` yet.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_back_identical_pixels(
    filled: Workspace, drawn: Any, tmp_path: Path, capsys: Any
) -> None:
    result = export_coco(filled, tmp_path / "out.json")
    rows = filled.lake.rows("SELECT file_name FROM images WHERE split <> 'unlabelled'")
    found = pixels_by_name(tmp_path / "out.json")
    capsys.readouterr()
    assert found == truth_pixels(drawn.truth, {row["file_name"] for row in rows})
    assert result["images"] == 12
    assert result["masks"] == sum(map(len, found.values()))
    assert not list(tmp_path.glob("*.tmp"))


def test_an_export_can_be_imported_again(
    filled: Workspace, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    export_coco(filled, tmp_path / "out.json")
    options = ImportOptions(gold=0.0, strict=True)
    report = import_coco(workspace, tmp_path / "out.json", drawn.folder, options, quiet)
    both = [
        opened.lake.rows("SELECT image_id, segmentation, area, bbox FROM masks ORDER BY 1, 2")
        for opened in (filled, workspace)
    ]
    assert report.problems == ()
    assert both[0] == both[1]


def test_names_of_added_folders_are_found_again(
    filled: Workspace, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / "plates" / str(number)).mkdir(parents=True)
        name = f"scene-{number:02d}.png"
        shutil.copy(drawn.folder / name, tmp_path / "plates" / str(number) / "0.png")
    add_images(workspace, [str(tmp_path / "plates")], strict=True, progress=quiet)
    export_coco(workspace, tmp_path / "out.json")
    options = ImportOptions(strict=True)
    report = import_coco(filled, tmp_path / "out.json", tmp_path / "plates", options, quiet)
    assert (report.num_known, report.problems) == (2, ())


@pytest.fixture
def painted(filled: Workspace) -> Workspace:
    """A person's mask with several names, beside the labels."""
    [image] = filled.lake.rows("SELECT image_id FROM images WHERE file_name = 'scene-01.png'")
    pixels = np.zeros((96, 128), bool)
    pixels[2:5, 3:9] = True
    names = [
        MaskLabelRow(
            mask_id="mine",
            category=name,
            score=score,
            accepted_by=by,
            classes_hash=chosen_from,
            created_at=utcnow() + timedelta(seconds=number),
        )
        for number, (name, score, by, chosen_from) in enumerate(
            [
                ("cat", 1.0, "ada", None),
                ("dog", 1.0, "bob", None),
                ("cow", 0.9, "threshold 0.8", "c" * 16),
                ("hen", 1.0, None, "c" * 16),
                (None, 1.0, "threshold 0.8", "c" * 16),
            ]
        )
    ]
    row = mask_row("mine", image["image_id"], "manual", pixels, annotator="ada")
    filled.lake.commit(lambda tx: tx.insert([row, *names]), message="painted")
    return filled


def test_a_mask_is_written_under_the_last_name_that_a_person_gave(
    painted: Workspace, tmp_path: Path
) -> None:
    export_coco(painted, tmp_path / "out.json", stages=["manual"])
    document = json.loads((tmp_path / "out.json").read_text())
    [annotation] = document["annotations"]
    assert document["categories"] == [{"id": 1, "name": "dog"}]
    assert annotation["category_score"] == 1.0
    assert (annotation["mask_id"], annotation["stage"], annotation["annotator"]) == (
        "mine",
        "manual",
        "ada",
    )
    assert rle.area(Rle((96, 128), annotation["segmentation"]["counts"])) == 18


def test_a_mask_without_a_name_comes_back_without_one(
    filled: Workspace, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    filled.lake.commit(lambda tx: tx.execute("DELETE FROM mask_labels"), message="test")
    export_coco(filled, tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "object"}]
    import_coco(workspace, tmp_path / "out.json", drawn.folder, ImportOptions(gold=0.0), quiet)
    assert len(workspace.lake.rows("SELECT 1 FROM masks")) == len(document["annotations"])
    assert workspace.lake.rows("SELECT category FROM mask_labels") == []


def test_stages_and_snapshots_select(painted: Workspace, tmp_path: Path) -> None:
    latest = painted.lake.snapshot()
    sizes = {
        name: export_coco(painted, tmp_path / "out.json", **options)["masks"]
        for name, options in {
            "all": {},
            "labels": {"stages": ["label"]},
            "both": {"stages": ["label", "manual"]},
            "before": {"snapshot": latest - 1},
            "first": {"snapshot": 1},
        }.items()
    }
    num = sizes["labels"]
    assert sizes == {"all": num + 1, "labels": num, "both": num + 1, "before": num, "first": 0}


def test_crowd_regions_say_so(workspace: Workspace, drawn: Any, tmp_path: Path) -> None:
    document = drawn.document
    document["annotations"][0]["iscrowd"] = 1
    (tmp_path / "crowd.json").write_text(json.dumps(document))
    options = ImportOptions(gold=0.0)
    import_coco(workspace, tmp_path / "crowd.json", drawn.folder, options, quiet)
    export_coco(workspace, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert sum(item["iscrowd"] for item in written) == 1


WRONG = {
    "stage": ({"stages": ["semi", "drawn"]}, "--stage: must be one of label, manual, semi, auto"),
    "snapshot 0": ({"snapshot": 0}, "--snapshot: must be from 1 to [0-9]+, but got 0"),
    "later snapshot": ({"snapshot": 999}, "--snapshot: must be from 1 to [0-9]+, but got 999"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_named(
    workspace: Workspace, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export_coco(workspace, tmp_path / "out.json", **options)
    assert not (tmp_path / "out.json").exists()


def test_the_place_to_write_is_checked(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make it first"):
        export_coco(workspace, tmp_path / "missing" / "out.json")
    with pytest.raises(UsageError, match="a folder; name the file"):
        export_coco(workspace, tmp_path)


def test_an_empty_store_gives_an_empty_file(workspace: Workspace, tmp_path: Path) -> None:
    export_coco(workspace, tmp_path / "out.json")
    assert coco.read(tmp_path / "out.json").images == []
    [row] = workspaces.open_workspace(workspace.root).lake.rows("SELECT * FROM exports")
    assert (row["num_images"], row["num_masks"], row["snapshot"]) == (0, 0, 1)


def test_an_export_is_a_row_that_names_exactly_what_was_written(
    painted: Workspace, tmp_path: Path
) -> None:
    result = export_coco(painted, tmp_path / "out.json", stages=["manual", "label"])
    [row] = painted.lake.rows("SELECT * FROM exports")
    data = (tmp_path / "out.json").read_bytes()
    assert (row["sha256"], row["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (row["file_name"], row["format"], row["export_id"]) == (
        "out.json",
        "coco",
        result["export_id"],
    )
    [run] = painted.lake.rows("SELECT stage, status FROM runs WHERE run_id = ?", (row["run_id"],))
    assert run == {"stage": "export", "status": "done"}
    # Whatever happens later, the row selects the same masks.
    painted.lake.commit(
        lambda tx: tx.execute("DELETE FROM masks WHERE stage = 'label'"), message="gone"
    )
    stages = json.loads(row["options"])["stages"]
    again = painted.lake.rows(
        "SELECT mask_id FROM current_masks WHERE list_contains(?, stage)",
        (stages,),
        snapshot=row["snapshot"],
    )
    written = {item["mask_id"] for item in json.loads(data)["annotations"]}
    assert {found["mask_id"] for found in again} == written
    assert len(written) == row["num_masks"] > 1
