"""The views of the lake: what stands, where it comes from, and what must never be.

DuckLake keeps a view as text, so an earlier snapshot has the views that it was made with. One view
may read another that comes before it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from storage.rows import MaskRow


@dataclass(frozen=True)
class View:
    """A query with a name of its own, and the columns that it gives."""

    columns: tuple[str, ...]
    sql: str


# What people corrected and took back, with one look at each table: a look costs DuckLake questions
# to its catalog. That a file has no such mask its statistics tell a comparison, not IS NOT NULL.
# The recursion is over revoked masks alone, of which there are few or none: a mask that one of
# them had replaced stands again, unless a sound one has replaced the revoked one since.
_CORRECTIONS = """
WITH RECURSIVE retracted AS MATERIALIZED (
    SELECT mask_id, bool_or(cause IS NOT NULL) AS is_revoked FROM retractions GROUP BY mask_id),
links AS MATERIALIZED (
    SELECT masks.mask_id, supersedes, coalesce(is_revoked, false) AS is_revoked
    FROM masks LEFT JOIN retracted USING (mask_id) WHERE supersedes >= ''),
through(mask_id, by_mask_id) AS (
    SELECT revoked.supersedes, sound.mask_id
    FROM links revoked JOIN links sound ON sound.supersedes = revoked.mask_id
    WHERE revoked.is_revoked AND NOT sound.is_revoked
    UNION
    SELECT links.supersedes, by_mask_id FROM through JOIN links USING (mask_id) WHERE is_revoked),
replaced AS (
    SELECT supersedes AS mask_id, mask_id AS by_mask_id FROM links WHERE NOT is_revoked
    UNION ALL SELECT mask_id, by_mask_id FROM through)
"""

# What a person or a file says comes before what a threshold accepted; the last word counts.
_MASK_NAMES = """
SELECT mask_id, category, score, accepted_by, classes_hash FROM mask_labels
WHERE accepted_by IS NOT NULL AND category IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY mask_id
    ORDER BY classes_hash IS NOT NULL, created_at DESC, score DESC, category) = 1
"""

_SUPERSEDED_MASKS = f"{_CORRECTIONS} SELECT mask_id, by_mask_id FROM replaced"

# NOT IN, because an anti join of all masks may be turned round, and then holds them in memory.
_CURRENT_MASKS = f"""
{_CORRECTIONS},
fallen AS MATERIALIZED (
    SELECT mask_id FROM replaced UNION ALL SELECT mask_id FROM retracted),
suppressed AS (
    SELECT mask_id FROM suppressions
    WHERE by_mask_id IN (SELECT mask_id FROM masks WHERE stage IN ('label', 'manual', 'semi'))
      AND by_mask_id NOT IN (FROM fallen)),
serving AS (SELECT version AS model_version FROM model_versions WHERE status = 'promoted'),
newest AS (
    SELECT image_id, model_version, config_hash
    FROM image_sets SEMI JOIN serving USING (model_version)
    QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY created_at DESC, config_hash) = 1)
SELECT m.* FROM masks m LEFT JOIN newest n ON n.image_id = m.image_id
WHERE m.mask_id NOT IN (FROM fallen)
  AND (m.stage IN ('label', 'manual', 'semi')
       OR (m.stage = 'auto' AND m.model_version = n.model_version
           AND m.config_hash = n.config_hash AND m.mask_id NOT IN (FROM suppressed)))
"""

# An earlier maskloop kept which images a model was trained on, but not which masks: those of
# people that stood when its run began, by their times.
_TRAINING_MASKS = """
SELECT version, image_id, unnest(mask_ids) AS mask_id FROM training_sets WHERE mask_ids IS NOT NULL
UNION ALL
SELECT t.version, t.image_id, m.mask_id
FROM training_sets t
JOIN model_versions v USING (version)
LEFT JOIN runs r ON r.run_id = v.run_id
JOIN masks m ON m.image_id = t.image_id
WHERE t.mask_ids IS NULL AND NOT m.is_crowd AND m.created_at <= coalesce(r.started_at, v.created_at)
  AND (m.stage = 'label' OR (m.stage IN ('manual', 'semi') AND v.role <> 'control'))
  AND NOT EXISTS (
      SELECT 1 FROM masks n WHERE n.supersedes = m.mask_id
      AND n.created_at <= coalesce(r.started_at, v.created_at))
"""

# By its parent, and by masks: one that a model made or helped to make, and the other learnt from.
_MODEL_DESCENT = """
WITH RECURSIVE step AS (
    SELECT version, parent AS ancestor FROM model_versions WHERE parent IS NOT NULL
    UNION
    SELECT t.version, m.model_version FROM training_masks t JOIN masks m USING (mask_id)
    WHERE m.model_version IS NOT NULL
    UNION
    SELECT version, model_version FROM detectors),
