"""The Parquet files of a shard: written under a name never used twice, read back whole."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from storage.catalog.connection import DATA_FOLDER
from storage.catalog.schema import arrow_schema, arrow_table
from storage.errors import ChecksumMismatchError, NotFoundError
from storage.failpoints import failpoint
from storage.objects import Objects
from storage.rows import CandidateRow, ImageSetRow, MaskRow, Row

# A third smaller than by default, as quickly written. Rows of an image are together, and whoever
# asks for one image reads the one group that may hold it.
_WRITING = {"compression": "zstd", "compression_level": 1, "row_group_size": 16_384}


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A Parquet file of one table's rows; `uri` is relative to the store's root."""

    uri: str
    sha256: str
    bytes: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class ShardReceipt:
    """What a worker wrote for a shard. Nothing of it counts before it is committed."""

    shard_key: str
    attempt: str
    masks: ShardFile
    sets: ShardFile
    candidates: ShardFile | None = None

    @property
    def num_masks(self) -> int:
        """Masks over all images; may be 0."""
        return self.masks.num_rows

    @property
    def num_images(self) -> int:
        """Images that were labelled."""
        return self.sets.num_rows


def write_shard_files(
    objects: Objects,
    shard_key: str,
    masks: Sequence[MaskRow],
    sets: Sequence[ImageSetRow],
    candidates: Sequence[CandidateRow] = (),
) -> ShardReceipt:
    """Write a shard's masks and sets among the `objects` of a store, and say where they lie.

    Without `candidates` there is no file of them. Raises ValueError for rows of another shard: they
    could never be taken back.
    """
    named = {row.shard_key for row in masks} | {row.shard_key for row in sets}
    named |= {row.shard_key for row in candidates}
    if strange := named - {shard_key}:
        raise ValueError(f"shard_key: must be {shard_key}, but a row has {strange.pop()}")
    attempt = uuid.uuid4().hex
    name = f"{shard_key}.{attempt}.parquet"
    receipt = ShardReceipt(
        shard_key=shard_key,
        attempt=attempt,
        masks=_write(objects, MaskRow, masks, name),
        sets=_write(objects, ImageSetRow, sets, name),
        candidates=_write(objects, CandidateRow, candidates, name) if candidates else None,
    )
    failpoint("shard.after_write")
    return receipt


def _write(objects: Objects, kind: type[Row], rows: Sequence[Row], name: str) -> ShardFile:
    buffer = pa.BufferOutputStream()
    pq.write_table(arrow_table(kind, rows), buffer, write_page_checksum=True, **_WRITING)
    # In the table's own folder: DuckLake then keeps the path relative to it.
    stored = objects.put(f"{DATA_FOLDER}/main/{kind.table}/{name}", buffer.getvalue().to_pybytes())
    return ShardFile(uri=stored.uri, sha256=stored.sha256, bytes=stored.bytes, num_rows=len(rows))


def verify(objects: Objects, receipt: ShardReceipt) -> None:
    """Read everything back; raises ChecksumMismatchError unless it is what the worker wrote.

    A file with a good footer and a broken body would be accepted by DuckLake, and then every scan
    of the table would fail.
    """
    masks = _verified(objects, receipt, receipt.masks, MaskRow)
    sets = _verified(objects, receipt, receipt.sets, ImageSetRow)
    counted: dict[str, int] = dict.fromkeys(sets.column("image_id").to_pylist(), 0)
    if len(counted) != sets.num_rows:
        raise _mismatch(receipt, receipt.sets, "names an image twice")
    for image_id in masks.column("image_id").to_pylist():
        if image_id not in counted:
            raise _mismatch(receipt, receipt.masks, f"has a mask of image {image_id}, not its own")
        counted[image_id] += 1
    if list(counted.values()) != sets.column("num_masks").to_pylist():
        raise _mismatch(receipt, receipt.sets, "counts other masks than there are")
    if receipt.candidates is not None:
        _verified(objects, receipt, receipt.candidates, CandidateRow)


def _verified(
    objects: Objects, receipt: ShardReceipt, file: ShardFile, kind: type[Row]
) -> pa.Table:
    try:
        data = objects.get(file.uri, sha256=file.sha256)
    except NotFoundError as error:
        raise _mismatch(receipt, file, "is gone") from error
    except ChecksumMismatchError as error:
        raise _mismatch(receipt, file, "is not the file that was written") from error
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise _mismatch(receipt, file, f"cannot be read: {error}") from error
    if table.num_rows != file.num_rows or not table.schema.equals(arrow_schema(kind)):
        raise _mismatch(receipt, file, "has other rows or columns than it should")
    return table


def _mismatch(receipt: ShardReceipt, file: ShardFile, what: str) -> ChecksumMismatchError:
    return ChecksumMismatchError(
        f"shard {receipt.shard_key}: {file.uri} {what}; it was not committed, "
        "run the same command again to label its images anew"
    )
