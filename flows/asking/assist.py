"""Stage 2: choose the images worth a person's time, pre-fill confident masks, enqueue."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from engine.identity import config_hash
from flows.asking.checks import gold_items, second_items
from flows.asking.choosing import choose
from flows.asking.looking import Candidate, Looker
from flows.asking.survey import worth_a_look
from flows.errors import UsageError
from flows.locks import stage_lock
from flows.models import serving
from flows.models.embeddings import EmbeddingStore
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import ALONE, Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.waiting import Row, free_and_known
from flows.workspace import Workspace, to_json


@dataclass(frozen=True, kw_only=True)
class AssistOutcome:
    """What people were given; checks, which nobody can tell from the rest, are not counted."""

    run_id: str
    version: str
    num_items: int
    num_proposals: int


def assist_stage(
    workspace: Workspace, recipe: Recipe, progress: Progress, *, turn: Turn = ALONE
) -> AssistOutcome:
    """Put the most instructive images that nobody has looked at into the review queue.

    Pinned images come before all others. Raises UsageError when every image has been seen by a
    person or waits in the queue, and when there is none; then no model is registered either.
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
            looker = Looker.of(workspace, recipe, version, run_id, progress)
            chosen = _chosen(looker, free, known, run_id, progress)
            items = [looker.item(seen, run_id, turn) for seen in chosen]
            checks = [
                *gold_items(looker, len(items), run_id, turn),
                *second_items(workspace, recipe.assist.second, turn),
            ]
            workspace.queue.enqueue([*items, *checks])
            workspace.lake.commit(
                lambda tx: finish_run(tx, run_id, num_images=len(items), detail=looker.words),
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


def _chosen(
    looker: Looker, free: Sequence[Row], known: Sequence[Row], run_id: str, progress: Progress
) -> list[Candidate]:
    """The images of the batch, those that are pinned first; their embeddings are kept."""
    workspace, config = looker.workspace, looker.config
    wanted = [pin.image_id for pin in workspace.queue.pins()]
    by_id = {str(row["image_id"]): row for row in free}
    pinned = [by_id[image_id] for image_id in wanted if image_id in by_id][: config.num_images]
    others = [row for row in free if row not in pinned]
    pool = worth_a_look(workspace, looker.predictor, others, known, progress, config=config)
    seen = looker.look([*pinned, *pool], progress)
    first, rest = seen[: len(pinned)], seen[len(pinned) :]
    chosen = [*first, *choose(looker, rest, config.num_images - len(first), run_id, progress)]
    EmbeddingStore(workspace).keep([(each.image_id, each.embedding) for each in chosen])
    return chosen
