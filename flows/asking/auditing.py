"""How good automatic masks are: people correct all those of some images, and what they leave tells.

The images are drawn by chance among those that nobody has labelled, where automatic masks stand
alone and the model has learnt nothing. An auditor's answer is merged as any other.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotator.item import ItemPayload, Proposal, Suggestion
from engine.metrics.bootstrap import image_draws, interval, resampled_ratio
from engine.metrics.scores import Figure
from flows.clip.suggesting import stored_suggestions
from flows.errors import UsageError
from flows.locks import stage_lock
from flows.models import serving
from flows.runs import failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.suppression import as_rle
from flows.waiting import unmerged_images
from flows.workspace import Workspace, placeholders, to_json
from storage.queue.items import NewItem

# Before ordinary work, whose priorities end at 1: somebody has asked for it.
_PRIORITY = 1.0
# The bootstrap's: the same answers give the same intervals.
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class AuditOutcome:
    """The audit of `version` has `num_images`; of these `num_new` with `num_masks` are new."""

    run_id: str | None
    version: str
    num_images: int
    num_new: int
    num_masks: int


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What an audit has found: shares of the automatic masks, by their IoU with what people left.

    A mask that was rejected has IoU 0. `num_missed` objects had no mask at all. The shares are None
    where no image has a mask.
    """

    version: str
    num_images: int
    num_masks: int
    num_rejected: int
    num_missed: int
    over_90: Figure | None
    over_75: Figure | None

    def flat(self) -> dict[str, Any]:
        """For `--json`: each share with its `_low` and `_high`."""
        counts = {
            "model": self.version,
            "images": self.num_images,
            "masks": self.num_masks,
            "rejected": self.num_rejected,
            "missed": self.num_missed,
        }
        for name, share in (("over_90", self.over_90), ("over_75", self.over_75)):
            counts[name] = share and share.value
            counts[f"{name}_low"] = share and share.interval.low
            counts[f"{name}_high"] = share and share.interval.high
        return counts


def audit_stage(workspace: Workspace, num_images: int, seed: int = 0) -> AuditOutcome:
    """Let `num_images` be audited in all; asking again, or for more, goes on with the same draw.

    Raises UsageError where no image has automatic masks of the model in service.
    """
    if num_images < 1:
        raise UsageError(f"--images: must be at least 1, but got {num_images}")
    with stage_lock(workspace, "audit"):
        reconcile_runs(workspace, "audit")
        version = _in_service(workspace)
        asked = workspace.queue.asked_images(version, ["audit"])
        drawn = _draw(workspace, version, asked, num_images, seed)
        new = [image_id for image_id in drawn if image_id not in asked]
        if not new:
            return AuditOutcome(
                run_id=None, version=version, num_images=len(drawn), num_new=0, num_masks=0
            )
        config = to_json({"images": num_images, "seed": seed})
        run_id = start_run(workspace, new_run("audit", config=config, model_version=version))
        with failing_run(workspace, run_id):
            items = _items(workspace, new, version, run_id)
            workspace.queue.enqueue(items)
            num_masks = sum(len(item.payload["proposals"]) for item in items)
            workspace.lake.commit(
                lambda tx: finish_run(tx, run_id, num_images=len(items), num_masks=num_masks),
                message=f"audit: {len(items)} images to review",
            )
    return AuditOutcome(
        run_id=run_id,
        version=version,
        num_images=len(drawn),
        num_new=len(new),
        num_masks=num_masks,
    )


def audit_report(workspace: Workspace, version: str | None = None) -> AuditReport:
    """What the merged answers to a model's audit say, by default that of the model in service.

    Raises UsageError where there are none.
    """
    if version is None:
        version = _in_service(workspace)
    serving.model_row(workspace, version)
    answers = _answers(workspace, version)
    if not answers:
        raise UsageError(
            f"audit: no answer to an audit of {version} was merged; run: maskloop audit, "
            "maskloop serve to have it answered, then maskloop merge"
        )
    ious = [np.array([iou or 0.0 for iou in row["ious"]]) for row in answers]
    return AuditReport(
        version=version,
        num_images=len(answers),
        num_masks=sum(map(len, ious)),
        num_rejected=sum(row["num_rejected"] for row in answers),
        num_missed=sum(row["num_added"] for row in answers),
        over_90=_share(ious, 0.90),
        over_75=_share(ious, 0.75),
    )


