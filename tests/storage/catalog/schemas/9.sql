CREATE TABLE images ("image_id" VARCHAR NOT NULL, "uri" VARCHAR NOT NULL, "height" BIGINT NOT NULL, "width" BIGINT NOT NULL, "split" VARCHAR NOT NULL, "source" VARCHAR NOT NULL, "group_id" VARCHAR NOT NULL, "file_name" VARCHAR NOT NULL, "source_image_id" VARCHAR, "source_group" VARCHAR, "format" VARCHAR NOT NULL, "mode" VARCHAR NOT NULL, "bit_depth" BIGINT NOT NULL, "had_alpha" BOOLEAN NOT NULL, "num_frames" BIGINT NOT NULL, "dhash" VARCHAR NOT NULL, "run_id" VARCHAR NOT NULL, "added_at" TIMESTAMP NOT NULL);

CREATE TABLE masks ("mask_id" VARCHAR NOT NULL, "image_id" VARCHAR NOT NULL, "stage" VARCHAR NOT NULL, "run_id" VARCHAR NOT NULL, "model_version" VARCHAR, "detector_version" VARCHAR, "config_hash" VARCHAR, "shard_key" VARCHAR, "annotator" VARCHAR, "prompt" VARCHAR, "generation_depth" BIGINT NOT NULL, "supersedes" VARCHAR, "source_annotation_id" VARCHAR, "proposal_id" VARCHAR, "is_crowd" BOOLEAN NOT NULL, "segmentation" STRUCT("size" INTEGER[], counts VARCHAR) NOT NULL, "bbox" DOUBLE[] NOT NULL, "crop_box" DOUBLE[], "area" BIGINT NOT NULL, "predicted_iou" DOUBLE, "stability_score" DOUBLE, "point_coords" DOUBLE[][], "part_of" VARCHAR, "level" VARCHAR, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE mask_labels ("mask_id" VARCHAR NOT NULL, "category" VARCHAR, "score" DOUBLE NOT NULL, "classes_hash" VARCHAR, "accepted_by" VARCHAR, "created_at" TIMESTAMP NOT NULL, "run_id" VARCHAR);

CREATE TABLE mask_vectors ("mask_id" VARCHAR NOT NULL, "image_id" VARCHAR NOT NULL, "encoder_id" VARCHAR NOT NULL, "vector" BLOB NOT NULL, "run_id" VARCHAR NOT NULL, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE image_sets ("image_id" VARCHAR NOT NULL, "model_version" VARCHAR NOT NULL, "config_hash" VARCHAR NOT NULL, "run_id" VARCHAR NOT NULL, "shard_key" VARCHAR NOT NULL, "num_proposed" BIGINT NOT NULL, "num_masks" BIGINT NOT NULL, "rejections" MAP(VARCHAR, BIGINT) NOT NULL, "num_candidates" BIGINT, "savings" MAP(VARCHAR, BIGINT), "created_at" TIMESTAMP NOT NULL);

CREATE TABLE candidates ("image_id" VARCHAR NOT NULL, "model_version" VARCHAR NOT NULL, "config_hash" VARCHAR NOT NULL, "run_id" VARCHAR NOT NULL, "shard_key" VARCHAR NOT NULL, "number" BIGINT NOT NULL, "segmentation" STRUCT("size" INTEGER[], counts VARCHAR) NOT NULL, "bbox" DOUBLE[] NOT NULL, "crop_box" DOUBLE[] NOT NULL, "crop_layer" BIGINT NOT NULL, "area" BIGINT NOT NULL, "predicted_iou" DOUBLE NOT NULL, "stability_score" DOUBLE NOT NULL, "point_coords" DOUBLE[][] NOT NULL, "rejected_because" VARCHAR);

CREATE TABLE model_versions ("version" VARCHAR NOT NULL, "weights_uri" VARCHAR NOT NULL, "weights_sha256" VARCHAR NOT NULL, "parent" VARCHAR, "architecture" VARCHAR NOT NULL, "config_hash" VARCHAR NOT NULL, "config" VARCHAR NOT NULL, "training_snapshot" BIGINT NOT NULL, "num_training_images" BIGINT NOT NULL, "num_training_masks" BIGINT NOT NULL, "generation_depth" BIGINT NOT NULL, "role" VARCHAR NOT NULL, "status" VARCHAR NOT NULL, "reason" VARCHAR, "run_id" VARCHAR NOT NULL, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE detectors ("version" VARCHAR NOT NULL, "model_version" VARCHAR NOT NULL, "weights_uri" VARCHAR NOT NULL, "weights_sha256" VARCHAR NOT NULL, "config_hash" VARCHAR NOT NULL, "config" VARCHAR NOT NULL, "training_snapshot" BIGINT NOT NULL, "num_training_images" BIGINT NOT NULL, "num_training_masks" BIGINT NOT NULL, "run_id" VARCHAR NOT NULL, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE training_sets ("version" VARCHAR NOT NULL, "image_id" VARCHAR NOT NULL, "num_masks" BIGINT NOT NULL, "mask_ids" VARCHAR[]);

CREATE TABLE training_steps ("run_id" VARCHAR NOT NULL, "step" BIGINT NOT NULL, "loss" DOUBLE, "iou" DOUBLE, "seconds" DOUBLE NOT NULL);

CREATE TABLE evaluations ("model_version" VARCHAR NOT NULL, "split" VARCHAR NOT NULL, "metric" VARCHAR NOT NULL, "value" DOUBLE NOT NULL, "num_images" BIGINT NOT NULL, "num_masks" BIGINT NOT NULL, "config_hash" VARCHAR NOT NULL, "run_id" VARCHAR NOT NULL, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE shards ("shard_key" VARCHAR NOT NULL, "run_id" VARCHAR NOT NULL, "model_version" VARCHAR NOT NULL, "config_hash" VARCHAR NOT NULL, "state" VARCHAR NOT NULL, "image_ids" VARCHAR[] NOT NULL, "num_images" BIGINT NOT NULL, "attempt" VARCHAR, "mask_uri" VARCHAR, "mask_sha256" VARCHAR, "mask_bytes" BIGINT, "num_masks" BIGINT, "set_uri" VARCHAR, "set_sha256" VARCHAR, "set_bytes" BIGINT, "candidate_uri" VARCHAR, "candidate_sha256" VARCHAR, "candidate_bytes" BIGINT, "reason" VARCHAR, "planned_at" TIMESTAMP NOT NULL, "committed_at" TIMESTAMP);

CREATE TABLE runs ("run_id" VARCHAR NOT NULL, "stage" VARCHAR NOT NULL, "iteration" BIGINT, "parent_run_id" VARCHAR, "recipe" VARCHAR, "config_hash" VARCHAR, "config" VARCHAR NOT NULL, "model_version" VARCHAR, "status" VARCHAR NOT NULL, "started_at" TIMESTAMP NOT NULL, "ended_at" TIMESTAMP, "seconds" DOUBLE, "num_images" BIGINT, "num_masks" BIGINT, "detail" VARCHAR);

CREATE TABLE embeddings ("image_id" VARCHAR NOT NULL, "encoder_id" VARCHAR NOT NULL, "uri" VARCHAR NOT NULL, "sha256" VARCHAR NOT NULL, "bytes" BIGINT NOT NULL, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE clicks ("mask_id" VARCHAR NOT NULL, "submission_id" VARCHAR NOT NULL, "image_id" VARCHAR NOT NULL, "ordinal" BIGINT NOT NULL, "x" DOUBLE NOT NULL, "y" DOUBLE NOT NULL, "label" BIGINT NOT NULL, "at_s" DOUBLE, "predicted_iou" DOUBLE, "segmentation" STRUCT("size" INTEGER[], counts VARCHAR), "annotator" VARCHAR NOT NULL);

CREATE TABLE reviews ("submission_id" VARCHAR NOT NULL, "image_id" VARCHAR NOT NULL, "item_id" VARCHAR NOT NULL, "annotator" VARCHAR NOT NULL, "model_version" VARCHAR NOT NULL, "run_id" VARCHAR NOT NULL, "iteration" BIGINT, "seq" BIGINT NOT NULL, "body_sha256" VARCHAR, "seconds" DOUBLE, "num_proposals" BIGINT NOT NULL, "num_accepted" BIGINT NOT NULL, "num_edited" BIGINT NOT NULL, "num_rejected" BIGINT NOT NULL, "num_added" BIGINT NOT NULL, "num_clicks" BIGINT NOT NULL, "submitted_at" TIMESTAMP NOT NULL, "is_complete" BOOLEAN, "kind" VARCHAR);

CREATE TABLE decisions ("proposal_id" VARCHAR NOT NULL, "submission_id" VARCHAR NOT NULL, "image_id" VARCHAR NOT NULL, "model_version" VARCHAR NOT NULL, "action" VARCHAR NOT NULL, "predicted_iou" DOUBLE, "iou_with_result" DOUBLE, "mask_id" VARCHAR, "num_clicks" BIGINT NOT NULL, "run_id" VARCHAR NOT NULL, "iteration" BIGINT, "area" BIGINT, "source" VARCHAR, "score" DOUBLE);

CREATE TABLE agreements ("submission_id" VARCHAR NOT NULL, "image_id" VARCHAR NOT NULL, "annotator" VARCHAR NOT NULL, "kind" VARCHAR NOT NULL, "reference_submission_id" VARCHAR, "reference_annotator" VARCHAR, "mean_iou" DOUBLE NOT NULL, "f1_50" DOUBLE NOT NULL, "num_masks" BIGINT NOT NULL, "num_reference_masks" BIGINT NOT NULL, "num_matched" BIGINT NOT NULL, "is_disputed" BOOLEAN NOT NULL, "run_id" VARCHAR NOT NULL, "iteration" BIGINT, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE retractions ("mask_id" VARCHAR NOT NULL, "submission_id" VARCHAR, "run_id" VARCHAR NOT NULL, "created_at" TIMESTAMP NOT NULL, "cause" VARCHAR, "snapshot" BIGINT);

CREATE TABLE suppressions ("mask_id" VARCHAR NOT NULL, "by_mask_id" VARCHAR NOT NULL, "iou" DOUBLE NOT NULL, "run_id" VARCHAR NOT NULL);

CREATE TABLE watermarks ("name" VARCHAR NOT NULL, "seq" BIGINT NOT NULL, "updated_at" TIMESTAMP NOT NULL);

CREATE TABLE exports ("export_id" VARCHAR NOT NULL, "snapshot" BIGINT NOT NULL, "format" VARCHAR NOT NULL, "options" VARCHAR NOT NULL, "num_images" BIGINT NOT NULL, "num_masks" BIGINT NOT NULL, "file_name" VARCHAR NOT NULL, "sha256" VARCHAR NOT NULL, "bytes" BIGINT NOT NULL, "run_id" VARCHAR NOT NULL, "created_at" TIMESTAMP NOT NULL);

CREATE TABLE schema_versions ("version" BIGINT NOT NULL, "applied_at" TIMESTAMP NOT NULL);

CREATE VIEW superseded_masks AS 
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
 SELECT mask_id, by_mask_id FROM replaced;

CREATE VIEW current_masks AS 

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
,
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
;

CREATE VIEW mask_names AS 
SELECT mask_id, category, score, accepted_by, classes_hash FROM mask_labels
WHERE accepted_by IS NOT NULL AND category IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY mask_id
    ORDER BY classes_hash IS NOT NULL, created_at DESC, score DESC, category) = 1
;

CREATE VIEW training_masks AS 
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
;

CREATE VIEW model_descent AS 
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
;

CREATE VIEW model_lineage AS 
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
;

CREATE VIEW mask_lineage AS 

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
, latest AS (SELECT mask_id, min(by_mask_id) AS by_mask_id FROM replaced GROUP BY 1)
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
;

CREATE VIEW gold_footprint AS 
SELECT DISTINCT g.image_id, t.version,
       CASE WHEN i.image_id = g.image_id THEN 'itself' ELSE 'near-duplicate ' || i.image_id END
           AS trained_on
FROM training_sets t JOIN images i USING (image_id) JOIN images g ON g.group_id = i.group_id
WHERE g.split = 'gold'
;
