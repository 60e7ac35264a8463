"""One submission as rows: masks, names, clicks, decisions and the review itself.

What kind of item was answered says which of them there are: gold and second ones are only compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from annotator.item import ItemPayload, Proposal, Suggestion
from annotator.submission import AddedMask, Click, Decision
from annotator.submission import Submission as Answer
from engine import rle
from engine.rle import Rle
from flows.models import serving
from flows.workspace import Workspace
from storage.queue.items import Item
from storage.queue.submissions import Submission
from storage.rows import (
    ClickRow,
    DecisionRow,
    MaskLabelRow,
    MaskRow,
    ReviewRow,
    Segmentation,
    mask_id,
    utcnow,
)

# Answers to other kinds of items are compared with what is known, and their masks go no further.
BRING_MASKS = ("assist", "audit", "dispute")
# What a dispute offers was made by people: deciding on it says nothing about a model.
_JUDGE_A_MODEL = ("assist", "audit")


@dataclass(frozen=True, kw_only=True)
class AnswerRows:
    """What one submission brings; `shapes` are all masks that the person left on the image.

    `decided` are the ids of the proposals that the person saw, `rejected` those of them that they
    rejected. `masks` supersede nothing yet.
    """

    item: Item
    review: ReviewRow
    shapes: list[Rle]
    decided: frozenset[str]
    rejected: list[str]
    masks: list[MaskRow] = field(default_factory=list)
    labels: list[MaskLabelRow] = field(default_factory=list)
    clicks: list[ClickRow] = field(default_factory=list)
    decisions: list[DecisionRow] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Of the item that was answered."""
        return self.item.stage


def read_answer(workspace: Workspace, submission: Submission, run_id: str) -> AnswerRows:
    """A submission of the queue as rows of the merge `run_id`."""
    item = submission.item
    answer = Answer.parse(submission.body)
    payload = ItemPayload.from_dict(item.payload)
    proposals = {proposal.proposal_id: proposal for proposal in payload.proposals}
    rows = AnswerRows(
        item=item,
        review=_review(submission, answer, run_id),
        shapes=shapes(answer, proposals),
        decided=frozenset(proposals),
        rejected=[each.proposal_id for each in answer.decisions if each.action == "rejected"],
    )
    if rows.kind in BRING_MASKS:
        depth = serving.model_row(workspace, item.model_version).generation_depth
        maker = _Maker(submission, run_id, depth, rows)
        for decision in answer.decisions:
            maker.decide(decision, proposals[decision.proposal_id])
        for number, added in enumerate(answer.added):
            maker.add(number, added)
        if answer.complete:
            maker.compare(payload.withheld)
    return rows


def shapes(answer: Answer, proposals: Mapping[str, Proposal]) -> list[Rle]:
    """The masks that a person left: accepted and edited proposals, and what they added."""
    kept = [each for each in answer.decisions if each.action != "rejected"]
    return [
        *(each.segmentation or proposals[each.proposal_id].segmentation for each in kept),
        *(added.segmentation for added in answer.added),
    ]


def added_mask_id(submission_id: str, number: int) -> str:
    """The id of the mask number `number` of those that an answer added."""
    return mask_id("manual", submission_id, "added", str(number))


def _review(submission: Submission, answer: Answer, run_id: str) -> ReviewRow:
    """The submission's own row."""
    item = submission.item
    actions = [decision.action for decision in answer.decisions]
    return ReviewRow(
        submission_id=submission.submission_id,
        image_id=item.image_id,
        item_id=item.item_id,
        annotator=submission.annotator,
        model_version=item.model_version,
        run_id=run_id,
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
        submitted_at=submission.at.replace(tzinfo=None),
        is_complete=answer.complete,
        kind=item.stage,
    )


