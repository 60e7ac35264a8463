"""People's submissions into the store: masks, clicks, decisions; each submission once, in order.

How far the queue's outbox was merged is a watermark in the lake, moved by the commit that brings
the rows: a crash in between merges again, a merge that lost a race changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from annotator.item import ItemPayload, Proposal
from annotator.submission import AddedMask, Click, Decision
from annotator.submission import Submission as Answer
from engine import rle
from engine.rle import Rle
from flows import serving
from flows.locks import stage_lock
from flows.progress import Progress
from flows.runs import ALONE, Turn, finish_run, new_run
from flows.suppression import as_rle, suppressions
from flows.waiting import WATERMARK, watermark
from flows.workspace import Workspace, placeholders
from storage.catalog.lake import Transaction
from storage.queue.submissions import Submission
from storage.rows import (
    ClickRow,
    DecisionRow,
    MaskLabelRow,
    MaskRow,
    ReviewRow,
    RunRow,
    Segmentation,
    WatermarkRow,
    mask_id,
    utcnow,
)

_AT_ONCE = 500
_SAME_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class MergeOutcome:
    """What one merge brought."""

    run_id: str | None
    num_submissions: int
    num_masks: int
    num_clicks: int


def merge_stage(workspace: Workspace, progress: Progress, *, turn: Turn = ALONE) -> MergeOutcome:
    """Bring every submission that is not in the store yet; safe to repeat."""
    with stage_lock(workspace, "merge"):
        run = new_run("merge", turn=turn)
        total = _Batch()
        while True:
            low = watermark(workspace)
            new = workspace.queue.submissions_after(low, limit=_AT_ONCE)
            if not new and (total.reviews or turn == ALONE):
                break
            batch = _Batch()
            for submission in new:
                _read(workspace, submission, run.run_id, batch)
            high = new[-1].seq if new else low
            _commit(workspace, run, batch, low, high, before=total)
            total = total.plus(batch)
            progress.step("submissions merged", len(total.reviews), len(total.reviews))
            if len(new) < _AT_ONCE:
                break
    return MergeOutcome(
        run_id=run.run_id if total.reviews or turn != ALONE else None,
        num_submissions=len(total.reviews),
        num_masks=len(total.masks),
        num_clicks=len(total.clicks),
    )


@dataclass
class _Batch:
    """Rows of some submissions; `answers` are the masks of each submission that has any."""

    answers: list[list[MaskRow]] = field(default_factory=list)
    labels: list[MaskLabelRow] = field(default_factory=list)
    clicks: list[ClickRow] = field(default_factory=list)
    decisions: list[DecisionRow] = field(default_factory=list)
    reviews: list[ReviewRow] = field(default_factory=list)

    @property
    def masks(self) -> list[MaskRow]:
        """The masks of all submissions, in their order."""
        return [row for answer in self.answers for row in answer]

    def plus(self, other: "_Batch") -> "_Batch":
        """The rows of both."""
        pairs = {
            item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)
        }
        return _Batch(**pairs)


def _read(workspace: Workspace, submission: Submission, run_id: str, batch: _Batch) -> None:
    answer = Answer.parse(submission.body)
    proposals = {p.proposal_id: p for p in ItemPayload.from_dict(submission.item.payload).proposals}
    depth = serving.model_row(workspace, submission.item.model_version).generation_depth
    masks: list[MaskRow] = []
    maker = _Maker(submission, run_id, depth, batch, masks)
    for decision in answer.decisions:
        maker.decide(decision, proposals[decision.proposal_id])
    for number, added in enumerate(answer.added):
        maker.add(number, added)
    maker.review(answer)
    if masks:
        batch.answers.append(masks)


@dataclass(frozen=True)
class _Maker:
    """Makes the rows of one submission."""

    submission: Submission
    run_id: str
    model_depth: int
    batch: _Batch
    masks: list[MaskRow]

    def decide(self, decision: Decision, proposal: Proposal) -> None:
        """The decision's row, and the mask where one remains."""
        segmentation = decision.segmentation or proposal.segmentation
        row = None
        if decision.action != "rejected":
            row = self._mask(
                "semi",
                (decision.proposal_id,),
                segmentation,
                prompt=_prompt(decision, "proposal"),
                by_model=not decision.drawn,
            )
            row = _with_proposal(row, proposal, accepted=decision.action == "accepted")
            self.masks.append(row)
            self._label(row, decision.category)
        # A rejected proposal's clicks made nothing that stands; they are kept under its own name.
        self._clicks(row.mask_id if row else decision.proposal_id, decision.clicks)
        item = self.submission.item
        iou = float(rle.iou_matrix([proposal.segmentation], [segmentation])[0, 0])
        self.batch.decisions.append(
            DecisionRow(
                proposal_id=decision.proposal_id,
                submission_id=self.submission.submission_id,
                image_id=item.image_id,
                model_version=item.model_version,
                action=decision.action,
                predicted_iou=proposal.predicted_iou,
                iou_with_result=iou if row else None,
                mask_id=row.mask_id if row else None,
                num_clicks=len(decision.clicks),
                run_id=self.run_id,
                iteration=item.iteration,
            )
        )

    def add(self, number: int, added: AddedMask) -> None:
        """A mask that no proposal had."""
        prompt = _prompt(added, "brush")
        row = self._mask(
            "manual",
            ("added", str(number)),
            added.segmentation,
            prompt=prompt,
            by_model=prompt != "brush",
        )
        self.masks.append(row)
        self._clicks(row.mask_id, added.clicks)
        self._label(row, added.category)

    def review(self, answer: Answer) -> None:
        """The submission's own row."""
        submission, item = self.submission, self.submission.item
        actions = [decision.action for decision in answer.decisions]
        self.batch.reviews.append(
            ReviewRow(
                submission_id=submission.submission_id,
                image_id=item.image_id,
                item_id=item.item_id,
                annotator=submission.annotator,
                model_version=item.model_version,
                run_id=self.run_id,
                iteration=item.iteration,
                seq=submission.seq,
                body_sha256=submission.body_sha,
                seconds=answer.seconds,
                num_proposals=len(actions),
                num_accepted=actions.count("accepted"),
                num_edited=actions.count("edited"),
                num_rejected=actions.count("rejected"),
                num_added=len(answer.added),
                num_clicks=answer.num_clicks,
                is_complete=answer.complete,
                submitted_at=submission.at.replace(tzinfo=None),
            )
        )

    def _mask(
        self, stage: str, name: tuple[str, ...], segmentation: Rle, *, prompt: str, by_model: bool
    ) -> MaskRow:
        item = self.submission.item
        x0, y0, x1, y1 = (float(value) for value in rle.box(segmentation))
        return MaskRow(
            mask_id=mask_id(stage, self.submission.submission_id, *name),
            image_id=item.image_id,
            stage=stage,
            run_id=self.run_id,
            # A person's correction of a proposal still comes from the model that proposed it.
            model_version=item.model_version if by_model or stage == "semi" else None,
            annotator=self.submission.annotator,
            prompt=prompt,
            generation_depth=self.model_depth if by_model else 0,
            segmentation={"size": list(segmentation.size), "counts": segmentation.counts},
            bbox=[x0, y0, x1 - x0, y1 - y0],
            area=rle.area(segmentation),
            created_at=utcnow(),
        )

    def _label(self, row: MaskRow, category: str | None) -> None:
        if category is None:
            return
        self.batch.labels.append(
            MaskLabelRow(
                mask_id=row.mask_id,
                category=category,
                score=1.0,
                accepted_by=self.submission.annotator,
                created_at=row.created_at,
            )
        )

    def _clicks(self, name: str, clicks: Sequence[Click]) -> None:
        self.batch.clicks += [
            ClickRow(
                mask_id=name,
                submission_id=self.submission.submission_id,
                image_id=self.submission.item.image_id,
                ordinal=ordinal,
                x=click.x,
                y=click.y,
                label=click.label,
                at_s=click.at_s,
                predicted_iou=click.predicted_iou,
                segmentation=_struct(click.segmentation),
                annotator=self.submission.annotator,
            )
            for ordinal, click in enumerate(clicks)
        ]


