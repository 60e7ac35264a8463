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


# The recursion is over revoked masks alone, of which there are few or none: a mask that one of
# them had replaced stands again, unless a sound one has replaced the revoked one since.
_SUPERSEDED_MASKS = """
WITH RECURSIVE revoked AS (
    SELECT mask_id, supersedes
    FROM masks SEMI JOIN (FROM retractions WHERE cause IS NOT NULL) USING (mask_id)),
sound AS (
    SELECT supersedes AS mask_id, mask_id AS by_mask_id FROM masks ANTI JOIN revoked USING (mask_id)
    WHERE supersedes IS NOT NULL),
through(mask_id, by_mask_id) AS (
    SELECT revoked.supersedes, by_mask_id FROM revoked JOIN sound USING (mask_id)
    WHERE revoked.supersedes IS NOT NULL
    UNION
    SELECT revoked.supersedes, by_mask_id FROM through JOIN revoked USING (mask_id)
    WHERE revoked.supersedes IS NOT NULL)
SELECT mask_id, by_mask_id FROM sound UNION ALL SELECT mask_id, by_mask_id FROM through
"""

_CURRENT_MASKS = """
WITH people AS (
    SELECT * FROM masks
        ANTI JOIN superseded_masks USING (mask_id) ANTI JOIN retractions USING (mask_id)
    WHERE stage IN ('label', 'manual', 'semi')),
serving AS (SELECT version AS model_version FROM model_versions WHERE status = 'promoted'),
newest AS (
    SELECT image_id, model_version, config_hash
    FROM image_sets SEMI JOIN serving USING (model_version)
    QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY created_at DESC, config_hash) = 1),
suppressed AS (
    SELECT DISTINCT suppressions.mask_id
    FROM suppressions JOIN people ON suppressions.by_mask_id = people.mask_id)
SELECT * FROM people
UNION ALL
SELECT * FROM masks
    SEMI JOIN newest USING (image_id, model_version, config_hash)
    ANTI JOIN superseded_masks USING (mask_id)
    ANTI JOIN retractions USING (mask_id)
    ANTI JOIN suppressed USING (mask_id)
WHERE stage = 'auto'
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

_MASK_LINEAGE = """
WITH replaced AS (SELECT mask_id, min(by_mask_id) AS by_mask_id FROM superseded_masks GROUP BY 1)
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
LEFT JOIN replaced s ON s.mask_id = m.mask_id
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
