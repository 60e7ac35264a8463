"""What `repair` asks of the store."""

from storage.catalog.files import METADATA

# Files of masks that no person made, by their path below the lake's folder.
ONLY_AUTOMATIC = f"""
SELECT s.path || t.path || f.path AS path
FROM {METADATA}.ducklake_data_file f
JOIN {METADATA}.ducklake_table t USING (table_id)
JOIN {METADATA}.ducklake_schema s USING (schema_id)
JOIN {METADATA}.ducklake_column c ON c.table_id = f.table_id AND c.column_name = 'stage'
JOIN {METADATA}.ducklake_file_column_stats x
  ON x.data_file_id = f.data_file_id AND x.column_id = c.column_id
WHERE t.table_name = 'masks' AND x.min_value = 'auto' AND x.max_value = 'auto'
"""

# Shards whose rows are not what the ledger says, and rows of shards that were not committed.
WRONG_SHARDS = """
WITH found AS (SELECT shard_key, count(*) AS n FROM masks WHERE shard_key IS NOT NULL GROUP BY 1),
by_image AS (SELECT shard_key, image_id, count(*) AS n FROM masks GROUP BY ALL),
seen AS (SELECT shard_key, count(*) AS n FROM candidates GROUP BY 1),
sets AS (
    SELECT shard_key, count(DISTINCT image_id) AS images, count(*) AS n,
           sum(coalesce(num_candidates, 0)) AS candidates, sum(num_masks) AS masks
    FROM image_sets GROUP BY 1),
doubled AS (
    SELECT shard_key FROM image_sets
    QUALIFY row_number() OVER (
        PARTITION BY image_id, model_version, config_hash ORDER BY created_at, shard_key) > 1),
uneven AS (
    SELECT s.shard_key FROM image_sets s LEFT JOIN by_image b USING (shard_key, image_id)
    WHERE s.num_masks <> coalesce(b.n, 0))
SELECT shard_key, coalesce(state, 'unknown') AS state
FROM shards FULL JOIN found USING (shard_key) FULL JOIN sets USING (shard_key)
    FULL JOIN seen USING (shard_key)
WHERE CASE WHEN state = 'committed'
    THEN coalesce(found.n, 0) <> num_masks OR coalesce(sets.n, 0) <> num_images
         OR coalesce(images, 0) <> num_images OR coalesce(candidates, 0) <> coalesce(seen.n, 0)
         OR shard_key IN (FROM doubled) OR shard_key IN (FROM uneven)
    ELSE found.n > 0 OR sets.n > 0 OR seen.n > 0 END
"""


def _dangling(table: str, column: str, mend: str) -> tuple[str, str, str]:
    """(where, how many rows refer to masks that are not there, the SQL that mends them)."""
    lacks = f"{column} IS NOT NULL AND {column} NOT IN (SELECT mask_id FROM masks)"
    return (
        f"{table}.{column}",
        f"SELECT count(*) AS n FROM {table} WHERE {lacks}",
        f"{mend} WHERE {lacks}",
    )


# What is said of an automatic mask goes with it; what a person did stays, without naming it.
DANGLING = (
    _dangling("suppressions", "mask_id", "DELETE FROM suppressions"),
    _dangling("suppressions", "by_mask_id", "DELETE FROM suppressions"),
    _dangling("mask_labels", "mask_id", "DELETE FROM mask_labels"),
    _dangling("mask_vectors", "mask_id", "DELETE FROM mask_vectors"),
    _dangling("retractions", "mask_id", "DELETE FROM retractions"),
    _dangling("decisions", "mask_id", "UPDATE decisions SET mask_id = NULL"),
    _dangling("masks", "supersedes", "UPDATE masks SET supersedes = NULL"),
)
