"""`maskloop import coco`: who becomes what, what is left out, and what a second import does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import rle
from engine.images import encode_png
from flows import workspace as workspaces
from flows.errors import StageError, UsageError
from flows.intake.adding import add_images
from flows.intake.coco_import import ImportOptions, import_coco
from flows.intake.rows import IntakeReport, known_images, settle
from flows.training import labels
from flows.workspace import Workspace
from storage.rows import ImageRow, MaskRow, ReviewRow, utcnow

Import = Callable[..., IntakeReport]


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


def test_everything_but_gold_is_labelled_by_default(bring: Import, workspace: Workspace) -> None:
    report = bring(gold=0.3)
    assert set(splits(workspace).values()) == {"gold", "train"}
    assert (report.num_new, report.num_gold + report.num_labelled) == (12, 12)
    assert len(workspace.lake.rows("SELECT 1 FROM masks")) == report.num_masks


def test_only_gold_and_labelled_images_bring_their_masks(
    bring: Import, workspace: Workspace
) -> None:
    report = bring(labelled=0.4, gold=0.3, seed=5)
    found = splits(workspace)
    counts = {side: list(found.values()).count(side) for side in ("gold", "train", "unlabelled")}
    assert (counts["gold"], counts["train"]) == (report.num_gold, report.num_labelled)
    assert counts["unlabelled"] > 0
    assert with_masks(workspace) == {name for name, side in found.items() if side != "unlabelled"}


def test_the_seed_alone_decides_who_is_what(drawn: Any, empty_root: Path, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((5, 5, 6)):
        root = Path(shutil.copytree(empty_root, tmp_path / str(number)))
        opened = workspaces.open_workspace(root)
        options = ImportOptions(labelled=0.4, gold=0.3, seed=seed)
        import_coco(opened, drawn.truth, drawn.folder, options, quiet)
        found.append(splits(opened))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_second_import_of_the_same_file_changes_nothing(
    bring: Import, workspace: Workspace, contents: Any
) -> None:
    bring(labelled=0.4)
    before, snapshot = contents(workspace), workspace.lake.snapshot()
    for options in ({"labelled": 0.4}, {"seed": 9}, {"labelled": 1.0, "gold": 0.0}):
        assert bring(**options).repeated
    assert (contents(workspace), workspace.lake.snapshot()) == (before, snapshot)


def test_an_image_that_was_missing_comes_in_when_it_is_there(
    bring: Import, workspace: Workspace, pictures: Path
) -> None:
    away = (pictures / "scene-04.png").rename(pictures.parent / "away.png")
    first = bring(folder=pictures, labelled=0.4)
    assert (first.num_new, len(first.problems)) == (11, 1)
    assert "scene-04.png: no such file" in first.problems[0]
    before = splits(workspace)
    assert bring(folder=pictures, labelled=1.0, gold=0.0).num_new == 0
    away.rename(pictures / "scene-04.png")
    assert bring(folder=pictures, labelled=1.0, gold=0.0).num_new == 1
    assert splits(workspace) == before | {"scene-04.png": "train"}
    assert bring(folder=pictures).repeated


def test_a_list_names_the_gold_images(bring: Import, workspace: Workspace, tmp_path: Path) -> None:
    names = tmp_path / "gold.txt"
    # A byte order mark, as Windows editors write it.
    names.write_text("scene-02.png\n# measured only\n\n7\n", encoding="utf-8-sig")
    bring(gold_list=names)
    gold = {name for name, side in splits(workspace).items() if side == "gold"}
    assert gold == {"scene-02.png", "scene-07.png"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"scene-99.png\n", "'scene-99.png' is no image"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "No such"),
    ],
    ids=["unknown name", "not text", "missing"],
)
def test_a_wrong_gold_list_is_refused(
    bring: Import, tmp_path: Path, content: bytes | None, message: str
) -> None:
    names = tmp_path / "gold.txt"
    if content is not None:
        names.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        bring(gold_list=names)


class TestKnownImages:
    """Images that are in the store already when their file comes."""

    def test_added_images_get_their_labels_later(
        self, bring: Import, workspace: Workspace, drawn: Any
    ) -> None:
        add_images(workspace, [str(drawn.folder)], strict=True, progress=quiet)
        report = bring(labelled=0.4, gold=0.4)
        assert (report.num_new, report.num_known) == (0, 12)
        assert set(splits(workspace).values()) == {"gold", "train", "unlabelled"}
        assert report.num_masks == len(workspace.lake.rows("SELECT 1 FROM current_masks"))

    def test_masks_that_are_there_stay(
        self, bring: Import, workspace: Workspace, drawn: Any, contents: Any, tmp_path: Path
    ) -> None:
        bring(gold=0.0)
        before = contents(workspace)
        report = bring(write(tmp_path / "other.json", drawn.document | {"info": "again"}), gold=0.0)
        assert "before keep what they have: 12" in report.problems[0]
        assert contents(workspace) == before

    @pytest.mark.parametrize("gold", [0.0, 1.0], ids=["train", "gold"])
    def test_masks_that_were_of_no_use_come_in_when_they_are_mended(
        self, bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path, gold: float
    ) -> None:
        broken = drawn.document
        for mask in broken["annotations"]:
            if mask["image_id"] == 4:
                mask["segmentation"] = [[1, 1, 9, 9]]
        assert bring(write(tmp_path / "broken.json", broken), gold=gold).num_new == 12
        assert "scene-04.png" not in with_masks(workspace)
        num_masks = len(of_images(drawn.document, 4)["annotations"])
        mended = bring(gold=gold)
        assert (mended.num_new, mended.num_masks) == (0, num_masks)
        assert mended.num_gold + mended.num_labelled == 1
        assert len(splits(workspace)) == len(with_masks(workspace)) == 12
        snapshot = workspace.lake.snapshot()
        assert bring(gold=gold).repeated
        assert workspace.lake.snapshot() == snapshot

    def test_an_image_that_a_person_found_empty_stays_so(
        self, bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
    ) -> None:
        bare = of_images(drawn.document, 4) | {"annotations": []}
        bring(write(tmp_path / "bare.json", bare), gold=0.0)
        [image] = workspace.lake.rows("SELECT image_id FROM images")
        review = ReviewRow(
            submission_id="s",
            image_id=image["image_id"],
            item_id="i",
            annotator="ada",
            model_version="v1",
            run_id="run",
            seq=1,
            num_proposals=1,
            num_accepted=0,
            num_edited=0,
            num_rejected=1,
            num_added=0,
            num_clicks=0,
            submitted_at=utcnow(),
        )
        workspace.lake.commit(lambda tx: tx.insert([review]), message="test")
        report = bring(write(tmp_path / "one.json", of_images(drawn.document, 4)), gold=0.0)
        assert "before keep what they have: 1" in report.problems[0]
        assert with_masks(workspace) == set()

    def test_names_of_two_files_stay_apart(
        self, bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
    ) -> None:
        for number in (1, 2):
            document = of_images(drawn.document, number)
            document["images"][0]["file_name"] = "0.png"
            folder = tmp_path / str(number) / "scans"
            folder.mkdir(parents=True)
            shutil.copy(drawn.folder / f"scene-{number:02d}.png", folder / "0.png")
            bring(write(tmp_path / f"{number}.json", document), folder, gold=0.0)
        assert splits(workspace).keys() == {"0.png", "scans-2/0.png"}

    def test_labels_go_over_automatic_masks(
        self, bring: Import, workspace: Workspace, drawn: Any
    ) -> None:
        add_images(workspace, [str(drawn.folder)], strict=True, progress=quiet)
        one = drawn.document["annotations"][0]
        [image] = workspace.lake.rows("SELECT * FROM images WHERE file_name = 'scene-01.png'")
        auto = MaskRow(
            mask_id="auto",
            image_id=image["image_id"],
            stage="auto",
            run_id="run",
            segmentation=one["segmentation"],
            bbox=one["bbox"],
            area=one["area"],
            created_at=utcnow(),
        )
        workspace.lake.commit(lambda tx: tx.insert([auto]), message="test")
        bring(gold=0.0)
        [row] = workspace.lake.rows("SELECT mask_id, iou FROM suppressions")
        assert row == {"mask_id": "auto", "iou": 1.0}


def test_crowd_is_kept_and_never_trained_on(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    document = of_images(drawn.document, 1)
    document["annotations"][0]["iscrowd"] = 1
    bring(write(tmp_path / "crowd.json", document), gold=0.0)
    rows = workspace.lake.rows("SELECT is_crowd FROM current_masks")
    assert sum(row["is_crowd"] for row in rows) == 1
    trained = labels.training_labels(workspace, workspace.lake.snapshot())
    assert trained.num_masks == len(rows) - 1


def test_masks_and_categories_are_those_of_the_file(
    bring: Import, workspace: Workspace, drawn: Any
) -> None:
    bring(gold=0.0)
    names = {item["id"]: item["name"] for item in drawn.document["categories"]}
    wanted = {
        str(item["id"]): (item["segmentation"]["counts"], item["area"], names[item["category_id"]])
        for item in drawn.document["annotations"]
    }
    rows = workspace.lake.rows(
        "SELECT source_annotation_id AS id, segmentation.counts AS counts, area, category "
        "FROM masks JOIN mask_labels USING (mask_id)"
    )
    assert {row["id"]: (row["counts"], row["area"], row["category"]) for row in rows} == wanted


def test_pixels_and_masks_of_the_store_have_one_size(filled: Workspace) -> None:
    stored = labels.gold_labels(filled)
    for index in range(len(stored)):
        image = stored.load(index)
        assert {mask.size for mask in image.masks} == {image.image.shape[:2]}
        assert all(rle.area(mask) > 0 for mask in image.masks)


def test_files_in_folders_keep_their_relative_names(
    bring: Import, workspace: Workspace, drawn: Any, tmp_path: Path
) -> None:
    document = of_images(drawn.document, 1, 2)
    for entry, place in zip(document["images"], ("a", "b"), strict=True):
        (tmp_path / "deep" / place).mkdir(parents=True)
        shutil.copy(drawn.folder / entry["file_name"], tmp_path / "deep" / place / "0.png")
        entry["file_name"] = f"{place}/0.png"
    bring(write(tmp_path / "deep.json", document), tmp_path / "deep", gold=0.0)
    rows = workspace.lake.rows("SELECT file_name, uri FROM images ORDER BY 1")
    assert [(row["file_name"], row["uri"]) for row in rows] == [
        ("a/0.png", "source:deep/a/0.png"),
        ("b/0.png", "source:deep/b/0.png"),
    ]


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def spoil_text(path: Path) -> None:
    path.write_text("no picture")


def spoil_large(path: Path) -> None:
    path.write_bytes(encode_png(np.zeros((300, 300, 3), np.uint8)))


def spoil_gone(path: Path) -> None:
    path.unlink()


def spoil_size(path: Path) -> None:
    path.write_bytes(encode_png(np.zeros((50, 60, 3), np.uint8)))


def spoil_turn(path: Path) -> None:
    path.write_bytes(encode_png(np.zeros((128, 96, 3), np.uint8)))


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (spoil_empty, "scene-06.png: the file is empty"),
    "truncated": (spoil_cut, "scene-06.png: a broken or cut off PNG file"),
    "no image": (spoil_text, "scene-06.png: not an image"),
    "too large": (spoil_large, "over the limit of 50000"),
    "missing": (spoil_gone, "scene-06.png: no such file; copy it there"),
    "other size": (spoil_size, "stated as 128x96, but the file is 60x50; correct width and height"),
    "turned": (spoil_turn, "the file is 96x128; a picture is read as its EXIF orientation shows"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)
def test_one_bad_image_among_many_is_reported_and_skipped_unless_strict(
    workspace: Workspace,
    drawn: Any,
    pictures: Path,
    contents: Any,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    toml = workspace.root / "maskloop.toml"
    toml.write_text(toml.read_text().replace("200_000_000", "50_000"))
    spoil(pictures / "scene-06.png")
    opened = workspaces.open_workspace(workspace.root)
    before, snapshot = contents(opened), opened.lake.snapshot()
    with pytest.raises(UsageError, match=r"\(nothing came in; without --strict"):
        import_coco(opened, drawn.truth, pictures, ImportOptions(strict=True), quiet)
    assert (contents(opened), opened.lake.snapshot()) == (before, snapshot)
    report = import_coco(opened, drawn.truth, pictures, ImportOptions(), quiet)
    assert report.num_new == 11
    assert len(report.problems) == 1
    assert message in report.problems[0]


def test_one_picture_under_two_names_comes_once(
    bring: Import, drawn: Any, pictures: Path, tmp_path: Path
) -> None:
    shutil.copy(pictures / "scene-01.png", pictures / "again.png")
    document = of_images(drawn.document, 1)
    document["images"].append(document["images"][0] | {"id": 77, "file_name": "again.png"})
    path = write(tmp_path / "twice.json", document)
    with pytest.raises(UsageError, match=r"the same bytes as scene-01\.png"):
        bring(path, pictures, strict=True)
    report = bring(path, pictures)
    assert report.num_new == 1
    assert "again.png" in report.problems[0]
    assert bring(path, pictures).repeated


def test_a_store_that_changed_meanwhile_is_not_written_to(
    bring: Import, workspace: Workspace
) -> None:
    seen = known_images(workspace)
    bring()
    with pytest.raises(StageError, match="changed meanwhile"):
        workspace.lake.commit(lambda tx: settle(tx, seen, {}, set(), {}), message="test")


def test_images_of_a_row_class_are_what_intake_writes(filled: Workspace) -> None:
    [row] = filled.lake.rows("SELECT * FROM images WHERE file_name = 'scene-01.png'")
    written = ImageRow(**row)
    assert (written.height, written.width, written.source_image_id) == (96, 128, "1")
    assert (written.format, written.mode, written.bit_depth) == ("PNG", "RGB", 8)
    assert written.uri == "source:pictures/scene-01.png"
