"""What CLIP sees of each mask, kept in the store: each image is decoded once, for all its masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.clip.mask_encoder import MaskEncoder
from engine.clip.model import Embeddings
from engine.clip.nearest import packed
from engine.rle import Rle
from engine.threads import each_image
from flows.errors import StageError
from flows.images.fetching import fetched_ahead
from flows.progress import Progress
from flows.suppression import as_rle
from flows.workspace import Workspace, placeholders
from storage.catalog.lake import Transaction
from storage.row import Row
from storage.rows import MaskVectorRow, utcnow

Vectors = npt.NDArray[np.float16]

# What one commit brings: little is lost when it is interrupted, and files are not too small.
_MASKS_AT_ONCE = 20_000
_IMAGES_AT_ONCE = 500
# Regions of many objects have no name of their own.
_LACKING = """FROM current_masks m JOIN images i USING (image_id)
    ANTI JOIN (SELECT mask_id FROM mask_vectors WHERE encoder_id = ?) v ON v.mask_id = m.mask_id
    WHERE NOT m.is_crowd AND m.area > 0"""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """How many masks have a vector that had none, and the images that could not be read."""

    num_masks: int
    num_images: int
    unread: tuple[str, ...]


def fill_vectors(
    workspace: Workspace, encoder: MaskEncoder, run_id: str, progress: Progress
) -> Filled:
    """Give every mask that stands its vector; interrupted, the same call goes on.

    An image that cannot be read is named in the answer, and the others are done.
    """
    lacking = workspace.lake.rows(
        f"SELECT m.image_id, i.uri, count(*) AS num {_LACKING} GROUP BY ALL ORDER BY 1",
        (encoder.encoder_id,),
    )
    num_masks, unread = 0, []
    with fetched_ahead(workspace.reader, ((row["uri"], row["image_id"]) for row in lacking)):
        done = 0
        for images in _portions(lacking):
            rows, errors = _vectors(workspace, encoder, images, run_id)
            num_masks += _keep_new(workspace, rows, images)
            unread += errors
            done += len(images)
            progress.step("images whose masks CLIP has seen", done, len(lacking))
    return Filled(num_masks=num_masks, num_images=len(lacking) - len(unread), unread=tuple(unread))


def _keep_new(
    workspace: Workspace, rows: Sequence[MaskVectorRow], images: Sequence[dict[str, Any]]
) -> int:
    """Commit the rows of masks that no other machine has seen meanwhile; returns how many."""
    names = [image["image_id"] for image in images]

    def body(tx: Transaction) -> int:
        known = tx.rows(
            "SELECT mask_id FROM mask_vectors WHERE encoder_id = ? "
            f"AND image_id IN ({placeholders(names)})",
            (rows[0].encoder_id, *names),
        )
        seen = {row["mask_id"] for row in known}
        new = [row for row in rows if row.mask_id not in seen]
        tx.insert(new)
        return len(new)

    if not rows:
        return 0
    return workspace.lake.commit(body, message=f"vectors of {len(rows)} masks")


def keep(workspace: Workspace, rows: Sequence[Row], message: str) -> None:
    """Commit the rows."""
    workspace.lake.commit(lambda tx: tx.insert(rows), message=message)


def _portions(images: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    portion: list[dict[str, Any]] = []
    num = 0
    for image in images:
        if portion and (num + image["num"] > _MASKS_AT_ONCE or len(portion) == _IMAGES_AT_ONCE):
            yield portion
            portion, num = [], 0
        portion.append(image)
        num += image["num"]
    if portion:
        yield portion


def _vectors(
    workspace: Workspace, encoder: MaskEncoder, images: Sequence[dict[str, Any]], run_id: str
) -> tuple[list[MaskVectorRow], list[str]]:
    """The rows of some images' masks, and what is wrong with images that cannot be read."""
    names = [image["image_id"] for image in images]
    masks: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for row in workspace.lake.rows(
        f"SELECT m.mask_id, m.image_id, m.segmentation {_LACKING} "
        f"AND m.image_id IN ({placeholders(names)}) ORDER BY m.mask_id",
        (encoder.encoder_id, *names),
    ):
        masks[row["image_id"]].append(row)
    reader = workspace.reader

    def of_image(number: int) -> Embeddings | StageError:
        image = images[number]
        shapes: list[Rle] = [as_rle(row["segmentation"]) for row in masks[image["image_id"]]]
        try:
            return encoder.vectors(reader.pixels(image["uri"], image["image_id"]), shapes)
        except StageError as error:
            return error

    now = utcnow()
    rows: list[MaskVectorRow] = []
    errors: list[str] = []
    numbers = range(len(images))
    for number, found in zip(
        numbers, each_image(of_image, numbers, at_once=len(images)), strict=True
    ):
        if isinstance(found, StageError):
            errors.append(str(found))
            continue
        rows += [
            MaskVectorRow(
                mask_id=row["mask_id"],
                image_id=row["image_id"],
                encoder_id=encoder.encoder_id,
                vector=vector.tobytes(),
                run_id=run_id,
                created_at=now,
            )
            for row, vector in zip(masks[names[number]], packed(found), strict=True)
        ]
    return rows, errors


def unpacked(column: Any, dim: int) -> Vectors:
    """(N, D) of an Arrow column of `mask_vectors.vector`."""
    found: Vectors = np.frombuffer(b"".join(column.to_pylist()), dtype="<f2").reshape(-1, dim)
    return found
