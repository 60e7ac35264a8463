"""Which files of the store something names, and which nothing does."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.catalog.connection import DATA_FOLDER
from storage.catalog.lake import Lake
from storage.objects import FolderObjects

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


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A file that nothing names; `uri` is relative to the store's root."""

    uri: str
    bytes: int
    age_s: float


def lake_files(lake: Lake) -> set[Path]:
    """Every Parquet file that any snapshot needs."""
    data = lake.root / DATA_FOLDER
    return {
        data / row["folder"] / row["path"] if row["path_is_relative"] else Path(row["path"])
        for row in lake.rows(_LAKE_FILES.format(meta="__ducklake_metadata_lake"))
    }


def orphans(lake: Lake, objects: FolderObjects) -> list[Orphan]:
    """Every file in the store's folders that no snapshot and no row names, by uri.

    Look under the commit lock: a file may be named by the next commit.
    """
    named = {path.resolve() for path in lake_files(lake)}
    named |= {objects.path(row["uri"]).resolve() for row in lake.rows(_OBJECTS)}
    return sorted(_others(lake.root, named), key=lambda orphan: orphan.uri)


def _others(root: Path, named: set[Path]) -> Iterator[Orphan]:
    now = time.time()
    for path in (path for folder in FOLDERS for path in (root / folder).rglob("*")):
        if path.is_symlink() or path.resolve() in named or not path.is_file():
            continue
        stat = path.stat()
        yield Orphan(
            uri=path.relative_to(root).as_posix(), bytes=stat.st_size, age_s=now - stat.st_mtime
        )
