"""All objects that a text means, in two ways: from the text's map, or of masks made without it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from engine import rle
from engine.clip.views import ViewsConfig, crops
from engine.generation.nms import mask_nms
from engine.model.embedding import ImageEmbedding
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.model.text.prompted import TextEmbedder
from engine.rle import Rle

Pixels = npt.NDArray[np.uint8]


class CropEmbedder(TextEmbedder, Protocol):
    """A CLIP that embeds images and texts."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of what it sees."""

    def embed_images(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """(H, W, 3) uint8 RGB each -> (N, D) unit vectors."""


@dataclass(frozen=True, kw_only=True)
class ByTextConfig:
    """When a mask is one of a text's.

    peak_threshold: how likely, in [0, 1], a place of the map must be to be clicked on;
    min_score: the lowest score of a mask from the map; min_cosine: the least likeness of a
    candidate's views to the text; nms_threshold: the highest IoU of two masks; at most `most`.
    """

    peak_threshold: float = 0.3
    min_score: float = 0.3
    min_cosine: float = 0.3
    nms_threshold: float = 0.5
    most: int = 32
    views: ViewsConfig = field(default_factory=ViewsConfig)

    def __post_init__(self) -> None:
        for name in ("peak_threshold", "min_score", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in [0, 1], but got {getattr(self, name)}")
        if not -1 <= self.min_cosine <= 1:
            raise ValueError(f"min_cosine: must be in [-1, 1], but got {self.min_cosine}")
        if self.most < 1:
            raise ValueError(f"most: must be at least 1, but got {self.most}")


@dataclass(frozen=True, kw_only=True)
class TextMask:
    """A mask that a text means; `score` in [0, 1] from the map, or the cosine with the text.

    predicted_iou: in [0, 1], how good the model thinks it is; point_xy: the click that made it.
    """

    rle: Rle
    score: float
    predicted_iou: float
    point_xy: tuple[float, float]


class Candidate(Protocol):
    """A mask that was made without a text, such as a `GeneratedMask`."""

    @property
    def rle(self) -> Rle:
        """The mask."""

    @property
    def predicted_iou(self) -> float:
        """In [0, 1]."""

    @property
    def point_xy(self) -> tuple[float, float]:
        """The click that made it."""


def all_by_map(
    predictor: Predictor, embedding: ImageEmbedding, text: str, config: ByTextConfig
) -> list[TextMask]:
    """The masks of clicks on all peaks of the text's map, the likeliest first.

    A mask's score is the map's mean within it. Raises ValueError for a predictor without text.
    """
    similarity = predictor.similarity(embedding, [text])[0]
    cells = _peaks(torch.sigmoid(similarity), config)
    if not len(cells):
        return []
    frame = embedding.frame
    stride = frame.side / similarity.shape[-1]
    points = np.minimum(cells * stride / frame.scale_xy, np.array(frame.original_hw[::-1]) - 0.5)
    prompts = Prompts(
        points=points.astype(np.float32)[:, None],
        labels=np.ones((len(points), 1), dtype=np.int64),
        text=text,
    )
    prediction = predictor.predict(embedding, prompts, multimask=False)
    likely = F.interpolate(
        torch.sigmoid(similarity)[None, None], prediction.logits.shape[-2:], mode="bilinear"
    )[0, 0]
    inside = (prediction.logits[:, 0] > 0).float()
    scores = (inside * likely).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
    found = [
        TextMask(
            rle=rle.encode_one(mask),
            score=float(score),
            predicted_iou=float(iou),
            point_xy=(float(x), float(y)),
        )
        for mask, score, iou, (x, y) in zip(
            prediction.masks()[:, 0], scores, prediction.iou[:, 0], points, strict=True
        )
        if score >= config.min_score and mask.any()
    ]
    return _apart(found, config)


def all_by_candidates(
    candidates: Sequence[Candidate],
    image: Pixels,
    text: str,
    clip: CropEmbedder,
    config: ByTextConfig,
) -> list[TextMask]:
    """Those of `candidates` on `image` that look to CLIP like the text, the likest first.

    A mask's score is the cosine of the text with the mean embedding of its views.
    """
    if not candidates:
        return []
    views = [
        view
        for candidate in candidates
        for view in crops(image, candidate.rle, config.views, clip.image_size[0])
    ]
    embedded = clip.embed_images(views).reshape(len(candidates), len(config.views.views), -1)
    means = embedded.mean(axis=1)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    cosines = means @ clip.embed_texts([text])[0]
    found = [
        TextMask(
            rle=candidate.rle,
            score=float(cosine),
            predicted_iou=candidate.predicted_iou,
            point_xy=candidate.point_xy,
        )
        for candidate, cosine in zip(candidates, cosines, strict=True)
        if cosine >= config.min_cosine
    ]
    return _apart(found, config)


def _peaks(likely: Tensor, config: ByTextConfig) -> npt.NDArray[np.float32]:
    """(h, w) in [0, 1] -> (K, 2) middles (x, y) of cells that no neighbour exceeds."""
    smooth = F.avg_pool2d(likely[None, None], 3, 1, 1, count_include_pad=False)
    highest = F.max_pool2d(smooth, 3, 1, 1)
    is_peak = (smooth == highest) & (smooth >= config.peak_threshold)
    rows, columns = is_peak[0, 0].nonzero().unbind(dim=1)
    order = smooth[0, 0, rows, columns].argsort(descending=True, stable=True)[: config.most]
    return torch.stack([columns, rows], dim=1)[order].float().numpy() + np.float32(0.5)


def _apart(found: list[TextMask], config: ByTextConfig) -> list[TextMask]:
    """Of two that are nearly the same the one with the higher score, in order of scores."""
    kept = mask_nms(
        [one.rle for one in found],
        [rle.area(one.rle) for one in found],
        [one.score * one.predicted_iou for one in found],
        iou_threshold=config.nms_threshold,
        containment_threshold=1.0,
    ).kept
    return sorted((found[index] for index in kept), key=lambda one: -one.score)[: config.most]
