"""`maskloop replay`: other thresholds on the candidates that generation kept, without the model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.generation.config import GenerationConfig
from engine.generation.grid import CropBox
from engine.generation.masks import Generated, GeneratedMask
from engine.generation.replay import check_replayable, replay
from engine.rle import Rle, box
from flows import serving
from flows.errors import UsageError
from flows.generation import GenerateOutcome, generate_stage
from flows.progress import Progress
from flows.recipes import Recipe
from flows.runs import ALONE, Turn
from flows.shard_work import ShardOrder, ShardRows
from flows.workers import Result
from flows.workspace import Workspace
from storage.catalog.shards import ShardReceipt


def replay_stage(
    workspace: Workspace,
    recipe: Recipe,
    changes: Mapping[str, Any],
    progress: Progress,
    *,
    turn: Turn = ALONE,
) -> GenerateOutcome:
    """The set of masks that `recipe` with other thresholds would generate, out of its candidates.

    It is committed as a generation's is, and becomes what `current_masks` shows. Raises UsageError
    for a threshold that cannot be replayed, and where candidates were not kept.
    """
    wanted = _wanted(recipe.generation, changes)
    if wanted == recipe.generation:
        raise UsageError(
            "replay: say which threshold is another, such as --pred-iou-thresh 0.84; "
            f"with those of recipe {recipe.name} masks are there"
        )
    kept = replace(recipe, keep_candidates=True)
    version = serving.ensure_base(workspace, recipe, progress)
    _check_kept(workspace, kept, version)

    def labels(
        workspace: Workspace, chosen: Recipe, version: str, orders: Sequence[ShardOrder]
    ) -> Iterator[Result]:
        source = _Source(workspace, version, kept.generation_key())
        depth = serving.model_row(workspace, version).generation_depth
        return (source.label(order, chosen, depth) for order in orders)

    other = replace(recipe, generation=wanted, keep_candidates=False)
    return generate_stage(workspace, other, progress, turn=turn, stage="replay", labels=labels)


def _wanted(made: GenerationConfig, changes: Mapping[str, Any]) -> GenerationConfig:
    try:
        wanted = replace(made, **changes)
        check_replayable(made, wanted)
    except ValueError as error:
        field, _, rule = str(error).partition(": ")
        raise UsageError(f"--{field.replace('_', '-')}: {rule}") from error
    return wanted


def _check_kept(workspace: Workspace, recipe: Recipe, version: str) -> None:
    (found,) = workspace.lake.rows(
        """SELECT count(*) AS images, count(num_candidates) AS kept FROM images
           LEFT JOIN (SELECT image_id, num_candidates FROM image_sets
                      WHERE model_version = ? AND config_hash = ?) USING (image_id)""",
        (version, recipe.generation_key()),
    )
    if found["kept"] < found["images"]:
        raise UsageError(
            f"replay: of {found['images']} images {found['kept']} have candidates of {version} by "
            f"recipe {recipe.name}; they are kept by: maskloop generate --keep-candidates"
        )


class _Source:
    """Candidates of one model by one config."""

    def __init__(self, workspace: Workspace, version: str, config_hash: str) -> None:
        self._workspace = workspace
        self._key = (version, config_hash)

    def label(self, order: ShardOrder, recipe: Recipe, depth: int) -> ShardReceipt:
        """Write the masks that stay of a shard's images."""
        rows = ShardRows(order, self._key[0], recipe.generation_key(), depth)
        candidates = self._candidates([image.image_id for image in order.images], recipe)
        for image in order.images:
            proposed, kept = candidates[image.image_id]
            masks, rejections = replay(kept, recipe.generation)
            counts = dict(+rejections.counts)
            # Those under the thresholds never left the store.
            counts["below_thresholds"] = proposed - len(kept)
            rows.add(
                image.image_id,
                Generated(masks=masks, num_proposed=proposed, rejections=counts),
            )
        return rows.written(self._workspace.root)

    def _candidates(
        self, image_ids: list[str], recipe: Recipe
    ) -> dict[str, tuple[int, list[GeneratedMask]]]:
        """For each image how many masks there were, and those over the thresholds, in order."""
        config = recipe.generation
        proposed = self._workspace.lake.rows(
            "SELECT image_id, num_proposed FROM image_sets WHERE model_version = ? "
            "AND config_hash = ? AND list_contains(?, image_id)",
            (*self._key, image_ids),
        )
        found: dict[str, tuple[int, list[GeneratedMask]]] = {
            row["image_id"]: (row["num_proposed"], []) for row in proposed
        }
        # Those that would go by themselves need not be read; they decide about no other.
        for row in self._workspace.lake.rows(
            """SELECT * FROM candidates WHERE model_version = ? AND config_hash = ?
               AND list_contains(?, image_id) AND (predicted_iou > ? OR ? = 0)
               AND stability_score >= ? ORDER BY image_id, number""",
            (
                *self._key,
                image_ids,
                config.pred_iou_thresh,
                config.pred_iou_thresh,
                config.stability_score_thresh,
            ),
        ):
            found[row["image_id"]][1].append(_mask(row))
        return found


def _mask(row: Mapping[str, Any]) -> GeneratedMask:
    height, width = row["segmentation"]["size"]
    code = Rle((height, width), row["segmentation"]["counts"])
    x, y, crop_width, crop_height = (int(value) for value in row["crop_box"])
    point_x, point_y = row["point_coords"][0]
    return GeneratedMask(
        number=row["number"],
        rle=code,
        box_xyxy=box(code),
        crop=CropBox(row["crop_layer"], (x, y, x + crop_width, y + crop_height)),
        area=row["area"],
        predicted_iou=row["predicted_iou"],
        stability_score=row["stability_score"],
        point_xy=(point_x, point_y),
    )