def _struct(mask: Rle | None) -> Segmentation | None:
    return None if mask is None else {"size": list(mask.size), "counts": mask.counts}


def _prompt(part: Decision | AddedMask, otherwise: str) -> str:
    """What asked for the mask that stands at last."""
    if part.drawn:
        return "brush"
    return "clicks" if part.clicks else "box" if part.box else otherwise


def _with_proposal(row: MaskRow, proposal: Proposal, *, accepted: bool) -> MaskRow:
    row = replace(row, proposal_id=proposal.proposal_id)
    if not accepted:
        return row
    return replace(
        row,
        predicted_iou=proposal.predicted_iou,
        stability_score=proposal.stability_score,
        point_coords=[list(point) for point in proposal.point_coords],
    )


def _commit(
    workspace: Workspace, run: RunRow, batch: "_Batch", low: int, high: int, before: "_Batch"
) -> None:
    images = sorted({row.image_id for row in batch.reviews})
    total = before.plus(batch)

    def body(tx: Transaction) -> None:
        if not before.reviews:
            tx.insert([run])
        _move_watermark(tx, low, high)
        tx.insert(_superseding(tx, batch))
        for rows in (batch.labels, batch.clicks, batch.decisions, batch.reviews):
            tx.insert(rows)
        if images:
            marks = placeholders(images)
            tx.execute(
                "UPDATE images SET split = 'train' "
                f"WHERE split = 'unlabelled' AND image_id IN ({marks})",
                images,
            )
            tx.insert(suppressions(tx, f"image_id IN ({marks})", images))
        num_images = len({row.image_id for row in total.reviews})
        finish_run(tx, run.run_id, num_images=num_images, num_masks=len(total.masks))

    workspace.lake.commit(body, message=f"merge {len(batch.reviews)} submissions")


