"""An audit measures automatic masks by what people leave of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask

from annotator.item import ItemPayload, proposal_ids
from annotator.simulated import run_simulated
from annotator.submission import AddedMask, Decision, Submission
from annotator.visit import SimulationConfig
from engine import rle
from engine.rle import Rle
from flows.annotating.people import annotator_server
from flows.asking.auditing import audit_report, audit_stage
from flows.errors import UsageError
from flows.generation.generate import generate_stage
from flows.intake.coco_import import ImportOptions, import_coco
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe, recipe_named
from flows.settings import WorkerSettings
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.queue.items import Item, NewItem
from storage.rows import ImageSetRow, MaskRow, utcnow

HW = (96, 128)


def square(left: int, side: int = 20) -> Rle:
    pixels = np.zeros(HW, bool)
    pixels[10 : 10 + side, left : left + side] = True
    return rle.encode_one(pixels)


GOOD, WRONG, NEAR = square(5), square(45), square(85)


def auto(image_id: str, version: str, name: str, mask: Rle) -> MaskRow:
    x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
    return MaskRow(
        mask_id=f"{name} {image_id}",
        image_id=image_id,
        stage="auto",
        run_id="generate",
        model_version=version,
        config_hash="config",
        shard_key="shard",
        segmentation={"size": list(mask.size), "counts": mask.counts},
        bbox=[x0, y0, x1 - x0, y1 - y0],
        area=rle.area(mask),
        predicted_iou=0.9,
        stability_score=0.8,
        point_coords=[[9.0, 9.0]],
        created_at=utcnow(),
    )


@pytest.fixture
def labelled(filled: Workspace, recipe: Recipe) -> Workspace:
    """Every image has its set of three automatic masks by the model in service."""
    version = serving.ensure_base(filled, recipe, Silent())
    rows: list[Any] = []
    for image in filled.lake.rows("SELECT image_id FROM images"):
        named = (("good", GOOD), ("wrong", WRONG), ("near", NEAR))
        rows += [auto(image["image_id"], version, *pair) for pair in named]
    sets = [
        ImageSetRow(
            image_id=image_id,
            model_version=version,
            config_hash="config",
            run_id="generate",
            shard_key="shard",
            num_proposed=3,
            num_masks=3,
            rejections={},
            created_at=utcnow(),
        )
        for image_id in sorted({row.image_id for row in rows})
    ]
    filled.lake.commit(lambda tx: tx.insert([*rows, *sets]), message="test")
    return filled


def unlabelled(workspace: Workspace) -> list[str]:
    rows = workspace.lake.rows("SELECT image_id FROM images WHERE split = 'unlabelled'")
    return sorted(row["image_id"] for row in rows)


def asked(workspace: Workspace) -> set[str]:
    return workspace.queue.asked_images("v1", ["audit"])


def test_an_audit_asks_about_all_masks_of_images_that_nobody_has_labelled(
    labelled: Workspace,
) -> None:
    free = unlabelled(labelled)
    outcome = audit_stage(labelled, 100)
    assert (outcome.num_images, outcome.num_new) == (len(free), len(free))
    assert outcome.num_masks == 3 * len(free)
    assert asked(labelled) == set(free)
    [run] = labelled.lake.rows("SELECT * FROM runs WHERE stage = 'audit'")
    assert (run["run_id"], run["status"]) == (outcome.run_id, "done")
    lease = labelled.queue.claim("ada")
    assert lease is not None
    assert (lease.item.stage, lease.item.run_id) == ("audit", outcome.run_id)
    names = {f"{name} {lease.item.image_id}" for name in ("good", "wrong", "near")}
    assert proposal_ids(lease.item.payload) == names


def test_asking_again_goes_on_with_the_same_draw(labelled: Workspace) -> None:
    assert audit_stage(labelled, 2).num_new == 2
    first = asked(labelled)
    again = audit_stage(labelled, 2)
    assert (again.run_id, again.num_images, again.num_new) == (None, 2, 0)
    more = audit_stage(labelled, 3)
    assert (more.num_images, more.num_new) == (3, 1)
    assert asked(labelled) > first


def test_the_seed_alone_says_which_images(labelled: Workspace) -> None:
    def drawn(seed: int) -> frozenset[str]:
        outcome = audit_stage(labelled, 2, seed)
        assert outcome.run_id is not None
        found = asked(labelled)
        labelled.queue.withdraw(outcome.run_id)
        return frozenset(found)

    draws = [drawn(seed) for seed in range(6)]
    assert draws == [drawn(seed) for seed in range(6)]
    assert len(set(draws)) > 1


def test_images_that_others_look_at_are_passed_over(labelled: Workspace) -> None:
    waits, answered, *free = unlabelled(labelled)
    labelled.queue.enqueue(ordinary(labelled, image_id) for image_id in (answered, waits))
    lease = labelled.queue.claim("ada")
    assert lease is not None
    assert lease.item.image_id == answered
    item = lease.item
    labelled.queue.submit(item.item_id, lease.lease_token, "ada", "key", Submission().to_dict())
    audit_stage(labelled, 100)
    assert asked(labelled) == set(free)


def ordinary(workspace: Workspace, image_id: str) -> NewItem:
    [row] = workspace.lake.rows("SELECT * FROM images WHERE image_id = ?", (image_id,))
    return NewItem(
        image_id=image_id,
        file_name=row["file_name"],
        height=row["height"],
        width=row["width"],
        model_version="v1",
        run_id="assist",
        iteration=1,
        priority=float(image_id == unlabelled(workspace)[1]),
        payload=ItemPayload().to_dict(),
    )


def answer(workspace: Workspace, submission: Callable[[str], Submission], key: str) -> Item:
    lease = workspace.queue.claim("ada")
    assert lease is not None
    item = lease.item
    made = submission(item.image_id)
    made.check(proposal_ids(item.payload), HW)
    workspace.queue.submit(item.item_id, lease.lease_token, "ada", key, made.to_dict())
    return item


def corrected(image_id: str) -> Submission:
    """One mask is right, one shows nothing, one is nearly right, and one was missing."""
    return Submission(
        decisions=(
            Decision(proposal_id=f"good {image_id}", action="accepted"),
            Decision(proposal_id=f"wrong {image_id}", action="rejected"),
            Decision(
                proposal_id=f"near {image_id}", action="edited", segmentation=square(87), drawn=True
            ),
        ),
        added=(AddedMask(segmentation=square(30, 8)),),
        complete=True,
    )


def all_wrong(image_id: str) -> Submission:
    return Submission(
        decisions=tuple(
            Decision(proposal_id=f"{name} {image_id}", action="rejected")
            for name in ("good", "wrong", "near")
        )
    )


def test_the_report_says_what_people_left_of_the_masks(labelled: Workspace) -> None:
    audit_stage(labelled, 3)
    for number, made in enumerate((corrected, corrected, all_wrong)):
        answer(labelled, made, str(number))
    merge_stage(labelled, Silent())
    report = audit_report(labelled)
    assert (report.version, report.num_images, report.num_masks) == ("v1", 3, 9)
    assert (report.num_rejected, report.num_missed) == (5, 2)
    # The mask that was nearly right has IoU 18 / 22.
    assert report.over_90 is not None
    assert report.over_75 is not None
    assert (report.over_90.value, report.over_75.value) == (2 / 9, 4 / 9)
    # One of three images is drawn three times in 1 of 27 resamples, so the ends are its share.
    assert (report.over_90.interval.low, report.over_90.interval.high) == (0.0, 1 / 3)
    flat = report.flat()
    assert flat["over_75_high"] == pytest.approx(2 / 3)
    assert {name: flat[name] for name in ("model", "images", "rejected", "missed")} == {
        "model": "v1",
        "images": 3,
        "rejected": 5,
        "missed": 2,
    }
    assert audit_report(labelled, "v1") == report


def test_what_the_auditor_left_stands_instead(labelled: Workspace) -> None:
    audit_stage(labelled, 1)
    image_id = answer(labelled, corrected, "key").image_id
    merge_stage(labelled, Silent())
    rows = labelled.lake.rows(
        "SELECT * FROM current_masks WHERE image_id = ? ORDER BY bbox[1]", (image_id,)
    )
    assert [(row["stage"], row["supersedes"], row["bbox"][0]) for row in rows] == [
        ("semi", f"good {image_id}", 5.0),
        ("manual", None, 30.0),
        ("semi", f"near {image_id}", 87.0),
    ]
    assert labelled.lake.rows("SELECT mask_id FROM retractions") == [
        {"mask_id": f"wrong {image_id}"}
    ]
    [image] = labelled.lake.rows("SELECT split FROM images WHERE image_id = ?", (image_id,))
    assert image == {"split": "train"}
    again = audit_stage(labelled, 1)
    assert (again.num_images, again.num_new) == (1, 0), "it keeps its place in the draw"


def test_a_second_answer_counts_instead_of_the_first(labelled: Workspace) -> None:
    audit_stage(labelled, 1)
    item = answer(labelled, all_wrong, "first")
    merge_stage(labelled, Silent())
    labelled.queue.reopen(item.item_id)
    answer(labelled, corrected, "second")
    merge_stage(labelled, Silent())
    report = audit_report(labelled)
    assert (report.num_images, report.num_masks, report.num_rejected) == (1, 3, 1)
    assert len(labelled.lake.rows("FROM retractions")) == 3


def test_an_image_without_a_mask_is_audited_for_what_was_missed(labelled: Workspace) -> None:
    labelled.lake.commit(
        lambda tx: tx.execute("DELETE FROM masks WHERE stage = 'auto'"), message="test"
    )
    audit_stage(labelled, 1)
    answer(labelled, lambda _: Submission(added=(AddedMask(segmentation=GOOD),)), "key")
    merge_stage(labelled, Silent())
    report = audit_report(labelled)
    assert (report.num_images, report.num_masks, report.num_missed) == (1, 0, 1)
    assert (report.over_90, report.flat()["over_75_low"]) == (None, None)


def test_what_is_missing_for_an_audit_is_named(filled: Workspace, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="no model is in service yet; run: maskloop generate"):
        audit_stage(filled, 3)
    serving.ensure_base(filled, recipe, Silent())
    with pytest.raises(UsageError, match="has automatic masks of v1; run: maskloop generate"):
        audit_stage(filled, 3)
    with pytest.raises(UsageError, match="--images: must be at least 1, but got 0"):
        audit_stage(filled, 0)
    with pytest.raises(UsageError, match="no answer to an audit of v1 was merged"):
        audit_report(filled)
    with pytest.raises(UsageError, match="model version 'v9': unknown"):
        audit_report(filled, "v9")


# From here on real images: a model that never saw them, and a person who knows exactly.
NUM_REAL = 4


@pytest.fixture
def nuclei(data_dir: Path, tmp_path: Path) -> Path:
    """The COCO file of a few microscopy images."""
    document = json.loads((data_dir / "nuclei" / "annotations.json").read_text())
    kept = [image for image in document["images"] if image["height"] == 256][:NUM_REAL]
    ids = {image["id"] for image in kept}
    document["images"] = kept
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in ids]
    path = tmp_path / "nuclei.json"
    path.write_text(json.dumps(document))
    return path


def best_ious(masks: list[npt.NDArray[Any]], truth: list[npt.NDArray[Any]]) -> list[float]:
    """The IoU of each mask with the object that it shows, of two for one object the better one."""
    pairs = sorted(
        ((int((a & b).sum()) / int((a | b).sum()), i, j)
         for i, a in enumerate(masks) for j, b in enumerate(truth)),
        reverse=True,
    )  # fmt: skip
    found: dict[int, float] = {}
    taken: set[int] = set()
    for iou, i, j in pairs:
        if iou >= 0.5 and i not in found and j not in taken:
            found[i] = iou
            taken.add(j)
    return [found.get(index, 0.0) for index in range(len(masks))]


@pytest.mark.slow
@pytest.mark.data
# pycocotools 2.0.11 still hands numpy 2 an array without the new keyword.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_careful_audit_of_real_images_gives_the_true_ious(
    workspace: Workspace, data_dir: Path, nuclei: Path
) -> None:
    pictures = data_dir / "nuclei" / "images"
    import_coco(workspace, nuclei, pictures, ImportOptions(labelled=0.0, gold=0.0), lambda *_: None)
    local = replace(workspace.settings, workers=WorkerSettings(kind="local"))
    quick = recipe_named("quick")
    generate_stage(replace(workspace, settings=local), quick, Silent())
    outcome = audit_stage(workspace, NUM_REAL)
    assert outcome.num_new == NUM_REAL
    masks = workspace.lake.rows(
        "SELECT file_name, segmentation FROM masks JOIN images USING (image_id) "
        "WHERE stage = 'auto' ORDER BY mask_id"
    )

    # One click a mask: the rest is drawn, and a test must end.
    config = SimulationConfig.careful(max_clicks_per_mask=1)
    with annotator_server(workspace) as url:
        summary = run_simulated(url, nuclei, config=config)
    assert summary.num_items == NUM_REAL
    merge_stage(workspace, Silent())
    report = audit_report(workspace)

    document = json.loads(nuclei.read_text())
    ious: list[float] = []
    num_objects = 0
    for image in document["images"]:
        truth = [
            decoded(annotation["segmentation"], image)
            for annotation in document["annotations"]
            if annotation["image_id"] == image["id"]
        ]
        made = [
            decoded(dict(row["segmentation"]), image)
            for row in masks
            if row["file_name"] == image["file_name"]
        ]
        num_objects += len(truth)
        ious += best_ious(made, truth)
    assert report.num_masks == len(ious) == outcome.num_masks
    assert report.over_90 is not None
    assert report.over_75 is not None
    assert report.over_90.value == np.mean(np.array(ious) > 0.90)
    assert report.over_75.value == np.mean(np.array(ious) > 0.75)
    assert 0 < report.over_90.value < report.over_75.value, "or the images tell nothing"
    assert report.num_rejected == sum(iou == 0 for iou in ious)
    assert report.num_missed == num_objects - sum(iou > 0 for iou in ious)
    stored = workspace.lake.rows("SELECT iou_with_result AS iou FROM decisions")
    assert sorted(row["iou"] or 0.0 for row in stored) == pytest.approx(sorted(ious))
    assert fsck(workspace) == []


def decoded(segmentation: Any, image: dict[str, Any]) -> npt.NDArray[Any]:
    """A mask of the COCO file, by pycocotools."""
    if isinstance(segmentation, list):
        codes = coco_mask.frPyObjects(segmentation, image["height"], image["width"])
        segmentation = coco_mask.merge(codes)
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, image["height"], image["width"])
    return np.asarray(coco_mask.decode(segmentation), dtype=bool)