@dataclass(frozen=True)
class _Maker:
    """Makes the rows of one submission that brings masks."""

    submission: Submission
    run_id: str
    model_depth: int
    rows: AnswerRows

    def decide(self, decision: Decision, proposal: Proposal) -> None:
        """The decision's row, and the mask where one remains."""
        segmentation = decision.segmentation or proposal.segmentation
        row = None
        if decision.action != "rejected":
            row = self._mask(
                "semi",
                mask_id("semi", self.submission.submission_id, decision.proposal_id),
                segmentation,
                prompt=_prompt(decision, "proposal"),
                by_model=not decision.drawn,
            )
            by_model = self.rows.kind in _JUDGE_A_MODEL and decision.action == "accepted"
            row = _with_proposal(row, proposal, by_model=by_model)
            self.rows.masks.append(row)
            if by_model and proposal.suggestion is not None:
                self._suggest(row, proposal.suggestion)
            self._label(row, decision.category)
        # A rejected proposal's clicks made nothing that stands; they are kept under its own name.
        self._clicks(row.mask_id if row else decision.proposal_id, decision.clicks)
        if self.rows.kind in _JUDGE_A_MODEL:
            iou = float(rle.iou_matrix([proposal.segmentation], [segmentation])[0, 0])
            self._decision(
                proposal,
                decision.action,
                iou=iou if row else None,
                row=row,
                num_clicks=len(decision.clicks),
            )

    def add(self, number: int, added: AddedMask) -> None:
        """A mask that no proposal had."""
        prompt = _prompt(added, "brush")
        row = self._mask(
            "manual",
            added_mask_id(self.submission.submission_id, number),
            added.segmentation,
            prompt=prompt,
            by_model=prompt != "brush",
        )
        self.rows.masks.append(replace(row, predicted_iou=added.predicted_iou))
        self._clicks(row.mask_id, added.clicks)
        self._label(row, added.category)

    def compare(self, withheld: Sequence[Proposal]) -> None:
        """What became of the objects of proposals that the person did not see."""
        made = [proposal.segmentation for proposal in withheld]
        ious = rle.iou_matrix(made, self.rows.shapes).max(axis=1, initial=0.0)
        for proposal, iou in zip(withheld, ious, strict=True):
            self._decision(proposal, "withheld", iou=float(iou))

    def _decision(
        self,
        proposal: Proposal,
        action: str,
        *,
        iou: float | None,
        row: MaskRow | None = None,
        num_clicks: int = 0,
    ) -> None:
        item = self.submission.item
        self.rows.decisions.append(
            DecisionRow(
                proposal_id=proposal.proposal_id,
                submission_id=self.submission.submission_id,
                image_id=item.image_id,
                model_version=item.model_version,
                action=action,
                predicted_iou=proposal.predicted_iou,
                iou_with_result=iou,
                mask_id=row.mask_id if row else None,
                num_clicks=num_clicks,
                run_id=self.run_id,
                iteration=item.iteration,
                area=proposal.area,
                source=proposal.source,
                score=proposal.score,
            )
        )

    def _mask(
        self, stage: str, name: str, segmentation: Rle, *, prompt: str, by_model: bool
    ) -> MaskRow:
        item = self.submission.item
        x0, y0, x1, y1 = (float(value) for value in rle.box(segmentation))
        return MaskRow(
            mask_id=name,
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
        self.rows.labels.append(
            MaskLabelRow(
                mask_id=row.mask_id,
                category=category,
                score=1.0,
                accepted_by=self.submission.annotator,
                created_at=row.created_at,
            )
        )

    def _suggest(self, row: MaskRow, suggestion: Suggestion) -> None:
        """What was said of the same mask when it was proposed is still no more than that."""
        self.rows.labels.append(
            MaskLabelRow(
                mask_id=row.mask_id,
                category=suggestion.category,
                score=suggestion.score,
                classes_hash=suggestion.classes_hash,
                created_at=row.created_at,
                run_id=self.run_id,
            )
        )

    def _clicks(self, name: str, clicks: Sequence[Click]) -> None:
        self.rows.clicks.extend(
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
        )


def _struct(mask: Rle | None) -> Segmentation | None:
    return None if mask is None else {"size": list(mask.size), "counts": mask.counts}


def _prompt(part: Decision | AddedMask, otherwise: str) -> str:
    """What asked for the mask that stands at last."""
    if part.drawn:
        return "brush"
    if isinstance(part, AddedMask) and part.text and not part.clicks:
        return f"text: {part.text}"
    return "clicks" if part.clicks else "box" if part.box else otherwise


def _with_proposal(row: MaskRow, proposal: Proposal, *, by_model: bool) -> MaskRow:
    row = replace(row, proposal_id=proposal.proposal_id, detector_version=proposal.detector_version)
    if not by_model:
        return row
    return replace(
        row,
        predicted_iou=proposal.predicted_iou,
        stability_score=proposal.stability_score,
        point_coords=[list(point) for point in proposal.point_coords],
    )
