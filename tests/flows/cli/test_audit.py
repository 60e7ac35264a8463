"""`maskloop audit`: from the images that it asks about to what it says of their masks."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from annotator.submission import AddedMask, Decision, Submission
from engine import rle
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.suppression import as_rle
from flows.workspace import Workspace
from storage.rows import ImageSetRow, MaskRow, utcnow

Cli = Callable[..., Any]


@pytest.fixture
def labelled(at_home: Workspace, recipe: Recipe) -> Workspace:
    """Each image has a set of one automatic mask: the first object of the drawn truth, or so."""
    version = serving.ensure_base(at_home, recipe, Silent())
    [label, *_] = at_home.lake.rows("SELECT segmentation FROM masks ORDER BY mask_id")
    mask = as_rle(label["segmentation"])
    x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
    origin = {"model_version": version, "config_hash": "c", "run_id": "r", "shard_key": "s"}
    rows: list[Any] = []
    for image in at_home.lake.rows("SELECT image_id FROM images WHERE split = 'unlabelled'"):
        rows.append(
            MaskRow(
                **origin,
                mask_id=f"auto {image['image_id']}",
                image_id=image["image_id"],
                stage="auto",
                segmentation={"size": list(mask.size), "counts": mask.counts},
                bbox=[x0, y0, x1 - x0, y1 - y0],
                area=rle.area(mask),
                predicted_iou=0.9,
                stability_score=0.8,
                created_at=utcnow(),
            )
        )
    sets = [
        ImageSetRow(
            **origin,
            image_id=row.image_id,
            num_proposed=1,
            num_masks=1,
            rejections={},
            created_at=utcnow(),
        )
        for row in rows
    ]
    at_home.lake.commit(lambda tx: tx.insert([*rows, *sets]), message="test")
    return at_home


def answer(workspace: Workspace, action: str) -> None:
    lease = workspace.queue.claim("ada")
    assert lease is not None
    [proposal] = lease.item.payload["proposals"]
    mask = as_rle(proposal["segmentation"])
    made = Submission(
        decisions=(Decision(proposal_id=proposal["proposal_id"], action=action),),
        added=(AddedMask(segmentation=mask),) if action == "rejected" else (),
    )
    token, item_id = lease.lease_token, lease.item.item_id
    workspace.queue.submit(item_id, token, "ada", action, made.to_dict())


def test_an_audit_from_end_to_end(cli: Cli, labelled: Workspace) -> None:
    said = cli("audit", "--images", 2, "--json")
    assert said.code == 0, said.err
    outcome = json.loads(said.out)
    assert {name: outcome[name] for name in ("num_images", "num_new", "num_masks")} == {
        "num_images": 2,
        "num_new": 2,
        "num_masks": 2,
    }
    assert "2 images are in the audit of v1: 0 new" in " ".join(
        cli("audit", "--images", 2).out.split()
    )
    early = cli("audit", "--report")
    assert early.code == 2
    assert "no answer to an audit of v1 was merged" in early.err
    for action in ("accepted", "rejected"):
        answer(labelled, action)
    merge_stage(labelled, Silent())
    report = json.loads(cli("audit", "--report", "--json").out)
    assert report == {
        "model": "v1",
        "images": 2,
        "masks": 2,
        "rejected": 1,
        "missed": 1,
        **{f"over_{name}{end}": share for name in (90, 75) for end, share in ENDS},
    }
    table = cli("audit", "--report", "--model", "v1").out
    assert "2 automatic masks on 2 images, 1 rejected, 1 missed" in " ".join(table.split())
    assert table.count("0.5000") == 2


ENDS = (("", 0.5), ("_low", 0.0), ("_high", 1.0))
