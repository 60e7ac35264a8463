"""Masks by a text or by another mask: an exact comparison with the vector of every mask.

The vectors of one CLIP lie in a file of the workspace's cache, which is made again when the store
has others; it is mapped into memory, and the operating system keeps what is asked often.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.clip.mask_encoder import MaskEncoder
from engine.clip.nearest import nearest
from flows.clip.clips import not_known
from flows.clip.mask_vectors import Vectors, unpacked
from flows.errors import UsageError
from flows.workspace import Workspace, placeholders
from storage.durable import part_of, put_in_place

# Masks that were corrected since have a vector still: so many more are looked at than are wanted.
_SPARE = 4
_ROWS_IN_A_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A mask that stands, and how similar it is to what was asked for, from -1 to 1."""

    mask_id: str
    image_id: str
    file_name: str
    similarity: float
    category: str | None
    bbox: list[float]


@dataclass(frozen=True)
class VectorIndex:
    """Every vector of one encoder: mask_ids (N,), vectors (N, D)."""

    mask_ids: npt.NDArray[np.str_]
    vectors: Vectors

    @classmethod
    def of(cls, workspace: Workspace, encoder: MaskEncoder) -> "VectorIndex":
        """The newest, out of the cache where that is it."""
        which = (encoder.encoder_id,)
        state = workspace.lake.rows(
            "SELECT count(*) AS n, max(created_at) AS newest FROM mask_vectors "
            "WHERE encoder_id = ?",
            which,
        )[0]
        name = f"{encoder.encoder_id}-{state['n']}-{str(state['newest']).replace(' ', 'T')}"
        folder = workspace.folder("cache", "vectors")
        paths = [folder / f"{name}.{part}.npy" for part in ("ids", "vectors")]
        if not all(path.is_file() for path in paths):
            found = workspace.lake.arrow(
                "SELECT mask_id, vector FROM mask_vectors WHERE encoder_id = ? ORDER BY mask_id",
                which,
            )
            mask_ids = np.array(found["mask_id"].to_pylist(), dtype=np.str_)
            vectors = unpacked(found["vector"], encoder.clip.dim)
            _replace(folder, encoder.encoder_id, paths, (mask_ids, vectors))
        return cls(*(np.load(path, mmap_mode="c") for path in paths))

    def best(self, query: npt.NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        """The masks most similar to `query` (D,), best first."""
        starts = range(0, len(self.vectors), _ROWS_IN_A_BLOCK)
        blocks = (np.asarray(self.vectors[start : start + _ROWS_IN_A_BLOCK]) for start in starts)
        found = nearest(query[None], blocks, count)
        return [
            (str(self.mask_ids[row]), float(similarity))
            for row, similarity in zip(found.rows[0], found.similarities[0], strict=True)
        ]

    def vector(self, mask_id: str) -> npt.NDArray[np.float32] | None:
        """(D,) of one mask; None where there is none."""
        place = int(np.searchsorted(self.mask_ids, mask_id))
        if place == len(self.mask_ids) or self.mask_ids[place] != mask_id:
            return None
        return np.asarray(self.vectors[place], dtype=np.float32)


def search(
    workspace: Workspace,
    encoder: MaskEncoder,
    *,
    text: str | None = None,
    like: str | None = None,
    count: int = 20,
) -> list[Hit]:
    """The masks that stand and are most similar to a text, or to the mask `like`, best first.

    Raises UsageError where no mask has a vector, or `like` has none.
    """
    if (text is None) == (like is None):
        raise UsageError("search: takes a text, or --like MASK")
    if count < 1:
        raise UsageError(f"--count: must be at least 1, but got {count}")
    index = VectorIndex.of(workspace, encoder)
    if not len(index.mask_ids):
        raise UsageError("search: no mask was seen by this CLIP; run: maskloop label")
    if text is not None:
        if unknown := encoder.clip.unknown_words(text):
            raise UsageError(f"search: TEXT {not_known(unknown)}")
        query = encoder.clip.embed_texts([text])[0]
    else:
        assert like is not None, "one of the two is there"
        query = _like(index, like)
    return _standing(workspace, index, query, count, other_than=like)


def _like(index: VectorIndex, mask_id: str) -> npt.NDArray[np.float32]:
    found = index.vector(mask_id)
    if found is None:
        raise UsageError(f"--like: mask {mask_id!r} was not seen by this CLIP; run: maskloop label")
    return found


def _standing(
    workspace: Workspace,
    index: VectorIndex,
    query: npt.NDArray[np.float32],
    count: int,
    *,
    other_than: str | None,
) -> list[Hit]:
    wanted = count + 1
    while True:
        wanted = min(wanted * _SPARE, len(index.mask_ids))
        best = index.best(query, wanted)
        rows = _rows(workspace, [mask_id for mask_id, _ in best if mask_id != other_than])
        hits = [
            Hit(similarity=similarity, **rows[mask_id])
            for mask_id, similarity in best
            if mask_id in rows
        ]
        if len(hits) >= count or wanted == len(index.mask_ids):
            return hits[:count]


def _rows(workspace: Workspace, mask_ids: list[str]) -> dict[str, dict[str, Any]]:
    images = "SELECT image_id FROM masks WHERE mask_id IN"
    found = workspace.lake.rows(
        f"""SELECT m.mask_id, m.image_id, i.file_name, named.category, m.bbox
            FROM current_masks m JOIN images i USING (image_id)
            LEFT JOIN mask_names named USING (mask_id)
            WHERE m.image_id IN ({images} ({placeholders(mask_ids)}))
              AND m.mask_id IN ({placeholders(mask_ids)})""",
        (*mask_ids, *mask_ids),
    )
    return {row["mask_id"]: row for row in found}


def _replace(
    folder: Path, encoder_id: str, paths: list[Path], arrays: tuple[npt.NDArray[Any], ...]
) -> None:
    """Keep the arrays, each whole or not at all, and drop those of earlier states."""
    for path, array in zip(paths, arrays, strict=True):
        part = part_of(path)
        with part.open("wb") as stream:
            np.save(stream, array)
            stream.flush()
            os.fsync(stream.fileno())
        put_in_place(part, path)
    for path in folder.glob(f"{encoder_id}-*.npy"):
        if path not in paths:
            path.unlink(missing_ok=True)