def _in_service(workspace: Workspace) -> str:
    version = serving.current_version(workspace)
    if version is None:
        raise UsageError("audit: no model is in service yet; run: maskloop generate")
    return version


def _draw(
    workspace: Workspace, version: str, asked: set[str], num_images: int, seed: int
) -> list[str]:
    """The first images of a shuffle that depends on nothing but the seed and their names.

    Those asked about before count, and keep their place. Images that wait for people or whose
    answers wait for a merge are passed over: others look at them now.
    """
    rows = workspace.lake.rows(
        """SELECT DISTINCT image_id, split FROM images JOIN image_sets USING (image_id)
           WHERE model_version = ?""",
        (version,),
    )
    busy = workspace.queue.open_images() | unmerged_images(workspace)
    free = {row["image_id"] for row in rows if row["split"] == "unlabelled"} - busy
    if not free | asked:
        raise UsageError(
            f"audit: no image that nobody has labelled has automatic masks of {version}; "
            "run: maskloop generate"
        )
    return sorted(free | asked, key=lambda image_id: _place(image_id, seed))[:num_images]


def _place(image_id: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {image_id}".encode()).hexdigest()


def _items(
    workspace: Workspace, image_ids: Sequence[str], version: str, run_id: str
) -> list[NewItem]:
    """Items with all automatic masks of the images, in the order of the draw."""
    marks = placeholders(image_ids)
    offered: dict[str, list[Proposal]] = {image_id: [] for image_id in image_ids}
    rows = workspace.lake.rows(
        f"""SELECT image_id, mask_id, segmentation, predicted_iou, stability_score, point_coords
            FROM current_masks WHERE stage = 'auto' AND image_id IN ({marks}) ORDER BY mask_id""",
        image_ids,
    )
    suggestions = stored_suggestions(workspace, [row["mask_id"] for row in rows])
    for row in rows:
        offered[row["image_id"]].append(_proposal(row, suggestions.get(row["mask_id"])))
    images = workspace.lake.rows(
        f"SELECT image_id, file_name, height, width FROM images WHERE image_id IN ({marks})",
        image_ids,
    )
    return [
        NewItem(
            **row,
            model_version=version,
            run_id=run_id,
            iteration=0,
            priority=_PRIORITY,
            payload=ItemPayload(proposals=offered[row["image_id"]]).to_dict(),
            stage="audit",
        )
        for row in images
    ]


def _proposal(row: dict[str, Any], suggestion: Suggestion | None) -> Proposal:
    """An automatic mask, by its own name: what is decided on it is decided on the mask."""
    return Proposal.of(
        as_rle(row["segmentation"]),
        proposal_id=row["mask_id"],
        predicted_iou=row["predicted_iou"],
        stability_score=row["stability_score"],
        points=[(x, y) for x, y in row["point_coords"] or ()],
        suggestion=suggestion,
    )


def _answers(workspace: Workspace, version: str) -> list[dict[str, Any]]:
    """The newest answer to each item of an audit, with the IoUs of its masks; null: rejected."""
    return workspace.lake.rows(
        """WITH newest AS (
               SELECT submission_id, image_id, num_rejected, num_added FROM reviews
               WHERE kind = 'audit' AND model_version = ?
               QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY seq DESC) = 1),
           decided AS (
               SELECT submission_id, list(iou_with_result) AS ious
               FROM decisions WHERE action <> 'withheld' GROUP BY submission_id)
           SELECT num_rejected, num_added, coalesce(ious, []) AS ious
           FROM newest LEFT JOIN decided USING (submission_id) ORDER BY image_id""",
        (version,),
    )


def _share(ious: Sequence[npt.NDArray[np.float64]], over: float) -> Figure | None:
    """The share of masks with an IoU of over `over`, images being drawn anew for its interval."""
    sums = [int((each > over).sum()) for each in ious]
    counts = [len(each) for each in ious]
    if not sum(counts):
        return None
    found = interval(resampled_ratio(image_draws(len(ious), seed=_SEED), sums, counts))
    assert found is not None, "some resample has a mask"
    return Figure(sum(sums) / sum(counts), found)
