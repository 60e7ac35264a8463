"""Scores of a model on the gold set (or any images with truth), and their rows."""

from collections.abc import Mapping

from engine.generation.generator import MaskGenerator
from engine.identity import config_hash
from engine.metrics.scores import Scores, score
from engine.model.predictor import Predictor
from engine.training.samples import LabelledImages
from flows.labels import gold_labels
from flows.progress import Progress
from flows.recipes import Recipe
from flows.workspace import Workspace
from storage.catalog import evaluations
from storage.rows import EvaluationRow, utcnow


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
    if not len(gold):
        return {}
    # The gold images are part of the key: a larger gold set asks for a new measurement.
    parts = (recipe.evaluation, recipe.evaluation_generation)
    key = "".join(map(config_hash, parts)) + gold.fingerprint()
    known = evaluations.of(workspace.lake, predictor.version, split="gold", config_hash=key)
    if known:
        return known
    scores = measure(predictor, gold, recipe, progress)
    rows = [
        EvaluationRow(
            model_version=predictor.version,
            split="gold",
            metric=metric,
            value=value,
            num_images=scores.images,
            num_masks=scores.masks,
            config_hash=key,
            run_id=run_id,
            created_at=utcnow(),
        )
        for metric, value in scores.metrics().items()
    ]
    workspace.lake.commit(lambda tx: tx.insert(rows), message=f"gold scores of {predictor.version}")
    return scores.metrics()
