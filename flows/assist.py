"""Stage 2: choose the images worth a person's time, pre-fill confident masks, enqueue."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from annotator.item import ItemPayload, Proposal
from engine.asking import choice, proposals
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Generated, GeneratedMask
from engine.identity import config_hash
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor
from engine.threads import each_image
from flows import serving
from flows.embeddings import EmbeddingStore
from flows.errors import UsageError
from flows.locks import stage_lock
from flows.merge import unmerged_images
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import ALONE, Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.survey import Row, worth_a_look
from flows.workspace import Workspace, to_json
from storage.queue.items import NewItem
from storage.rows import mask_id


@dataclass(frozen=True, kw_only=True)
class AssistOutcome:
    """What people were given."""

    run_id: str
    version: str
    num_items: int
    num_proposals: int


@dataclass(frozen=True)
class _Candidate:
    image_id: str
    file_name: str
    hw: tuple[int, int]
    generated: Generated
    embedding: ImageEmbedding


def assist_stage(
    workspace: Workspace, recipe: Recipe, progress: Progress, *, turn: Turn = ALONE
) -> AssistOutcome:
    """Put the most instructive images that nobody has looked at into the review queue.

    Raises UsageError when every image has been seen by a person or waits in the queue, and when
    there is none; then no model is registered either.
    """
    with stage_lock(workspace, "assist"):
        reconcile_runs(workspace, "assist")
        free, known = _free_and_known(workspace)
        version = serving.ensure_base(workspace, recipe, progress)
        run = new_run(
            "assist",
            turn=turn,
            recipe=recipe.name,
            config=to_json(asdict(recipe.assist)),
            config_hash=config_hash(recipe.assist),
            model_version=version,
        )
        run_id = start_run(workspace, run)
        with failing_run(workspace, run_id):
            predictor = serving.load_predictor(workspace, version)
            pool = worth_a_look(
                workspace,
                predictor,
                free,
                known,
                progress,
                num_images=recipe.assist.pool,
                most=recipe.assist.survey,
            )
            seen = _look(workspace, recipe, predictor, pool, progress)
            chosen = _choose(seen, recipe)
            EmbeddingStore(workspace).keep([(item.image_id, item.embedding) for item in chosen])
            items = [_item(item, version, run_id, turn, recipe) for item in chosen]
            workspace.queue.enqueue(items)
            workspace.lake.commit(
                lambda tx: finish_run(tx, run_id, num_images=len(items)),
                message=f"assist: {len(items)} images to review",
            )
    num_proposals = sum(len(item.payload["proposals"]) for item in items)
    return AssistOutcome(
        run_id=run_id, version=version, num_items=len(items), num_proposals=num_proposals
    )


def _free_and_known(workspace: Workspace) -> tuple[list[Row], list[Row]]:
    """Images that people may be asked about, and those that have labels or wait for people."""
    rows = workspace.lake.rows(
        "SELECT image_id, uri, file_name, split FROM images ORDER BY image_id"
    )
    waiting = workspace.queue.open_images() | unmerged_images(workspace)
    version = serving.current_version(workspace)
    refused = workspace.queue.asked_images(version) if version else set()
    known: list[Row] = []
    free: list[Row] = []
    for row in rows:
        if row["split"] == "gold":
            continue
        if row["split"] == "train" or row["image_id"] in waiting:
            known.append(row)
        elif row["image_id"] not in refused:
            free.append(row)
    if not rows:
        raise UsageError("assist: there are no images yet; run: maskloop add PATH...")
    if not free:
        raise UsageError(
            "assist: every image has labels, is gold or waits in the queue already; "
            "run: maskloop add PATH... for more"
        )
    return free, known


def _look(
    workspace: Workspace,
    recipe: Recipe,
    predictor: Predictor,
    pool: Sequence[Row],
    progress: Progress,
) -> list[_Candidate]:
    generator = MaskGenerator(predictor, recipe.assist.generation)
    reader = workspace.reader

    def look(number: int) -> _Candidate:
        row = pool[number]
        image_id = str(row["image_id"])
        pixels = reader.pixels(str(row["uri"]), image_id)
        embedding = predictor.embed(pixels)
        generated = generator.generate(pixels, embedding)
        hw = (pixels.shape[0], pixels.shape[1])
        return _Candidate(image_id, str(row["file_name"]), hw, generated, embedding)

    seen = []
    looks = each_image(look, range(len(pool)), at_once=predictor.images_at_once)
    for done, candidate in enumerate(looks, start=1):
        seen.append(candidate)
        progress.step("images looked at", done, len(pool))
    return seen


def _choose(seen: Sequence[_Candidate], recipe: Recipe) -> list[_Candidate]:
    vectors = np.stack([item.embedding.features.mean(dim=(1, 2)).numpy() for item in seen])
    doubts = np.array([choice.doubt(item.generated) for item in seen])
    picked = choice.choose_images(vectors, doubts, min(recipe.assist.num_images, len(seen)))
    return [seen[index] for index in picked]


def _item(item: _Candidate, version: str, run_id: str, turn: Turn, recipe: Recipe) -> NewItem:
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
