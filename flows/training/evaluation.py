"""Scores of a model on the gold set (or any images with truth), and their rows."""

from collections.abc import Mapping

from engine.generation.generator import MaskGenerator
from engine.identity import config_hash
from engine.metrics.bootstrap import ImageMeans
from engine.metrics.scores import Scores, score
from engine.model.predictor import Predictor
from engine.training.samples import LabelledImages
from flows.progress import Progress
from flows.recipes import Recipe
from flows.training.labels import StoredLabels, gold_labels
from flows.workspace import Workspace
from storage.catalog import evaluations
from storage.rows import EvaluationRow, utcnow

GOLD = "gold"


def measure(
    predictor: Predictor, images: LabelledImages, recipe: Recipe, progress: Progress
) -> Scores:
    """Score `predictor` by clicks and by automatic masks on `images`."""
    generator = MaskGenerator(predictor, recipe.evaluation_generation)
    return score(
        predictor,
        generator,
        images,
        recipe.evaluation,
        on_image=lambda done, total: progress.step("measured images", done, total),
    )


def gold_scores(
    workspace: Workspace,
    predictor: Predictor,
    recipe: Recipe,
    run_id: str,
    progress: Progress,
    *,
    snapshot: int | None = None,
) -> Mapping[str, float]:
    """Metric -> value on the gold set of `snapshot`, kept: a second call costs nothing.

    Empty when no gold image has masks.
    """
    gold = gold_labels(workspace, snapshot)
    if not gold.num_masks:
        return {}
    key = _key(recipe, gold)
    known = evaluations.of(workspace.lake, predictor.version, split=GOLD, config_hash=key)
    if known:
        return known
    with gold.fetched_ahead():
        scores = measure(predictor, gold, recipe, progress)
    rows = _rows(predictor.version, scores, gold, key, run_id)
    workspace.lake.commit(lambda tx: tx.insert(rows), message=f"gold scores of {predictor.version}")
    return scores.metrics()


def gold_by_image(
    workspace: Workspace, version: str, recipe: Recipe, *, snapshot: int | None = None
) -> Mapping[str, ImageMeans]:
    """Image id -> what `gold_scores` found there; empty when it has not measured `version` so."""
    key = _key(recipe, gold_labels(workspace, snapshot))
    found = evaluations.by_image(workspace.lake, version, split=GOLD, config_hash=key)
    return {
        image_id: ImageMeans(num_masks=num_masks, metrics=metrics)
        for image_id, (num_masks, metrics) in found.items()
    }


def _key(recipe: Recipe, gold: StoredLabels) -> str:
    # The gold images are part of the key: a larger gold set asks for a new measurement.
    parts = (recipe.evaluation, recipe.evaluation_generation)
    return "".join(map(config_hash, parts)) + gold.fingerprint()


def _rows(
    version: str, scores: Scores, gold: StoredLabels, key: str, run_id: str
) -> list[EvaluationRow]:
    """A row for each metric, then one for each image and metric of clicks, split `gold:IMAGE_ID`.

    Two models can be compared only image by image, and that has to be possible without measuring
    the one in service again.
    """
    now = utcnow()

    def rows(
        split: str, metrics: Mapping[str, float], num_images: int, num_masks: int
    ) -> list[EvaluationRow]:
        return [
            EvaluationRow(
                model_version=version,
                split=split,
                metric=metric,
                value=value,
                num_images=num_images,
                num_masks=num_masks,
                config_hash=key,
                run_id=run_id,
                created_at=now,
            )
            for metric, value in metrics.items()
        ]

    found = rows(GOLD, scores.metrics(), scores.images, scores.masks)
    for image in scores.by_image:
        means = image.means()
        split = f"{GOLD}:{gold.image_ids[image.index]}"
        found += rows(split, means.metrics, 1, means.num_masks)
    return found
