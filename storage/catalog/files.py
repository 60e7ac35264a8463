"""Which files of the store something names, and which nothing does."""

from storage.catalog.connection import DATA_FOLDER
from storage.catalog.lake import Lake
from storage.objects import FoundObject

FOLDERS = (DATA_FOLDER, "models", "embeddings")

# Paths in DuckLake's catalog are relative to the table's folder, and that to the schema's.
_LAKE_FILES = """
SELECT DISTINCT f.path, f.path_is_relative, s.path || t.path AS folder
FROM (SELECT table_id, path, path_is_relative FROM {meta}.ducklake_data_file
      UNION ALL
      SELECT table_id, path, path_is_relative FROM {meta}.ducklake_delete_file) f
JOIN {meta}.ducklake_table t ON f.table_id = t.table_id
JOIN {meta}.ducklake_schema s ON t.schema_id = s.schema_id
"""
_OBJECTS = """
SELECT weights_uri AS uri FROM model_versions
UNION ALL SELECT weights_uri FROM detectors
UNION ALL SELECT uri FROM embeddings
UNION ALL SELECT mask_uri FROM shards WHERE state = 'committed'
UNION ALL SELECT set_uri FROM shards WHERE state = 'committed'
UNION ALL SELECT candidate_uri FROM shards WHERE candidate_uri IS NOT NULL
"""


def lake_files(lake: Lake) -> set[str]:
    """Every Parquet file that any snapshot needs, by uri; one outside the store by its path."""
    here = lake.objects.address(DATA_FOLDER).removesuffix(DATA_FOLDER)
    return {
        f"{DATA_FOLDER}/{row['folder']}{row['path']}"
        if row["path_is_relative"]
        else row["path"].removeprefix(here)
        for row in lake.rows(_LAKE_FILES.format(meta="__ducklake_metadata_lake"))
    }


def orphans(lake: Lake) -> list[FoundObject]:
    """Every object of the store that no snapshot and no row names, by uri.

    Look under the lake's lock: an object may be named by the next commit.
    """
    named = lake_files(lake) | {row["uri"] for row in lake.rows(_OBJECTS)}
    found = (each for folder in FOLDERS for each in lake.objects.below(folder))
    return sorted((each for each in found if each.uri not in named), key=lambda each: each.uri)
