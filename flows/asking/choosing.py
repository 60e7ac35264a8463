"""Of the images that were looked at, those that people are asked about."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from engine.asking import choice
from engine.asking.choice import Signals
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Generated
from engine.model.embedding import ImageEmbedding
from flows.asking.looking import Candidate, Looker
from flows.images.splits import unit_hash
from flows.models import serving
from flows.progress import Progress

# How an image's masks could be found otherwise: (H, W, 3) uint8 RGB and the embedding of it.
_OtherWay = Callable[[npt.NDArray[np.uint8], ImageEmbedding], Generated]


def choose(
    looker: Looker, seen: Sequence[Candidate], k: int, seed: str, progress: Progress
) -> list[Candidate]:
    """At most `k` of them, as the recipe chooses; `seed` names the draw of those at random."""
    if not seen:
        return []
    how = looker.config.choose
    # Only where it decides: it takes as long as the look did.
    disagreement = _disagreements(looker, seen, progress) if how == "uncertainty" else None
    signals = Signals(
        vectors=np.stack([each.embedding.vector for each in seen]),
        doubts=np.array([choice.doubt(each.generated) for each in seen]),
        band=np.array([choice.doubtful_share(each.generated) for each in seen]),
        disagreement=disagreement,
        uncovered=np.array([choice.uncovered_share(each.generated, each.hw) for each in seen]),
    )
    random = np.random.default_rng(int(unit_hash(0, seed) * 2**53))
    return [seen[index] for index in choice.choose(how, signals, k, random=random)]


def _disagreements(
    looker: Looker, seen: Sequence[Candidate], progress: Progress
) -> npt.NDArray[np.float64] | None:
    """(N,) of the model with the one before it, or of the detector with the grid; None without."""
    other = _other_way(looker)
    if other is None:
        return None
    found = []
    for done, each in enumerate(seen, start=1):
        pixels = looker.pixels(each.image_id)
        found.append(choice.disagreement(each.generated, other(pixels, each.embedding)))
        progress.step("images looked at twice", done, len(seen))
    return np.array(found)


def _other_way(looker: Looker) -> _OtherWay | None:
    grid = looker.config.generation
    if looker.detector is not None:
        return MaskGenerator(looker.predictor, grid).generate
    parent = serving.model_row(looker.workspace, looker.version).parent
    if parent is None:
        return None
    before = MaskGenerator(serving.load_predictor(looker.workspace, parent), grid)
    return lambda pixels, _embedding: before.generate(pixels)
