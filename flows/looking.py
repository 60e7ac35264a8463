"""What the model in service makes of an image, and the item that people get of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from annotator.item import ItemPayload, Proposal
from engine.asking import choice, proposals
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Generated, GeneratedMask
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor
from engine.threads import each_image
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import Turn
from flows.waiting import Row
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


def look(
    workspace: Workspace,
    recipe: Recipe,
    predictor: Predictor,
    pool: Sequence[Row],
    progress: Progress,
) -> list[Candidate]:
    """Embed the images of `pool`, and generate the masks of each."""
    generator = MaskGenerator(predictor, recipe.assist.generation)
    reader = workspace.reader

    def one(number: int) -> Candidate:
        row = pool[number]
        image_id = str(row["image_id"])
        pixels = reader.pixels(str(row["uri"]), image_id)
        embedding = predictor.embed(pixels)
        generated = generator.generate(pixels, embedding)
        hw = (pixels.shape[0], pixels.shape[1])
        return Candidate(image_id, str(row["file_name"]), hw, generated, embedding)

    seen = []
    looks = each_image(one, range(len(pool)), at_once=predictor.images_at_once)
    for done, candidate in enumerate(looks, start=1):
        seen.append(candidate)
        progress.step("images looked at", done, len(pool))
    return seen


def new_item(item: Candidate, version: str, run_id: str, turn: Turn, recipe: Recipe) -> NewItem:
    """An ordinary item of the run `run_id`, with the proposals that are sure enough."""
    kept = proposals.confident(item.generated, recipe.assist.proposals)
    payload = ItemPayload(proposals=[_proposal(mask, item.image_id, version) for mask in kept])
    return NewItem(
        image_id=item.image_id,
        file_name=item.file_name,
        height=item.hw[0],
        width=item.hw[1],
        model_version=version,
        run_id=run_id,
        iteration=turn.iteration or 0,
        priority=choice.doubt(item.generated),
        payload=payload.to_dict(),
    )


def _proposal(mask: GeneratedMask, image_id: str, version: str) -> Proposal:
    return Proposal.of(
        mask.rle,
        proposal_id=mask_id("proposal", image_id, version, mask.rle.counts),
        predicted_iou=mask.predicted_iou,
        stability_score=mask.stability_score,
        points=[mask.point_xy],
    )
