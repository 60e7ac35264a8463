"""After a promotion or a way back: what waits for people gets proposals of the model in service.

An item that somebody holds keeps its model, so that nobody's masks change under their hands.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from engine.identity import config_hash
from flows.asking.looking import Candidate, Looker
from flows.locks import is_locked, stage_lock
from flows.models import serving
from flows.models.embeddings import EmbeddingStore
from flows.progress import Progress, Silent
from flows.recipes import Recipe
from flows.runs import ALONE, Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.waiting import PROPOSED, Row, outdated
from flows.workspace import Workspace, placeholders, to_json
from storage.catalog import models
from storage.queue.items import ItemHead, NewItem

# Few enough that an image is not looked at long before its item is replaced.
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class RefreshOutcome:
    """How many items have another model now; without a run there was nothing to do.

    `num_withdrawn` are those of a revoked model that had to go: audits of its masks.
    """

    run_id: str | None
    version: str | None
    num_items: int
    num_withdrawn: int = 0


def is_being_refreshed(workspace: Workspace) -> bool:
    """Whether a turn or a refresh is at work, which leaves nothing for another to do."""
    return is_locked(workspace, "turn") or is_locked(workspace, "refresh")


def refresh_stage(
    workspace: Workspace, recipe: Recipe, progress: Progress, *, turn: Turn = ALONE
) -> RefreshOutcome:
    """Replace the outdated items, each in one step of the queue; safe to repeat.

    What a revoked model made and none can take over is withdrawn.
    Raises StageError when an image cannot be read.
    """
    with stage_lock(workspace, "refresh"):
        reconcile_runs(workspace, "refresh")
        version = serving.current_version(workspace)
        heads = outdated(workspace)
        if version is None or not heads:
            return RefreshOutcome(run_id=None, version=version, num_items=0)
        run = new_run(
            "refresh",
            turn=turn,
            recipe=recipe.name,
            config=to_json(asdict(recipe.assist)),
            config_hash=config_hash(recipe.assist),
            model_version=version,
        )
        run_id = start_run(workspace, run)
        with failing_run(workspace, run_id):
            looker = Looker.of(workspace, recipe, version, run_id, progress)
            num_items = _refresh(looker, heads, progress)
            num_withdrawn = _withdraw_revoked(workspace)
            workspace.lake.commit(
                lambda tx: finish_run(tx, run_id, num_images=num_items),
                message=f"refresh: {num_items} items have proposals of {version}",
            )
    return RefreshOutcome(
        run_id=run_id, version=version, num_items=num_items, num_withdrawn=num_withdrawn
    )


def _refresh(looker: Looker, heads: Sequence[ItemHead], progress: Progress) -> int:
    num_items = 0
    # In the order in which they are handed out.
    for start in range(0, len(heads), _AT_ONCE):
        num_items += _replace(looker, heads[start : start + _AT_ONCE])
        progress.step("items refreshed", min(start + _AT_ONCE, len(heads)), len(heads))
    return num_items


def _withdraw_revoked(workspace: Workspace) -> int:
    """What is left of revoked models."""
    gone = models.revoked(workspace.lake)
    return workspace.queue.withdraw_items(
        [head.item_id for head in outdated(workspace) if head.model_version in gone]
    )


def _replace(looker: Looker, heads: Sequence[ItemHead]) -> int:
    workspace = looker.workspace
    proposed = [head for head in heads if head.stage in PROPOSED]
    rows = _image_rows(workspace, sorted({head.image_id for head in proposed}))
    # The caller tells how far it is, over all items.
    seen = {item.image_id: item for item in looker.look(rows, Silent())}
    EmbeddingStore(workspace).keep([(name, item.embedding) for name, item in seen.items()])
    successors = [(head, _successor(looker, head, seen[head.image_id])) for head in proposed] + [
        (head, _helped_by(looker, head)) for head in heads if head.stage == "dispute"
    ]
    return sum(workspace.queue.replace(head.item_id, new) for head, new in successors)


def _image_rows(workspace: Workspace, image_ids: Sequence[str]) -> list[Row]:
    return list(
        workspace.lake.rows(
            "SELECT image_id, uri, file_name FROM images "
            f"WHERE image_id IN ({placeholders(image_ids)}) ORDER BY image_id",
            image_ids,
        )
    )


def _helped_by(looker: Looker, old: ItemHead) -> NewItem:
    """The same masks to decide on, with another model to answer the clicks."""
    item = looker.workspace.queue.item(old.item_id)
    return NewItem(
        image_id=item.image_id,
        file_name=item.file_name,
        height=item.height,
        width=item.width,
        model_version=looker.predictor.version,
        run_id=old.run_id,
        iteration=old.iteration,
        priority=old.priority,
        payload=item.payload,
        stage=old.stage,
        not_for=old.not_for,
        for_role=old.for_role,
    )


def _successor(looker: Looker, old: ItemHead, seen: Candidate) -> NewItem:
    """The item in place of `old`: of the same run, so that its batch stays what people do."""
    new = looker.item(seen, old.run_id, Turn(iteration=old.iteration))
    return replace(new, item_id="", stage=old.stage, not_for=old.not_for)
