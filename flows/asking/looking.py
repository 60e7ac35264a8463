"""What the model in service makes of an image, and the item that people get of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from annotator.item import ItemPayload, Proposal
from engine.asking import choice, proposals
from engine.asking.promise import Thresholds
from engine.detection.prompted import masks_in_boxes
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Generated, GeneratedMask
from engine.images import Pixels
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor
from engine.threads import each_image
from flows.asking.promises import thresholds_for
from flows.clip.suggesting import Suggester
from flows.images.fetching import fetched_ahead
from flows.images.splits import unit_hash
from flows.models import serving
from flows.progress import Progress
from flows.recipes import AssistConfig, Recipe
from flows.runs import Turn
from flows.training.detectors import FoundDetector, detector_for
from flows.waiting import Row, refs
from flows.workspace import Workspace
from storage.queue.items import NewItem
from storage.rows import mask_id


@dataclass(frozen=True)
class Candidate:
    """An image that was looked at; `hw` is (height, width) in pixels."""

    image_id: str
    file_name: str
    hw: tuple[int, int]
    generated: Generated
    embedding: ImageEmbedding


@dataclass(frozen=True)
class Looker:
    """One model version, and how a recipe proposes its masks.

    detector: the one whose boxes prompt the model, None where the grid does; thresholds: those that
    keep the promise, None where nothing is promised; suggester: says what proposals may show, None
    where the workspace has no classes.
    """

    workspace: Workspace
    config: AssistConfig
    predictor: Predictor
    detector: FoundDetector | None
    thresholds: Thresholds | None
    suggester: Suggester | None

    @classmethod
    def of(
        cls, workspace: Workspace, recipe: Recipe, version: str, run_id: str, progress: Progress
    ) -> Self:
        """The look of a model version; trains its detector where the recipe has one."""
        config = recipe.assist
        predictor = serving.load_predictor(workspace, version)
        detector = None
        if config.propose == "detector":
            detector = detector_for(
                workspace, config.detector, version, run_id, progress, recipe.max_depth
            )
        return cls(
            workspace=workspace,
            config=config,
            predictor=predictor,
            detector=detector,
            thresholds=thresholds_for(workspace, config, version),
            suggester=Suggester.of(workspace),
        )

    @property
    def version(self) -> str:
        """The model version."""
        return self.predictor.version

    @property
    def words(self) -> str | None:
        """What the promise comes to, for people who look at the run; None without one."""
        if self.thresholds is None:
            return None
        return f"promise {self.config.promise}: {self.thresholds.words}"

    def pixels(self, image_id: str) -> Pixels:
        """(H, W, 3) uint8 RGB of an image of the workspace."""
        [row] = self.workspace.lake.rows("SELECT uri FROM images WHERE image_id = ?", (image_id,))
        return self.workspace.reader.pixels(str(row["uri"]), image_id)

    def look(self, rows: Sequence[Row], progress: Progress) -> list[Candidate]:
        """Embed images, and make the masks of each that might be proposed."""

        def one(number: int) -> Candidate:
            row = rows[number]
            image_id = str(row["image_id"])
            pixels = self.workspace.reader.pixels(str(row["uri"]), image_id)
            embedding = self.predictor.embed(pixels)
            return Candidate(
                image_id,
                str(row["file_name"]),
                (pixels.shape[0], pixels.shape[1]),
                self.masks(pixels, embedding),
                embedding,
            )

        seen = []
        looks = each_image(one, range(len(rows)), at_once=self.predictor.images_at_once)
        with fetched_ahead(self.workspace.reader, refs(rows)):
            for done, candidate in enumerate(looks, start=1):
                seen.append(candidate)
                progress.step("images looked at", done, len(rows))
        return seen

    def masks(self, pixels: Pixels, embedding: ImageEmbedding) -> Generated:
        """All that might be proposed of an image (H, W, 3) uint8 RGB."""
        if self.detector is None:
            return MaskGenerator(self.predictor, self.config.generation).generate(pixels, embedding)
        boxes = self.detector.finder.find(pixels)
        return masks_in_boxes(self.predictor, pixels, embedding, boxes)

    def item(self, seen: Candidate, run_id: str, turn: Turn) -> NewItem:
        """An ordinary item, with the proposals that are sure enough, but for those withheld."""
        pixels = self.pixels(seen.image_id) if self._looks_again else None
        made = [self._proposal(mask, seen.image_id) for mask in self._confident(seen, pixels)]
        shown = [proposal for proposal in made if self._shows(proposal)]
        names = {proposal.proposal_id for proposal in shown}
        withheld = [proposal for proposal in made if proposal.proposal_id not in names]
        return NewItem(
            image_id=seen.image_id,
            file_name=seen.file_name,
            height=seen.hw[0],
            width=seen.hw[1],
            model_version=self.version,
            run_id=run_id,
            iteration=turn.iteration or 0,
            priority=choice.doubt(seen.generated),
            payload=ItemPayload(proposals=self._named(shown, pixels), withheld=withheld).to_dict(),
        )

    @property
    def _looks_again(self) -> bool:
        """Whether the pixels of an image that was chosen are needed once more."""
        return self.detector is None or self.suggester is not None

    def _named(self, shown: Sequence[Proposal], pixels: Pixels | None) -> list[Proposal]:
        """The proposals with what they may show, if anybody says."""
        if self.suggester is None or pixels is None:
            return list(shown)
        masks = [proposal.segmentation for proposal in shown]
        said = self.suggester.suggestions(pixels, masks)
        return [
            proposal.model_copy(update={"suggestion": suggestion})
            for proposal, suggestion in zip(shown, said, strict=True)
        ]

    def _confident(self, seen: Candidate, pixels: Pixels | None) -> list[GeneratedMask]:
        good = proposals.confident(seen.generated, self.config.proposals)
        if self.detector is not None or pixels is None:
            return good
        closer = proposals.looked_at_closely(self.predictor, pixels, seen.embedding, good)
        return proposals.confident(closer, self.config.proposals)

    def _shows(self, proposal: Proposal) -> bool:
        if self.thresholds and not self.thresholds.offers(proposal.score, proposal.area):
            return False
        return unit_hash(0, f"withhold {proposal.proposal_id}") >= self.config.withhold

    def _proposal(self, mask: GeneratedMask, image_id: str) -> Proposal:
        return Proposal.of(
            mask.rle,
            proposal_id=mask_id("proposal", image_id, self.version, mask.rle.counts),
            predicted_iou=mask.predicted_iou,
            stability_score=mask.stability_score,
            source=self.config.propose,
            detection_score=None if self.detector is None else mask.box_score,
            detector_version=None if self.detector is None else self.detector.version,
        )
