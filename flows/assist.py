"""Stage 2: choose the images worth a person's time, pre-fill confident masks, enqueue."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from engine.asking import choice
from engine.identity import config_hash
from flows import serving
from flows.embeddings import EmbeddingStore
from flows.errors import UsageError
from flows.locks import stage_lock
from flows.looking import Candidate, look, new_item
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import ALONE, Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.survey import worth_a_look
from flows.waiting import Row, free_and_known
from flows.workspace import Workspace, to_json


@dataclass(frozen=True, kw_only=True)
class AssistOutcome:
    """What people were given."""

    run_id: str
    version: str
    num_items: int
    num_proposals: int


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
            seen = look(workspace, recipe, predictor, pool, progress)
            chosen = _choose(seen, recipe)
            EmbeddingStore(workspace).keep([(item.image_id, item.embedding) for item in chosen])
            items = [new_item(item, version, run_id, turn, recipe) for item in chosen]
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
    free, known = free_and_known(workspace)
    if not free and not workspace.lake.rows("SELECT image_id FROM images LIMIT 1"):
        raise UsageError("assist: there are no images yet; run: maskloop add PATH...")
    if not free:
        raise UsageError(
            "assist: every image has labels, is gold or waits in the queue already; "
            "run: maskloop add PATH... for more"
        )
    return free, known


def _choose(seen: Sequence[Candidate], recipe: Recipe) -> list[Candidate]:
    vectors = np.stack([item.embedding.features.mean(dim=(1, 2)).numpy() for item in seen])
    doubts = np.array([choice.doubt(item.generated) for item in seen])
    picked = choice.choose_images(vectors, doubts, min(recipe.assist.num_images, len(seen)))
    return [seen[index] for index in picked]
