"""Small files of a table become few large ones, sorted by what people ask for.

DuckLake merges adjacent files so that every snapshot stays readable: rows keep the snapshot that
they came with. A shard's own file is then named by no snapshot any more, so the ledger forgets it,
and the merged file is sealed instead.
"""

from dataclasses import dataclass
from operator import methodcaller

from storage.catalog import unheard
from storage.catalog.connection import DATA_FOLDER
from storage.catalog.files import METADATA, files_of_snapshots, lake_files, seal_all
from storage.catalog.lake import Lake, Transaction
from storage.catalog.schema import TABLES

# A file of this size is read at full speed, and is not worth being written once more.
SMALL_BYTES = 64 << 20
_REWRITE_FROM = 0.2  # share of a file's rows that are deleted
# Rows of an image lie together: asking for one image then opens few row groups.
SORTED_BY = {
    "masks": "image_id",
    "candidates": "image_id",
    "image_sets": "image_id",
    "embeddings": "image_id",
    "mask_labels": "mask_id",
    "mask_vectors": "image_id",
}
_KINDS = ("mask", "set", "candidate")


@dataclass(frozen=True, kw_only=True)
class TableFiles:
    """How many files the newest snapshot of a table needs, and how many of them are small."""

    table: str
    num_files: int
    num_small: int
    bytes: int


def survey(lake: Lake) -> list[TableFiles]:
    """The tables that have any file, in their order."""
    files = [file for file in files_of_snapshots(lake) if file.until is None]
    tables = []
    for table in TABLES:
        sizes = [file.bytes for file in files if file.table == table]
        small = sum(size < SMALL_BYTES for size in sizes)
        if sizes:
            tables.append(
                TableFiles(table=table, num_files=len(sizes), num_small=small, bytes=sum(sizes))
            )
    return tables


def compact(lake: Lake) -> None:
    """Merge small files, table by table; safe to kill and start again at any moment."""
    for found in survey(lake):
        if found.num_small > 1:
            _sort(lake, found.table)
            # DuckLake takes no change and no second merge into the transaction of a merge.
            for statement in _statements(found.table):
                rewrite(lake, found.table, statement, message=f"compact {found.table}")
    release_merged(lake)
    with lake.lock():
        seal_all(lake)


def rewrite(lake: Lake, table: str, statement: str, *, message: str) -> None:
    """Have DuckLake write files of `table` anew, in a commit of its own.

    What was written is kept under a second name until the commit is known to stand, for DuckLake
    removes it when the catalog's answer is lost, and has let go of what it was written from.
    """
    objects, folder = lake.objects, f"{DATA_FOLDER}/main/{table}"
    written: list[str] = []

    def body(tx: Transaction) -> None:
        before = {each.uri for each in objects.below(folder)}
        tx.rows(statement)
        written[:] = [each.uri for each in objects.below(folder) if each.uri not in before]
        unheard.keep_copies(objects, written)

    lake.commit(body, message=message)
    unheard.drop_copies(objects, written)


def _sort(lake: Lake, table: str) -> None:
    key = SORTED_BY.get(table)
    if key and not _is_sorted(lake, table):
        sql = f"ALTER TABLE {table} SET SORTED BY ({key} ASC)"
        lake.commit(methodcaller("rows", sql), message=f"compact {table}")


def _statements(table: str) -> list[str]:
    return [
        f"CALL ducklake_rewrite_data_files('lake', '{table}', delete_threshold => {_REWRITE_FROM})",
        f"CALL ducklake_merge_adjacent_files('lake', '{table}', max_file_size => {SMALL_BYTES})",
    ]


def release_merged(lake: Lake) -> None:
    """Have the ledger forget the files of shards that no snapshot needs any more."""
    kept = lake_files(lake)
    named = lake.rows(
        "SELECT shard_key, mask_uri, set_uri, candidate_uri FROM shards WHERE state = 'committed'"
    )
    merged = {
        kind: [
            row["shard_key"]
            for row in named
            if row[f"{kind}_uri"] and row[f"{kind}_uri"] not in kept
        ]
        for kind in _KINDS
    }
    if any(merged.values()):
        lake.commit(lambda tx: _forget(tx, merged), message="the ledger names no merged files")


def _forget(tx: Transaction, merged: dict[str, list[str]]) -> None:
    for kind, keys in merged.items():
        if keys:
            tx.execute(
                f"UPDATE shards SET {kind}_uri = NULL, {kind}_sha256 = NULL, {kind}_bytes = NULL "
                "WHERE list_contains(?, shard_key)",
                (keys,),
            )


def _is_sorted(lake: Lake, table: str) -> bool:
    return bool(
        lake.rows(
            f"SELECT 1 FROM {METADATA}.ducklake_sort_info i JOIN {METADATA}.ducklake_table t "
            "USING (table_id) WHERE t.table_name = ? AND i.end_snapshot IS NULL",
            (table,),
        )
    )
