"""Which images to look at closely: those that, with what people have seen, stand for all."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.asking import choice
from engine.model.predictor import Predictor
from flows.images.fetching import fetched_ahead
from flows.images.splits import unit_hash
from flows.progress import Progress
from flows.recipes import AssistConfig
from flows.waiting import Row, refs
from flows.workspace import Workspace


def worth_a_look(
    workspace: Workspace,
    predictor: Predictor,
    free: Sequence[Row],
    known: Sequence[Row],
    progress: Progress,
    *,
    config: AssistConfig,
) -> list[Row]:
    """The rows of `free` to look at closely, by the mean embedding of each image alone.

    Encoding costs a hundredth of generating masks, so it can go far: over `config.survey` images of
    each kind, drawn by their ids where there are more. What needs no look to be chosen is chosen
    here: images at random, and those far from all others.
    """
    if config.choose == "random":
        return _drawn(free, config.num_images)
    final = config.choose == "diversity"
    num_images = config.num_images if final else config.pool
    if len(free) <= num_images:
        return list(free)
    free, known = _drawn(free, config.survey), _drawn(known, config.survey)
    vectors = _vectors(workspace, predictor, [*free, *known], progress)
    own, others = vectors[: len(free)], vectors[len(free) :]
    if final:
        chosen = choice.choose_images(own, np.zeros(len(own)), num_images, known=others)
    else:
        chosen = choice.representatives(own, num_images, known=others)
    return [free[index] for index in chosen]


def _drawn(rows: Sequence[Row], most: int) -> list[Row]:
    """A fixed shuffle, cut off: a large store is not read whole at each turn."""
    return sorted(rows, key=lambda row: unit_hash(0, str(row["image_id"])))[:most]


def _vectors(
    workspace: Workspace, predictor: Predictor, rows: Sequence[Row], progress: Progress
) -> npt.NDArray[np.float64]:
    """(N, C) mean embeddings."""
    vectors = []
    with fetched_ahead(reader := workspace.reader, refs(rows)):
        for done, (uri, image_id) in enumerate(refs(rows), start=1):
            vectors.append(predictor.embed(reader.pixels(uri, image_id)).vector)
            progress.step("images surveyed", done, len(rows))
    return np.stack(vectors)
