"""Stage 3: plan shards of images that lack masks of the model in service, label, commit once."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from engine.identity import canonical_json
from flows.errors import StageError, UsageError
from flows.generation.shard_work import ImageRef, KeptEmbedding, Result, ShardFailure, ShardOrder
from flows.generation.workers import executor
from flows.locks import stage_lock
from flows.models import serving
from flows.progress import Pace, Progress
from flows.recipes import Recipe
from flows.runs import ALONE, Turn, failing_run, finish_run, new_run, reconcile_runs, start_run
from flows.suppression import suppressions
from flows.workspace import Workspace, to_json
from storage.catalog import shards
from storage.catalog.lake import Transaction
from storage.catalog.shards import ShardReceipt
from storage.rows import ShardRow, SuppressionRow, utcnow

Labels = Callable[[Workspace, Recipe, str, Sequence[ShardOrder]], Iterator[Result]]
_COMMIT_BATCH = 16
_COMMIT_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class GenerateOutcome:
    """What one generation gave."""

    run_id: str | None
    version: str
    num_images: int
    num_masks: int
    num_dead: int


def generate_stage(
    workspace: Workspace,
    recipe: Recipe,
    progress: Progress,
    *,
    turn: Turn = ALONE,
    stage: str = "generate",
    redo: bool = False,
    labels: Labels = executor,
    of_images: Callable[[str], Sequence[str]] | None = None,
) -> GenerateOutcome:
    """Label every image that the model in service has not labelled by this config.

    `labels` does the work of shards, for a run of `stage`; `of_images` says which images of the
    version it is given are meant, instead of all. With `redo` all get masks once more, and these
    stand from then on; the earlier ones stay in the store.

    Safe to kill and start again at any moment: committed shards stay, pending ones are done again.
    Raises UsageError without any image, StageError when none could be labelled.
    """
    with stage_lock(workspace, "generate"):
        for of_lock in ("generate", "replay"):
            reconcile_runs(workspace, of_lock)
        if not workspace.lake.rows("SELECT 1 FROM images LIMIT 1"):
            raise UsageError(
                "generate: there are no images yet; run: maskloop add PATH..., "
                "or maskloop import coco ANNOTATIONS.json --images DIR"
            )
        version = serving.ensure_base(workspace, recipe, progress)
        if redo:
            recipe = _redone(workspace, recipe, version)
        meant = None if of_images is None else of_images(version)
        plan = _Plan(workspace, recipe, version, recipe.generation_key(), meant)
        if not plan.has_work():
            return GenerateOutcome(
                run_id=None, version=version, num_images=0, num_masks=0, num_dead=0
            )
        run = new_run(
            stage,
            turn=turn,
            recipe=recipe.name,
            config=to_json(asdict(recipe.generation)),
            config_hash=plan.config_hash,
            model_version=version,
        )
        run_id = start_run(workspace, run)
        with failing_run(workspace, run_id):
            tally = _Tally()
            orders = plan.orders(run_id, recipe.shard_size)
            _label(workspace, plan, orders, labels, tally, progress)
            # What failed as a shard is tried image by image, so one bad image costs itself only.
            orders = plan.orders(run_id, 1, only=tally.failed)
            _label(workspace, plan, orders, labels, tally, progress)
            if tally.num_dead and not plan.has_sets():
                raise StageError(f"{stage}: no image could be labelled; {tally.last_reason}")
            detail = f"{tally.num_dead} images could not be labelled" if tally.num_dead else None
            workspace.lake.commit(
                lambda tx: finish_run(
                    tx,
                    run_id,
                    num_images=tally.num_images,
                    num_masks=tally.num_masks,
                    detail=detail,
                ),
                message=f"generated {tally.num_masks} masks",
            )
    return GenerateOutcome(
        run_id=run_id,
        version=version,
        num_images=tally.num_images,
        num_masks=tally.num_masks,
        num_dead=tally.num_dead,
    )


def _redone(workspace: Workspace, recipe: Recipe, version: str) -> Recipe:
    """`recipe` for the redoing that was stopped half-way, else for the next one."""
    while True:
        recipe = replace(recipe, redo=recipe.redo + 1)
        key = (version, recipe.generation_key())
        begun = workspace.lake.rows(
            "SELECT 1 FROM shards WHERE model_version = ? AND config_hash = ? LIMIT 1", key
        )
        if not begun or shards.pending(workspace.lake, *key):
            return recipe


@dataclass
class _Tally:
    num_images: int = 0
    num_masks: int = 0
    num_dead: int = 0
    failed: list[str] = field(default_factory=list)
    last_reason: str = ""


@dataclass(frozen=True)
class _Plan:
    """Which images lack the set (model, config), and the shards that will give it to them."""

    workspace: Workspace
    recipe: Recipe
    version: str
    config_hash: str
    meant: Sequence[str] | None

    def has_work(self) -> bool:
        return bool(shards.pending(self.workspace.lake, self.version, self.config_hash)) or bool(
            self._missing()
        )

    def has_sets(self) -> bool:
        """Whether any image has this set."""
        return bool(
            self.workspace.lake.rows(
                "SELECT 1 FROM image_sets WHERE model_version = ? AND config_hash = ? LIMIT 1",
                (self.version, self.config_hash),
            )
        )

    def orders(
        self, run_id: str, shard_size: int, *, only: Sequence[str] | None = None
    ) -> list[ShardOrder]:
        """Pending shards keep their images; new shards take what no shard has promised.

        `only` limits the new ones to some images.
        """
        waiting = shards.pending(self.workspace.lake, self.version, self.config_hash)
        promised = {image_id for row in waiting for image_id in row.image_ids}
        missing = self._missing() if only is None else only
        fresh = [image_id for image_id in missing if image_id not in promised]
        sha256 = serving.model_row(self.workspace, self.version).weights_sha256
        rows = [self._row(run_id, sha256, image_ids) for image_ids in _chunks(fresh, shard_size)]
        shards.plan(self.workspace.lake, rows)
        planned = [*waiting, *rows]
        refs = self._references([image_id for row in planned for image_id in row.image_ids])
        return [
            ShardOrder(
                shard_key=row.shard_key,
                run_id=run_id,
                images=tuple(refs[image_id] for image_id in row.image_ids),
            )
            for row in planned
        ]

    def _row(self, run_id: str, sha256: str, image_ids: Sequence[str]) -> ShardRow:
        return ShardRow(
            shard_key=shard_key(sha256, self.config_hash, image_ids),
            run_id=run_id,
            model_version=self.version,
            config_hash=self.config_hash,
            state="pending",
            image_ids=list(image_ids),
            num_images=len(image_ids),
            planned_at=utcnow(),
        )

    def _missing(self) -> list[str]:
        # An image that could not be labelled is missing still: each run gives it another chance.
        rows = self.workspace.lake.rows(
            """SELECT image_id FROM images WHERE image_id NOT IN (
                   SELECT image_id FROM image_sets
                   WHERE model_version = ? AND list_contains(?, config_hash))
               ORDER BY image_id""",
            (self.version, list(self.recipe.generation_keys())),
        )
        meant = None if self.meant is None else set(self.meant)
        return [row["image_id"] for row in rows if meant is None or row["image_id"] in meant]

    def _references(self, image_ids: Sequence[str]) -> dict[str, ImageRef]:
        rows = self.workspace.lake.rows(
            """SELECT image_id, images.uri,
                   list({encoder_id: e.encoder_id, uri: e.uri, sha256: e.sha256})
                   FILTER (e.uri IS NOT NULL) AS kept
               FROM images LEFT JOIN embeddings e USING (image_id)
               WHERE list_contains(?, image_id) GROUP BY ALL""",
            (list(image_ids),),
        )
        return {
            row["image_id"]: ImageRef(
                row["image_id"],
                row["uri"],
                tuple(KeptEmbedding(**each) for each in row["kept"] or ()),
            )
            for row in rows
        }


def shard_key(model_sha256: str, key: str, image_ids: Sequence[str]) -> str:
    """A shard's name is its content: the model's weights, the config and the images."""
    content = {"model": model_sha256, "config": key, "images": sorted(image_ids)}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


def _chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _label(
    workspace: Workspace,
    plan: _Plan,
    orders: Sequence[ShardOrder],
    labels: Labels,
    tally: _Tally,
    progress: Progress,
) -> None:
    """Label all orders and commit in small batches, so that a crash costs little."""
    if not orders:
        return
    batch: list[ShardReceipt] = []
    by_key = {order.shard_key: order for order in orders}
    done, total, num_masks = 0, sum(len(order.images) for order in orders), 0
    committed_at, pace = time.monotonic(), Pace()
    for result in labels(workspace, plan.recipe, plan.version, orders):
        order = by_key[result.shard_key]
        done += len(order.images)
        if isinstance(result, ShardReceipt):
            batch.append(result)
            num_masks += result.num_masks
        else:
            _bury(workspace, result, order, tally, progress)
        waited = time.monotonic() - committed_at > _COMMIT_EVERY_S
        if waited or len(batch) >= _COMMIT_BATCH or done == total:
            _commit(workspace, batch, tally)
            batch, committed_at = [], time.monotonic()
        words = pace.words(done, total, images=done, masks=num_masks)
        progress.step(f"images labelled ({words})", done, total)


def _bury(
    workspace: Workspace,
    failure: ShardFailure,
    order: ShardOrder,
    tally: _Tally,
    progress: Progress,
) -> None:
    shards.mark_dead(workspace.lake, failure.shard_key, failure.reason)
    if len(order.images) > 1:
        tally.failed += [image.image_id for image in order.images]
        return
    tally.num_dead += 1
    tally.last_reason = failure.reason
    progress.note(f"image {order.images[0].image_id} could not be labelled: {failure.reason}")


def _commit(workspace: Workspace, receipts: Sequence[ShardReceipt], tally: _Tally) -> None:
    if not receipts:
        return
    for receipt in shards.commit_shards(workspace.lake, receipts, extra_rows=_suppressions):
        tally.num_images += receipt.num_images
        tally.num_masks += receipt.num_masks


def _suppressions(tx: Transaction, receipt: ShardReceipt) -> list[SuppressionRow]:
    """Which of the shard's masks a person's mask already covers; runs in the commit."""
    return suppressions(tx, "shard_key = ?", [receipt.shard_key])
