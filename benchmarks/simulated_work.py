"""A simulated annotator at work on images in memory, with a model and its proposals, no server.

What `annotation_efficiency.py` counts: an action is a click, the rejection of a proposal, or a key:
one that accepts a mask that was clicked, one that accepts all proposals that are left. A mask that
clicks do not get right is drawn with the brush, and that counts as several.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from finetune import Chosen

from annotator.answers import masks_of, prompt_of
from annotator.client import Work
from annotator.item import Proposal
from annotator.messages import PredictAnswer, PredictRequest, WorkItem
from annotator.page_messages import Picture
from annotator.submission import AddedMask, Decision
from annotator.visit import SimulationConfig, Visit
from engine.asking.proposals import confident, looked_at_closely
from engine.detection.prompted import BoxFinder, masks_in_boxes
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Generated
from engine.metrics.matching import match
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import InteractivePredictor
from engine.model.predictor import Predictor
from engine.model.sam import PromptableSam
from engine.training.samples import LabelledImage
from engine.training.trainer import train
from flows.progress import Progress
from flows.recipes import NANO

ASSIST = NANO.assist


class Desk:
    """One image and a model that answers clicks on it, without a server."""

    def __init__(
        self, predictor: Predictor, image: LabelledImage, embedding: ImageEmbedding
    ) -> None:
        self._image = image
        self._version = predictor.version
        self._interactive = InteractivePredictor.on(predictor, image.image, embedding)

    def pixels(self, _work: Work) -> np.ndarray:
        return self._image.image

    def predict(self, _work: Work, request: PredictRequest) -> PredictAnswer:
        answers = self._interactive.answer(
            prompt_of(request), request.window, multimask=request.wants_multimask
        )
        return PredictAnswer(model_version=self._version, masks=masks_of(answers))

    def heartbeat(self, _work: Work) -> float:
        return 60.0


@dataclass(frozen=True)
class Effort:
    """What one image took; `ious` of its masks with the objects that they show."""

    actions: int
    masks: int
    objects: int
    ious: tuple[float, ...]


def content_with(iou: float) -> SimulationConfig:
    """An annotator without a budget who leaves no mask of a lower IoU."""
    return SimulationConfig(num_clicks_per_image=1_000_000, accept_iou=iou, target_iou=iou)


def annotate(
    predictor: Predictor,
    image: LabelledImage,
    proposals: Sequence[Proposal],
    simulation: SimulationConfig,
) -> Effort:
    """Let the simulated annotator do one image."""
    height, width = image.image.shape[:2]
    item = WorkItem(
        item_id="item",
        image_id=f"{image.identity:016x}" * 2,
        file_name="image",
        height=height,
        width=width,
        model_version=predictor.version,
        run_id="run",
        iteration=0,
        proposals=list(proposals),
        picture=Picture(levels=1, tile=512),
        decoder=None,
        reads_text=False,
    )
    work = Work(item=item, lease_token=1, heartbeat_s=1e9, idempotency_key="benchmark")
    desk = Desk(predictor, image, predictor.embed(image.image))
    visit = Visit(desk, work, image.masks, simulation)
    decisions, added = visit.decide(), visit.add_missing()
    shown = {proposal.proposal_id: proposal.segmentation for proposal in proposals}
    masks = [each.segmentation or shown[each.proposal_id] for each in decisions if _left(each)]
    masks += [each.segmentation for each in added]
    pairs = match(masks, image.masks, 0.5)
    parts: list[Decision | AddedMask] = [*decisions, *added]
    return Effort(
        actions=sum(_actions_of(part, simulation) for part in parts)
        + int(any(map(_taken, decisions))),
        masks=len(masks),
        objects=len(image.masks),
        ious=tuple(iou for _, iou in pairs.values()),
    )


def _left(decision: Decision) -> bool:
    return decision.action != "rejected"


def _taken(decision: Decision) -> bool:
    return decision.action == "accepted"


def _actions_of(part: Decision | AddedMask, simulation: SimulationConfig) -> int:
    if isinstance(part, Decision) and _taken(part):
        return 0  # "Accept all shown" takes them together.
    return 1 + len(part.clicks) + simulation.drawing_clicks * part.drawn


class Proposer:
    """A model version that proposes masks, by the grid or by a detector."""

    def __init__(self, model: PromptableSam, finder: BoxFinder | None) -> None:
        self.predictor = Predictor(model, version="benchmark")
        self._grid = MaskGenerator(self.predictor, ASSIST.generation)
        self._finder = finder

    def masks(self, image: LabelledImage) -> Generated:
        embedding = self.predictor.embed(image.image)
        if self._finder is None:
            return self._grid.generate(image.image, embedding)
        boxes = self._finder.find(image.image)
        return masks_in_boxes(self.predictor, image.image, embedding, boxes)

    def proposals(self, image: LabelledImage) -> list[Proposal]:
        found = confident(self.masks(image), ASSIST.proposals)
        by_grid = self._finder is None
        if by_grid:
            embedding = self.predictor.embed(image.image)
            closer = looked_at_closely(self.predictor, image.image, embedding, found)
            found = confident(closer, ASSIST.proposals)
        return [
            Proposal.of(
                mask.rle,
                proposal_id=str(number),
                predicted_iou=mask.predicted_iou,
                stability_score=mask.stability_score,
                source="grid" if by_grid else "detector",
                detection_score=None if by_grid else mask.box_score,
            )
            for number, mask in enumerate(found)
        ]


def learnt(images: Chosen, steps: int, start: PromptableSam, progress: Progress) -> PromptableSam:
    config = replace(NANO.training, steps=steps, warmup_steps=min(20, steps))
    return train(
        start,
        images,
        config,
        on_step=lambda report: progress.step("training steps", report.step, report.num_steps),
    ).model
