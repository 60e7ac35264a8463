"""Which files of the store something names, and which nothing does."""

from collections.abc import Mapping
from dataclasses import dataclass

from storage.catalog import seals
from storage.catalog.connection import DATA_FOLDER
from storage.catalog.lake import Lake
from storage.objects import FoundObject

FOLDERS = (DATA_FOLDER, "models", "embeddings")
METADATA = "__ducklake_metadata_lake"

# Paths in DuckLake's catalog are relative to the table's folder, and that to the schema's.
_LAKE_FILES = f"""
SELECT DISTINCT t.table_name, f.*, s.path || t.path AS folder
FROM (SELECT table_id, path, path_is_relative, begin_snapshot, end_snapshot, false AS is_delete,
             record_count, file_size_bytes, footer_size
      FROM {METADATA}.ducklake_data_file
      UNION ALL
      SELECT table_id, path, path_is_relative, begin_snapshot, end_snapshot, true,
             delete_count, file_size_bytes, footer_size
      FROM {METADATA}.ducklake_delete_file) f
JOIN {METADATA}.ducklake_table t USING (table_id)
JOIN {METADATA}.ducklake_schema s USING (schema_id)
"""
_OBJECTS = """
SELECT weights_uri AS uri FROM model_versions
UNION ALL SELECT weights_uri FROM detectors
UNION ALL SELECT uri FROM embeddings
UNION ALL SELECT mask_uri FROM shards WHERE state = 'committed' AND mask_uri IS NOT NULL
UNION ALL SELECT set_uri FROM shards WHERE state = 'committed' AND set_uri IS NOT NULL
UNION ALL SELECT candidate_uri FROM shards WHERE candidate_uri IS NOT NULL
"""
_SUMS = """
SELECT weights_uri AS uri, weights_sha256 AS sha256 FROM model_versions
UNION ALL SELECT weights_uri, weights_sha256 FROM detectors
UNION ALL SELECT uri, arg_max(sha256, created_at) FROM embeddings GROUP BY uri
UNION ALL SELECT mask_uri, mask_sha256 FROM shards WHERE mask_uri IS NOT NULL
UNION ALL SELECT set_uri, set_sha256 FROM shards WHERE set_uri IS NOT NULL
UNION ALL SELECT candidate_uri, candidate_sha256 FROM shards WHERE candidate_uri IS NOT NULL
"""
# What expiry and compaction have freed: DuckLake lists it, and since when.
_SCHEDULED = f"""
SELECT path, path_is_relative,
       epoch(now()) - epoch(CAST(schedule_start AS TIMESTAMPTZ)) AS age_s
FROM {METADATA}.ducklake_files_scheduled_for_deletion
"""


@dataclass(frozen=True, kw_only=True)
class LakeFile:
    """A file that the snapshots from `since` up to, but without, `until` need.

    `until` is None for one that is in use. A file of deleted rows `is_delete`.
    """

    uri: str
    table: str
    is_delete: bool
    num_rows: int
    bytes: int
    footer_bytes: int | None
    since: int
    until: int | None


def files_of_snapshots(lake: Lake) -> list[LakeFile]:
    """Every Parquet file that any snapshot needs; the uri of one outside the store is its path."""
    here = lake.objects.address(DATA_FOLDER).removesuffix(DATA_FOLDER)
    return [
        LakeFile(
            uri=f"{DATA_FOLDER}/{row['folder']}{row['path']}"
            if row["path_is_relative"]
            else row["path"].removeprefix(here),
            table=row["table_name"],
            is_delete=bool(row["is_delete"]),
            num_rows=row["record_count"],
            bytes=row["file_size_bytes"],
            footer_bytes=row["footer_size"],
            since=row["begin_snapshot"],
            until=row["end_snapshot"],
        )
        for row in lake.rows(_LAKE_FILES)
    ]


def lake_files(lake: Lake) -> set[str]:
    """The uri of every Parquet file that any snapshot needs."""
    return {file.uri for file in files_of_snapshots(lake)}


def named_by_rows(lake: Lake) -> set[str]:
    """The uri of every object that a row of the newest snapshot names."""
    return {row["uri"] for row in lake.rows(_OBJECTS)}


def scheduled(lake: Lake) -> dict[str, float]:
    """Uri -> seconds since no snapshot needs it, of what expiry and compaction have freed."""
    here = lake.objects.address(DATA_FOLDER).removesuffix(DATA_FOLDER)
    return {
        f"{DATA_FOLDER}/{row['path']}"
        if row["path_is_relative"]
        else row["path"].removeprefix(here): max(row["age_s"], 0.0)
        for row in lake.rows(_SCHEDULED)
    }


def objects_there(lake: Lake) -> list[FoundObject]:
    """Every object in the folders of the store."""
    return [each for folder in FOLDERS for each in lake.objects.below(folder)]


def orphans(lake: Lake) -> list[FoundObject]:
    """Every object of the store that no snapshot and no row names, by uri.

    Look under the lake's lock: an object may be named by the next commit.
    """
    named = lake_files(lake) | named_by_rows(lake)
    return sorted(
        (each for each in objects_there(lake) if each.uri not in named), key=lambda each: each.uri
    )


def known_sums(lake: Lake) -> dict[str, str]:
    """Uri -> SHA-256 of every object of which the store knows what it must be."""
    rows = lake.rows(_SUMS)
    return seals.sealed(lake.objects) | {row["uri"]: row["sha256"] for row in rows}


def is_sound(lake: Lake, uri: str, sums: Mapping[str, str]) -> bool:
    """Whether an object is there, and what it must be as far as that is known."""
    if lake.objects.find(uri) is None:
        return False
    return uri not in sums or lake.objects.sha256(uri) == sums[uri]


def seal_all(lake: Lake) -> None:
    """Seal what DuckLake wrote and no seal was taken of, and bring all notes into one."""
    files = lake_files(lake)
    sums = known_sums(lake)
    there = {each.uri for each in lake.objects.below(DATA_FOLDER)}
    seals.seal(lake.objects, sorted(files & there - sums.keys()))
    seals.tidy(lake.objects, files)
