"""Which images the report shows: masks by stage as they stand, and proposals beside results."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.errors import StageError
from flows.report.data import STAGES
from flows.report.pictures import ACTION_COLOURS, Layer, Mask, Pixels, data_uri, overlay
from flows.report.reading import Reading

# Larger images cost seconds to draw and megabytes to hold, and show no more on a page.
MAX_PIXELS = 25_000_000
MAX_MASKS = 400
PER_KIND = 3
MAX_PAIRS = 4

Segmentation = Mapping[str, Any]
ReadImage = Callable[[str], Pixels]
Decode = Callable[[Segmentation], npt.NDArray[np.bool_]]
ReadProposals = Callable[[str], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the gallery gets what the store does not hold.

    `image` gives the pixels of an image id, `decode` the (H, W) mask of a segmentation, and
    `proposals` what a review item offered: mappings with `proposal_id` and `segmentation`.
    """

    image: ReadImage
    decode: Decode
    proposals: ReadProposals


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image with masks on it; `tally` says how many of each kind."""

    file_name: str
    uri: str
    tally: Sequence[tuple[str, int]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One reviewed image: what the model offered and what the person left."""

    file_name: str
    before: Picture
    after: Picture
    num_added: int


def gallery(reading: Reading, sources: Sources) -> list[Picture]:
    """A few images of each kind (labels, people's masks, automatic only) as they stand now."""
    rows = reading.rows(
        f"""WITH kinds AS (
                SELECT image_id, CASE WHEN bool_or(m.stage IN ('semi', 'manual')) THEN 1
                    WHEN bool_or(m.stage = 'label') THEN 0 ELSE 2 END AS kind
                FROM current_masks m JOIN images USING (image_id)
                WHERE height * width <= {MAX_PIXELS} GROUP BY image_id)
            SELECT image_id, file_name FROM kinds JOIN images USING (image_id)
            QUALIFY row_number() OVER (PARTITION BY kind ORDER BY image_id) <= {PER_KIND}
            ORDER BY kind, image_id"""
    )
    pictures = (_standing(reading, sources, row, STAGES) for row in rows)
    return [picture for picture in pictures if picture]


def pairs(reading: Reading, sources: Sources) -> list[Pair]:
    """Reviewed images of the newest model that offered proposals, before and after the person."""
    rows = reading.rows(
        f"""SELECT r.submission_id, r.item_id, r.image_id, r.num_added, i.file_name
            FROM reviews r JOIN images i USING (image_id)
            WHERE height * width <= {MAX_PIXELS} AND coalesce(r.kind, 'assist') = 'assist'
              AND r.num_accepted + r.num_edited + r.num_rejected > 0
            ORDER BY length(r.model_version) DESC, r.model_version DESC, r.image_id
            LIMIT {MAX_PAIRS}"""
    )
    return [pair for row in rows if (pair := _pair(reading, sources, row))]


def _pair(reading: Reading, sources: Sources, row: Mapping[str, Any]) -> Pair | None:
    actions = {
        decision["proposal_id"]: decision["action"]
        for decision in reading.rows(
            "SELECT proposal_id, action FROM decisions WHERE submission_id = ?",
            (row["submission_id"],),
        )
    }
    offered = [
        (actions[proposal["proposal_id"]], proposal["segmentation"])
        for proposal in sources.proposals(row["item_id"])
        if proposal["proposal_id"] in actions
    ]
    before = _picture(sources, row, offered, tuple(ACTION_COLOURS)) if offered else None
    after = _standing(reading, sources, row, ("semi", "manual")) if before else None
    if before is None or after is None:
        return None
    return Pair(file_name=row["file_name"], before=before, after=after, num_added=row["num_added"])


def _standing(
    reading: Reading, sources: Sources, row: Mapping[str, Any], stages: Sequence[str]
) -> Picture | None:
    masks = reading.rows(
        f"""SELECT stage, segmentation FROM current_masks
            WHERE image_id = ? AND list_contains(?, stage) AND NOT coalesce(is_crowd, false)
            ORDER BY area DESC LIMIT {MAX_MASKS}""",
        (row["image_id"], list(stages)),
    )
    return _picture(sources, row, [(mask["stage"], mask["segmentation"]) for mask in masks], stages)


def _picture(
    sources: Sources,
    row: Mapping[str, Any],
    masks: Sequence[tuple[str, Segmentation]],
    order: Sequence[str],
) -> Picture | None:
    """None when the image's file is gone or unreadable: the report is told from the rest."""
    try:
        image = sources.image(row["image_id"])
    except (OSError, ValueError, StageError):
        return None
    layers = [Layer(mask, kind) for kind, mask in _decoded(sources, image, masks)]
    tally = Counter(layer.kind for layer in layers)
    return Picture(
        file_name=row["file_name"],
        uri=data_uri(overlay(image, layers)),
        tally=[(kind, tally[kind]) for kind in order if tally[kind]],
    )


def _decoded(
    sources: Sources, image: Pixels, masks: Sequence[tuple[str, Segmentation]]
) -> Iterator[tuple[str, Mask]]:
    for kind, segmentation in masks:
        mask = sources.decode(segmentation)
        # fsck reports a mask of another size; here it would only break the picture.
        if mask.shape == image.shape[:2]:
            yield kind, mask
