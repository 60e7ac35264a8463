"""Which images to look at closely: those that, with what people have seen, stand for all."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.asking import choice
from engine.model.predictor import Predictor
from flows.progress import Progress
from flows.splits import unit_hash
from flows.waiting import Row
from flows.workspace import Workspace


def worth_a_look(
    workspace: Workspace,
    predictor: Predictor,
    free: Sequence[Row],
    known: Sequence[Row],
    progress: Progress,
    *,
    num_images: int,
    most: int,
) -> list[Row]:
    """`num_images` rows of `free`, by the mean embedding of each image alone.

    Encoding costs a hundredth of generating masks, so it can go far: over `most` images of each
    kind, drawn by their ids where there are more.
    """
    if len(free) <= num_images:
        return list(free)
    free, known = _drawn(free, most), _drawn(known, most)
    vectors = _vectors(workspace, predictor, [*free, *known], progress)
    known_vectors = vectors[len(free) :]
    chosen = choice.representatives(vectors[: len(free)], num_images, known=known_vectors)
    return [free[index] for index in chosen]


def _drawn(rows: Sequence[Row], most: int) -> list[Row]:
    """A fixed shuffle, cut off: a large store is not read whole at each turn."""
    return sorted(rows, key=lambda row: unit_hash(0, str(row["image_id"])))[:most]


def _vectors(
    workspace: Workspace, predictor: Predictor, rows: Sequence[Row], progress: Progress
) -> npt.NDArray[np.float64]:
    """(N, C) mean embeddings."""
    vectors = []
    for done, row in enumerate(rows, start=1):
        pixels = workspace.reader.pixels(str(row["uri"]), str(row["image_id"]))
        vectors.append(predictor.embed(pixels).features.mean(dim=(1, 2)).double().numpy())
        progress.step("images surveyed", done, len(rows))
    return np.stack(vectors)
