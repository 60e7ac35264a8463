"""`maskloop replay`: other thresholds on the candidates that generation kept, without the model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from engine.generation.config import GenerationConfig
from engine.generation.grid import CropBox
from engine.generation.masks import Generated, GeneratedMask
from engine.generation.replay import check_replayable, replay
from engine.rle import Rle
from flows.errors import UsageError
from flows.generation.generate import GenerateOutcome, generate_stage
from flows.generation.shard_work import Result, ShardFailure, ShardOrder, ShardRows
from flows.models import serving
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import ALONE, Turn
from flows.workspace import Workspace
from storage.catalog.shards import ShardReceipt
from storage.errors import StorageError
from storage.rows import utcnow

# Nothing is lost with a large shard that is cut short: it takes seconds.
_IMAGES_A_SHARD = 64
_BOX = ("x", "y", "width", "height")
# Every value by itself: lists and structs take ten times as long to become Python's.
_COLUMNS = ", ".join(
    [
        "image_id, number, area, predicted_iou, stability_score, crop_layer",
        "segmentation.counts AS counts, segmentation.size[1] AS height",
        "segmentation.size[2] AS width",
        "point_coords[1][1] AS point_x, point_coords[1][2] AS point_y",
        *(f"bbox[{place}] AS box_{name}" for place, name in enumerate(_BOX, 1)),
        *(f"crop_box[{place}] AS crop_{name}" for place, name in enumerate(_BOX, 1)),
    ]
)


def replay_stage(
    workspace: Workspace,
    recipe: Recipe,
    changes: Mapping[str, Any],
    progress: Progress,
    *,
    turn: Turn = ALONE,
) -> GenerateOutcome:
    """The set of masks that `recipe` with other thresholds would generate, out of its candidates.

    It is committed as a generation's is, and stands from then on, also where it was made before;
    without changes the recipe's own set stands again. Images without candidates keep the masks
    they have. Raises UsageError for a threshold that cannot be replayed, and where no image has
    candidates.
    """
    wanted = _wanted(recipe.generation, changes)
    recipe = replace(recipe, shard_size=_IMAGES_A_SHARD)
    kept = replace(recipe, keep_candidates=True)
    other = kept if wanted == recipe.generation else replace(recipe, generation=wanted)

    def labels(
        workspace: Workspace, chosen: Recipe, version: str, orders: Sequence[ShardOrder]
    ) -> Iterator[Result]:
        source = _Source(workspace, version, kept.generation_key())
        depth = serving.model_row(workspace, version).generation_depth
        return (source.label(order, chosen, depth) for order in orders)

    outcome = generate_stage(
        workspace,
        other,
        progress,
        turn=turn,
        stage="replay",
        labels=labels,
        of_images=lambda version: _with_candidates(workspace, kept, version, progress),
    )
    _let_stand(workspace, outcome.version, other.generation_key())
    return outcome


def _with_candidates(
    workspace: Workspace, recipe: Recipe, version: str, progress: Progress
) -> list[str]:
    """The images whose candidates were kept."""
    rows = workspace.lake.rows(
        "SELECT image_id FROM image_sets WHERE model_version = ? AND config_hash = ?",
        (version, recipe.generation_key()),
    )
    num_images = workspace.lake.rows("SELECT count(*) AS n FROM images")[0]["n"]
    lacking = (
        f"of {num_images} images {len(rows)} have candidates of {version} by recipe {recipe.name}; "
        "they are kept by: maskloop generate --keep-candidates"
    )
    if not rows:
        raise UsageError(f"replay: {lacking}")
    if len(rows) < num_images:
        progress.note(lacking)
    return [row["image_id"] for row in rows]


def _let_stand(workspace: Workspace, version: str, config_hash: str) -> None:
    """Make this set the newest of every image that has it: the newest is the one that stands."""
    key = (version, config_hash)
    newest = workspace.lake.rows(
        """SELECT 1 FROM image_sets AS other JOIN image_sets AS own USING (image_id, model_version)
           WHERE own.model_version = ? AND own.config_hash = ?
             AND other.config_hash <> own.config_hash AND other.created_at >= own.created_at
           LIMIT 1""",
        key,
    )
    if newest:
        workspace.lake.commit(
            lambda tx: tx.execute(
                "UPDATE image_sets SET created_at = ? WHERE model_version = ? AND config_hash = ?",
                (utcnow(), *key),
            ),
            message="an earlier set stands again",
        )


def _wanted(made: GenerationConfig, changes: Mapping[str, Any]) -> GenerationConfig:
    try:
        wanted = replace(made, **changes)
        check_replayable(made, wanted)
    except ValueError as error:
        field, _, rule = str(error).partition(": ")
        raise UsageError(f"--{field.replace('_', '-')}: {rule}") from error
    return wanted


class _Source:
    """Candidates of one model by one config."""

    def __init__(self, workspace: Workspace, version: str, config_hash: str) -> None:
        self._workspace = workspace
        self._key = (version, config_hash)

    def label(self, order: ShardOrder, recipe: Recipe, depth: int) -> Result:
        """Write the masks that stay of a shard's images."""
        try:
            return self._replayed(order, recipe, depth)
        except (ValueError, StorageError) as error:
            reason = f"{type(error).__name__}: {error}"
            return ShardFailure(shard_key=order.shard_key, reason=reason)

    def _replayed(self, order: ShardOrder, recipe: Recipe, depth: int) -> ShardReceipt:
        rows = ShardRows(order, self._key[0], recipe.generation_key(), depth)
        candidates = self._candidates([image.image_id for image in order.images], recipe)
        for image in order.images:
            proposed, kept = candidates[image.image_id]
            masks, rejections = replay(kept, recipe.generation)
            # Those under the thresholds never left the store.
            rejections.add_unnamed("below_thresholds", proposed - len(kept))
            counts = dict(+rejections.counts)
            generated = Generated(masks=masks, num_proposed=proposed, rejections=counts)
            rows.add(image.image_id, generated)
        return rows.written(self._workspace.objects)

    def _candidates(
        self, image_ids: list[str], recipe: Recipe
    ) -> dict[str, tuple[int, list[GeneratedMask]]]:
        """For each image how many masks there were, and those over the thresholds, in order."""
        config = recipe.generation
        proposed = self._workspace.lake.rows(
            "SELECT image_id, num_proposed FROM image_sets WHERE model_version = ? "
            "AND config_hash = ? AND image_id IN (SELECT unnest(?))",
            (*self._key, image_ids),
        )
        found: dict[str, tuple[int, list[GeneratedMask]]] = {
            row["image_id"]: (row["num_proposed"], []) for row in proposed
        }
        # Those that would go by themselves need not be read; they decide about no other.
        table = self._workspace.lake.arrow(
            f"""SELECT {_COLUMNS} FROM candidates WHERE model_version = ? AND config_hash = ?
               AND image_id IN (SELECT unnest(?)) AND (predicted_iou > ? OR ? = 0)
               AND stability_score >= ? ORDER BY image_id, number""",
            (
                *self._key,
                image_ids,
                config.pred_iou_thresh,
                config.pred_iou_thresh,
                config.stability_score_thresh,
            ),
        )
        for image_id, mask in zip(table["image_id"].to_pylist(), _masks(table), strict=True):
            found[image_id][1].append(mask)
        return found


def _masks(table: pa.Table) -> Iterator[GeneratedMask]:
    """That of each row of _COLUMNS."""
    of = {name: table[name].to_pylist() for name in table.column_names}
    boxes = np.stack([table[f"box_{name}"].to_numpy() for name in _BOX], axis=1)
    boxes[:, 2:] += boxes[:, :2]
    for row, box in enumerate(boxes.astype(np.float32)):
        x, y, crop_width, crop_height = (int(of[f"crop_{name}"][row]) for name in _BOX)
        yield GeneratedMask(
            number=of["number"][row],
            rle=Rle((of["height"][row], of["width"][row]), of["counts"][row]),
            box_xyxy=box,
            crop=CropBox(of["crop_layer"][row], (x, y, x + crop_width, y + crop_height)),
            area=of["area"][row],
            predicted_iou=of["predicted_iou"][row],
            stability_score=of["stability_score"][row],
            point_xy=(of["point_x"][row], of["point_y"][row]),
        )
