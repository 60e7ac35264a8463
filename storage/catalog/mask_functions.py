"""SQL functions on masks: whole columns of segmentations go in, whole columns come out.

What a code means is not known here: the functions are given, as a module that is `MaskFunctions`.
Also the process that runs a user's SQL imports this, before it locks itself in: nothing of the
project is imported here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from duckdb import DuckDBPyConnection
from duckdb.func import ARROW, SPECIAL

Ints = npt.NDArray[np.int64]
SEGMENTATION = 'STRUCT("size" INTEGER[], counts VARCHAR)'
# Name -> type of the answer.
_OF_ONE = {
    "mask_area": "BIGINT",
    "mask_bbox": "DOUBLE[]",
    "mask_polygon": "INTEGER[][][]",
    "mask_png": "BLOB",
}
NAMES = frozenset({*_OF_ONE, "mask_iou"})


class Column(NamedTuple):
    """N codes: letters (B,) uint8, offsets (N + 1,) into them, sizes (N, 2) as (height, width)."""

    letters: npt.NDArray[np.uint8]
    offsets: Ints
    sizes: Ints


class MaskFunctions(Protocol):
    """What storage asks of masks. All raise ValueError for a malformed code."""

    @property
    def areas(self) -> Callable[[Any], Ints]:
        """Codes -> (N,) pixels."""

    @property
    def boxes(self) -> Callable[[Any], Ints]:
        """Codes -> (N, 4) xyxy."""

    @property
    def comparable(self) -> Callable[[Any], Any]:
        """Codes -> what `ious` compares."""

    @property
    def ious(self) -> Callable[[Any, Ints, Any, Ints], npt.NDArray[np.float64]]:
        """Comparable masks and (P,) indices of them, twice -> (P,) intersection over union."""

    @property
    def rings(self) -> Callable[[Any], list[list[list[list[int]]]]]:
        """Codes -> the rings of points of each."""

    @property
    def pictures(self) -> Callable[[Any], list[bytes]]:
        """Codes -> a PNG of each."""


def register(connection: DuckDBPyConnection, functions: MaskFunctions) -> None:
    """Let SQL on this connection call NAMES; NULL gives NULL, a malformed code an error."""
    answers: dict[str, Callable[[Column], pa.Array]] = {
        "mask_area": lambda column: pa.array(functions.areas(column)),
        "mask_bbox": lambda column: _xywh(functions.boxes(column)),
        "mask_polygon": lambda column: pa.array(
            functions.rings(column), pa.list_(pa.list_(pa.list_(pa.int32())))
        ),
        "mask_png": lambda column: pa.array(functions.pictures(column), pa.binary()),
    }
    for name, kind in _OF_ONE.items():
        _create(connection, name, 1, kind, _of_one(name, answers[name]))
    _create(connection, "mask_iou", 2, "DOUBLE", _of_two("mask_iou", functions))


def _create(
    connection: DuckDBPyConnection, name: str, num_masks: int, kind: str, function: Any
) -> None:
    connection.create_function(
        name,
        function,
        [connection.type(SEGMENTATION)] * num_masks,
        connection.type(kind),
        type=ARROW,
        null_handling=SPECIAL,
    )


def _of_one(name: str, answer: Callable[[Column], pa.Array]) -> Callable[[Any], pa.Array]:
    def function(masks: Any) -> pa.Array:
        there = pc.is_valid(masks)
        try:
            found = answer(_column(_whole(masks).drop_null()))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        return _put_back(found, there)

    return function


def _of_two(name: str, functions: MaskFunctions) -> Callable[[Any, Any], pa.Array]:
    known = _Known(functions), _Known(functions)

    def function(left: Any, right: Any) -> pa.Array:
        left, right = _whole(left), _whole(right)
        there = pc.and_(pc.is_valid(left), pc.is_valid(right))
        pair = left.filter(there), right.filter(there)
        try:
            a, b = (side.find(masks) for side, masks in zip(known, pair, strict=True))
            found = pa.array(functions.ious(*a, *b))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        return _put_back(found, there)

    return function


def _whole(masks: Any) -> pa.StructArray:
    return masks.combine_chunks() if isinstance(masks, pa.ChunkedArray) else masks


def _put_back(found: pa.Array, there: Any) -> pa.Array:
    """Answers at the places of what there was, NULL elsewhere."""
    there = _whole(there)
    if there.true_count == len(there):
        return found
    place = np.cumsum(there.to_numpy(zero_copy_only=False)) - 1
    return found.take(pa.array(place, mask=~there.to_numpy(zero_copy_only=False)))


def _column(masks: pa.StructArray) -> Column:
    """Codes that are all there; raises ValueError for one without counts or with a wrong size."""
    size, counts = masks.field("size"), masks.field("counts")
    if size.null_count or counts.null_count or size.flatten().null_count:
        raise ValueError("segmentation: must have size and counts, but got NULL")
    if not pc.all(pc.equal(pc.list_value_length(size), 2)).as_py() and len(masks):
        raise ValueError("size: must be [height, width]")
    letters, offsets = _letters(counts)
    return Column(letters, offsets, size.flatten().to_numpy().astype(np.int64).reshape(-1, 2))


def _letters(counts: pa.Array) -> tuple[npt.NDArray[np.uint8], Ints]:
    wide = pa.types.is_large_string(counts.type)
    _, offset_buffer, letter_buffer = counts.buffers()
    kind = np.int64 if wide else np.int32
    offsets = np.frombuffer(offset_buffer, kind)[counts.offset : counts.offset + len(counts) + 1]
    offsets = offsets.astype(np.int64)
    letters = np.frombuffer(letter_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return letters, offsets - offsets[0]


class _Known:
    """Comparable masks that are read once while they come again: a join brings each many times."""

    def __init__(self, functions: MaskFunctions) -> None:
        self._functions = functions
        self._kept: tuple[pa.Array, Ints, Any] | None = None

    def find(self, codes: pa.StructArray) -> tuple[Any, Ints]:
        """Comparable masks, and which of them each code is."""
        column, counts = _column(codes), codes.field("counts")
        if (seen := self._seen(column, counts)) is not None:
            return seen
        coded = counts.dictionary_encode()
        which = coded.indices.to_numpy().astype(np.int64)
        first = np.zeros(len(coded.dictionary), dtype=np.int64)
        first[which[::-1]] = np.arange(len(which))[::-1]
        sizes = column.sizes[first]
        if not np.array_equal(sizes[which], column.sizes):
            # The same letters mean another mask in an image of another size.
            return self._functions.comparable(column), np.arange(len(which))
        masks = self._functions.comparable(Column(*_letters(coded.dictionary), sizes))
        self._kept = (coded.dictionary, sizes, masks)
        return masks, which

    def _seen(self, column: Column, counts: pa.Array) -> tuple[Any, Ints] | None:
        """The same from what the last ones were, if all of these were among them."""
        if self._kept is None:
            return None
        codes, sizes, masks = self._kept
        index = pc.index_in(counts, value_set=codes)
        if index.null_count:
            return None
        which = index.to_numpy().astype(np.int64)
        return (masks, which) if np.array_equal(sizes[which], column.sizes) else None


def _xywh(boxes: Ints) -> pa.Array:
    boxes = boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    offsets = pa.array(np.arange(0, 4 * len(boxes) + 1, 4, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(boxes.ravel()))