def _move_watermark(tx: Transaction, low: int, high: int) -> None:
    found = tx.rows("SELECT seq FROM watermarks WHERE name = ?", [WATERMARK])
    # The stage lock keeps others out; should it ever fail, doubled masks must not come of it.
    assert (found[0]["seq"] if found else 0) == low, "another merge moved the watermark"
    if found:
        tx.execute(
            "UPDATE watermarks SET seq = ?, updated_at = ? WHERE name = ?",
            [high, utcnow(), WATERMARK],
        )
    else:
        tx.insert([WatermarkRow(name=WATERMARK, seq=high, updated_at=utcnow())])


def _superseding(tx: Transaction, batch: "_Batch") -> list[MaskRow]:
    """Masks of images that people had masked before name the older mask that they replace.

    Whether an earlier answer was merged before or comes in the same batch makes no difference.
    """
    images = sorted({row.image_id for row in batch.masks})
    older: dict[str, list[tuple[str, Rle]]] = {}
    for row in tx.rows(
        f"""SELECT mask_id, image_id, segmentation FROM current_masks
            WHERE stage IN ('semi', 'manual') AND image_id IN ({placeholders(images)})""",
        images,
    ):
        older.setdefault(row["image_id"], []).append((row["mask_id"], as_rle(row["segmentation"])))
    rows: list[MaskRow] = []
    for answer in batch.answers:
        standing = older.setdefault(answer[0].image_id, [])
        rows += (replaced := _replacing(answer, standing))
        gone = {row.supersedes for row in replaced}
        standing[:] = [item for item in standing if item[0] not in gone]
        standing += [(row.mask_id, as_rle(row.segmentation)) for row in replaced]
    return rows


def _replacing(answer: Sequence[MaskRow], older: list[tuple[str, Rle]]) -> list[MaskRow]:
    if not older:
        return list(answer)
    ious = rle.iou_matrix([as_rle(row.segmentation) for row in answer], [mask for _, mask in older])
    rows = []
    for row, overlap in zip(answer, ious, strict=True):
        best = int(overlap.argmax())
        over = overlap[best] > _SAME_IOU
        rows.append(replace(row, supersedes=older[best][0]) if over else row)
    return rows
