"""The ledger of shards: planned once, committed at most once, whoever tries and whenever they die.

Nothing in DuckLake stops a file from being added twice. So a shard is a row that is `pending`
before anyone works on it; the transaction that adds its files also turns the row from `pending` to
`committed`, and whoever finds no pending row drops what it has.
"""

from collections.abc import Callable, Sequence

from storage.catalog.lake import Lake, Transaction
from storage.catalog.shard_files import ShardFile, ShardReceipt, verify, write_shard_files
from storage.errors import ChecksumMismatchError
from storage.failpoints import failpoint
from storage.objects import Objects
from storage.rows import CandidateRow, ImageSetRow, MaskRow, Row, ShardRow, utcnow

__all__ = [
    "ShardReceipt",
    "commit_shards",
    "mark_dead",
    "pending",
    "plan",
    "write_shard_files",
]

ExtraRows = Callable[[Transaction, ShardReceipt], Sequence[Row]]


def plan(lake: Lake, rows: Sequence[ShardRow]) -> None:
    """Promise these shards; those that are pending or committed already stay as they are.

    A dead one becomes pending again: planning it anew is how it is given another chance.
    """
    if not rows:
        return

    def body(tx: Transaction) -> None:
        keys = [row.shard_key for row in rows]
        known = tx.rows(
            "SELECT shard_key, state FROM shards WHERE list_contains(?, shard_key)", (keys,)
        )
        state = {row["shard_key"]: row["state"] for row in known}
        tx.insert([row for row in rows if row.shard_key not in state])
        if dead := [key for key in keys if state.get(key) == "dead"]:
            tx.execute(
                "UPDATE shards SET state = 'pending', reason = NULL "
                "WHERE list_contains(?, shard_key) AND state = 'dead'",
                (dead,),
            )

    lake.commit(body, message=f"plan {len(rows)} shards")


def pending(lake: Lake, model_version: str, config_hash: str) -> list[ShardRow]:
    """The shards of one model and config that nobody has committed yet, oldest first."""
    rows = lake.rows(
        "SELECT * FROM shards WHERE model_version = ? AND config_hash = ? AND state = 'pending' "
        "ORDER BY planned_at, shard_key",
        (model_version, config_hash),
    )
    return [ShardRow(**row) for row in rows]


def mark_dead(lake: Lake, shard_key: str, reason: str) -> None:
    """Give a pending shard up, with the reason; one that was committed meanwhile stays."""
    lake.commit(
        lambda tx: tx.execute(
            "UPDATE shards SET state = 'dead', reason = ? "
            "WHERE shard_key = ? AND state = 'pending'",
            (reason, shard_key),
        ),
        message=f"shard {shard_key} is dead",
    )


def commit_shards(
    lake: Lake, receipts: Sequence[ShardReceipt], *, extra_rows: ExtraRows | None = None
) -> list[ShardReceipt]:
    """Commit what workers wrote, in one transaction; returns the receipts that were taken.

    A receipt is left out when its shard is no longer pending: somebody else committed it.
    `extra_rows` gives the rows that belong to a receipt, with its masks already in sight. Raises
    ChecksumMismatchError for a damaged file, after all others have been committed.
    """
    sound, damage = _sound(lake.objects, receipts)
    taken: list[ShardReceipt] = []
    if sound:
        taken = lake.commit(
            lambda tx: [receipt for receipt in sound if _take(tx, lake, receipt, extra_rows)],
            message=f"commit {len(sound)} shards",
        )
        failpoint("commit.after_commit")
    if damage:
        raise damage[0]
    return taken


def _sound(
    objects: Objects, receipts: Sequence[ShardReceipt]
) -> tuple[list[ShardReceipt], list[ChecksumMismatchError]]:
    sound, damage = [], []
    for receipt in receipts:
        try:
            verify(objects, receipt)
        except ChecksumMismatchError as error:
            damage.append(error)
        else:
            sound.append(receipt)
    return sound, damage


def _take(tx: Transaction, lake: Lake, receipt: ShardReceipt, extra_rows: ExtraRows | None) -> bool:
    if not _win(tx, receipt):
        return False
    failpoint("commit.after_update")
    for kind, file in (
        (MaskRow, receipt.masks),
        (ImageSetRow, receipt.sets),
        (CandidateRow, receipt.candidates),
    ):
        if file is not None:
            _add(tx, lake.objects, kind.table, file)
    failpoint("commit.after_add")
    if extra_rows is not None:
        tx.insert(extra_rows(tx, receipt))
    return True


def _win(tx: Transaction, receipt: ShardReceipt) -> bool:
    changed = tx.execute(
        """UPDATE shards SET state = 'committed', reason = NULL, attempt = ?, committed_at = ?,
                  mask_uri = ?, mask_sha256 = ?, mask_bytes = ?, num_masks = ?,
                  set_uri = ?, set_sha256 = ?, set_bytes = ?,
                  candidate_uri = ?, candidate_sha256 = ?, candidate_bytes = ?
           WHERE shard_key = ? AND state = 'pending'""",
        (
            receipt.attempt,
            utcnow(),
            receipt.masks.uri,
            receipt.masks.sha256,
            receipt.masks.bytes,
            receipt.num_masks,
            receipt.sets.uri,
            receipt.sets.sha256,
            receipt.sets.bytes,
            *_named(receipt.candidates),
            receipt.shard_key,
        ),
    )
    assert changed <= 1, f"shard {receipt.shard_key} is in the ledger {changed} times"
    return changed == 1


def _named(file: ShardFile | None) -> tuple[str | None, str | None, int | None]:
    return (None, None, None) if file is None else (file.uri, file.sha256, file.bytes)


def _add(tx: Transaction, objects: Objects, table: str, file: ShardFile) -> None:
    # The sweep takes only old files, but it may have run since this one was verified.
    found = objects.find(file.uri)
    if found is None or found.bytes != file.bytes:
        raise ChecksumMismatchError(f"{file.uri}: gone or changed; run the same command again")
    if file.num_rows:
        tx.execute("CALL ducklake_add_data_files('lake', ?, ?)", (table, objects.address(file.uri)))