line(version, ancestor) AS (
    FROM step
    UNION
    SELECT line.version, step.ancestor FROM line JOIN step ON step.version = line.ancestor)
SELECT version, ancestor FROM line
"""

_MODEL_LINEAGE = """
WITH taught AS (
    SELECT t.version, count(DISTINCT m.annotator) AS num_annotators,
           count(m.model_version) AS num_helped_masks,
           coalesce(max(m.generation_depth), 0) AS training_depth,
           count(r.mask_id) AS num_revoked_masks
    FROM training_masks t JOIN masks m USING (mask_id)
    LEFT JOIN (FROM retractions WHERE cause IS NOT NULL) r ON r.mask_id = m.mask_id
    GROUP BY t.version),
line AS (
    SELECT d.version, count(*) AS num_ancestors, coalesce(sum(num_revoked_masks), 0) AS num_revoked
    FROM model_descent d LEFT JOIN taught t ON t.version = d.ancestor GROUP BY d.version)
SELECT v.version, v.parent, v.status, v.role, v.architecture, v.training_snapshot,
       v.num_training_images, v.num_training_masks, v.generation_depth,
       coalesce(t.training_depth, 0) AS training_depth,
       coalesce(t.num_annotators, 0) AS num_annotators,
       coalesce(t.num_helped_masks, 0) AS num_helped_masks,
       coalesce(t.num_revoked_masks, 0) AS num_revoked_masks,
       coalesce(t.num_revoked_masks, 0) + coalesce(l.num_revoked, 0) > 0 AS descends_from_revoked,
       coalesce(l.num_ancestors, 0) AS num_ancestors,
       v.run_id, r.iteration, r.recipe, v.created_at
FROM model_versions v
LEFT JOIN taught t USING (version) LEFT JOIN line l USING (version)
LEFT JOIN runs r ON r.run_id = v.run_id
"""

_MASK_LINEAGE = f"""
{_CORRECTIONS}, latest AS (SELECT mask_id, min(by_mask_id) AS by_mask_id FROM replaced GROUP BY 1)
SELECT m.mask_id, m.image_id, m.stage, m.annotator, m.prompt, m.proposal_id, m.generation_depth,
       m.model_version, v.parent AS parent_version, v.training_snapshot, v.num_training_masks,
       m.detector_version, m.run_id, r.stage AS run_stage, r.iteration, r.recipe,
       m.supersedes, s.by_mask_id AS superseded_by,
       CASE WHEN t.mask_id IS NOT NULL THEN coalesce(t.cause, 'answer ' || t.submission_id) END
           AS retracted_by,
       m.created_at
FROM masks m
LEFT JOIN model_versions v ON v.version = m.model_version
LEFT JOIN runs r ON r.run_id = m.run_id
LEFT JOIN latest s ON s.mask_id = m.mask_id
LEFT JOIN retractions t ON t.mask_id = m.mask_id
"""

_GOLD_FOOTPRINT = """
SELECT DISTINCT g.image_id, t.version,
       CASE WHEN i.image_id = g.image_id THEN 'itself' ELSE 'near-duplicate ' || i.image_id END
           AS trained_on
FROM training_sets t JOIN images i USING (image_id) JOIN images g ON g.group_id = i.group_id
WHERE g.split = 'gold'
"""

VIEWS: Mapping[str, View] = {
    "superseded_masks": View(("mask_id", "by_mask_id"), _SUPERSEDED_MASKS),
    "current_masks": View(tuple(item.name for item in fields(MaskRow)), _CURRENT_MASKS),
    "mask_names": View(
        ("mask_id", "category", "score", "accepted_by", "classes_hash"), _MASK_NAMES
    ),
    "training_masks": View(("version", "image_id", "mask_id"), _TRAINING_MASKS),
    "model_descent": View(("version", "ancestor"), _MODEL_DESCENT),
    "model_lineage": View(
        (
            "version",
            "parent",
            "status",
            "role",
            "architecture",
            "training_snapshot",
            "num_training_images",
            "num_training_masks",
            "generation_depth",
            "training_depth",
            "num_annotators",
            "num_helped_masks",
            "num_revoked_masks",
            "descends_from_revoked",
            "num_ancestors",
            "run_id",
            "iteration",
            "recipe",
            "created_at",
        ),
        _MODEL_LINEAGE,
    ),
    "mask_lineage": View(
        (
            "mask_id",
            "image_id",
            "stage",
            "annotator",
            "prompt",
            "proposal_id",
            "generation_depth",
            "model_version",
            "parent_version",
            "training_snapshot",
            "num_training_masks",
            "detector_version",
            "run_id",
            "run_stage",
            "iteration",
            "recipe",
            "supersedes",
            "superseded_by",
            "retracted_by",
            "created_at",
        ),
        _MASK_LINEAGE,
    ),
    "gold_footprint": View(("image_id", "version", "trained_on"), _GOLD_FOOTPRINT),
}
