"""One model, one set of labelled images, seven numbers."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from engine import rle
from engine.generation.generator import MaskGenerator
from engine.metrics.config import EvaluationConfig
from engine.metrics.detection import (
    ImageMatches,
    average_precision,
    average_recall,
    f1,
    match_image,
)
from engine.metrics.interactive import ClickTrace, click_traces
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor
from engine.training.samples import LabelledImage, LabelledImages

_CLICKS = (1, 3, 5)
_COUNTS = ("images", "masks")


def _nobody(_done: int, _total: int) -> None:
    """Hears nothing."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`images` and `masks` say how many were measured by clicks.

    iou_*: mean IoU at that click; noc85: mean number of clicks to the target IoU (0.85 unless the
    config says another); ar1000: mean recall over IoU 0.5 to 0.95 of at most 1000 masks an image;
    ap50: COCO's average precision, f1_50: F1 of all masks, both at IoU 0.5.
    """

    images: int
    masks: int
    iou_1_click: float
    iou_3_clicks: float
    iou_5_clicks: float
    noc85: float
    ar1000: float
    ap50: float
    f1_50: float

    def metrics(self) -> dict[str, float]:
        """The seven numbers by name."""
        return {name: value for name, value in asdict(self).items() if name not in _COUNTS}


def score(
    predictor: Predictor,
    generator: MaskGenerator,
    images: LabelledImages,
    config: EvaluationConfig,
    *,
    on_image: Callable[[int, int], None] = _nobody,
) -> Scores:
    """Measure by clicks and by automatic masks; the same call gives the same numbers.

    `on_image` hears (images done, of how many). Raises ValueError when no chosen image has a mask
    of `min_area`.
    """
    chosen = _chosen(len(images), config)
    traces: list[ClickTrace] = []
    matches: list[ImageMatches] = []
    for done, index in enumerate(chosen, start=1):
        labelled = images.load(index)
        embedding = predictor.embed(labelled.image)
        traces += _clicked(predictor, embedding, labelled, index, config)
        generated = generator.generate(labelled.image, embedding)
        matches.append(
            match_image(
                [mask.rle for mask in generated.masks],
                [mask.score for mask in generated.masks],
                labelled.masks,
            )
        )
        on_image(done, len(chosen))
    if not traces:
        raise ValueError(
            f"images: must have a mask of at least {config.min_area} pixels, "
            f"but none of the {len(chosen)} has"
        )
    iou = {clicks: float(np.mean([trace.at(clicks) for trace in traces])) for clicks in _CLICKS}
    return Scores(
        images=len(chosen),
        masks=len(traces),
        iou_1_click=iou[1],
        iou_3_clicks=iou[3],
        iou_5_clicks=iou[5],
        noc85=float(np.mean([trace.num_clicks_to(config.noc_target) for trace in traces])),
        ar1000=average_recall(matches),
        ap50=average_precision(matches),
        f1_50=f1(matches),
    )


def _chosen(num_images: int, config: EvaluationConfig) -> list[int]:
    """Indices by the seed: a larger `max_images` keeps those of a smaller one."""
    order = np.random.default_rng(config.seed).permutation(num_images)
    return sorted(int(index) for index in order[: config.max_images])


def _clicked(
    predictor: Predictor,
    embedding: ImageEmbedding,
    labelled: LabelledImage,
    index: int,
    config: EvaluationConfig,
) -> list[ClickTrace]:
    large = [mask for mask in labelled.masks if rle.area(mask) >= config.min_area]
    if not large:
        return []
    order = np.random.default_rng((config.seed, index)).permutation(len(large))
    return click_traces(
        predictor,
        embedding,
        rle.decode([large[number] for number in sorted(order[: config.max_masks_per_image])]),
        num_clicks=config.max_clicks,
        num_needed=max(_CLICKS),
        target=config.noc_target,
    )
