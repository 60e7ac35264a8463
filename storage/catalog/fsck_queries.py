"""Invariants that are plain queries: each selects what breaks it, as `where` and words to say.

A query costs its planning, whatever the store holds, and DuckLake asks the catalog about each table
that one names. So a sound store is told by a `Look` at many rules at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Rule:
    """A query whose rows are breaches; `message` is filled from a row."""

    invariant: str
    sql: str
    message: str


def _unique(table: str, key: str) -> Rule:
    return Rule(
        "I1",
        f"SELECT '{table} ' || {key} AS \"where\", count(*) AS n FROM {table} "
        "GROUP BY ALL HAVING n > 1",
        "is there {n} times",
    )


class _Reference(NamedTuple):
    """Each value of `column` is that of `key` in some row of `target`."""

    table: str
    column: str
    target: str
    key: str

    @property
    def rule(self) -> Rule:
        """The rule that this is so."""
        return Rule(
            "I2",
            f"SELECT DISTINCT '{self.table}.{self.column} ' || {self.column} AS \"where\" "
            f"FROM {self.table} WHERE {self.column} IS NOT NULL "
            f"AND {self.column} NOT IN (SELECT {self.key} FROM {self.target})",
            f"refers to a row of {self.target} that is not there",
        )


@dataclass(frozen=True)
class Look:
    """Rules, and a query for those that are broken: the place of each among them, as `number`."""

    rules: tuple[Rule, ...]
    sql: str


def _together(rules: Sequence[Rule]) -> Look:
    # With its `where`, or DuckDB would not read what that is made of.
    firsts = (
        f'(SELECT {number} AS number, "where" FROM ({rule.sql}) LIMIT 1)'
        for number, rule in enumerate(rules)
    )
    return Look(tuple(rules), " UNION ALL ".join(firsts))


def _all_refer(references: Sequence[_Reference]) -> Look:
    """Each table is read once for either side."""
    targets = dict.fromkeys((each.target, each.key) for each in references)
    there = " UNION ALL ".join(
        f"SELECT '{target}' AS target, {key} AS key FROM {target}" for target, key in targets
    )
    named = " UNION ALL ".join(
        f"SELECT unnest([{', '.join(pairs)}], recursive := true) FROM {table}"
        for table, pairs in _pairs(references).items()
    )
    sql = (
        f"WITH there AS ({there}), named AS ({named}) SELECT DISTINCT number FROM named "
        "ANTI JOIN there USING (target, key) WHERE named.key IS NOT NULL ORDER BY number"
    )
    return Look(tuple(each.rule for each in references), sql)


def _pairs(references: Sequence[_Reference]) -> dict[str, list[str]]:
    """What the references of each table name, as structs."""
    found: dict[str, list[str]] = {}
    for number, each in enumerate(references):
        struct = f"{{number: {number}, target: '{each.target}', key: {each.column}}}"
        found.setdefault(each.table, []).append(struct)
    return found


def _relative(table: str, column: str) -> Rule:
    return Rule(
        "I12",
        f"SELECT '{table}.{column}' AS \"where\", count(*) AS n FROM {table} "
        f"WHERE {column} LIKE '/%' HAVING n > 0",
        "{n} rows have an absolute path of some machine",
    )


_RULES = (
    Rule(
        "I1",
        """SELECT 'image ' || image_id AS "where", model_version, config_hash, count(*) AS n
           FROM image_sets GROUP BY ALL HAVING n > 1""",
        "{n} sets by {model_version} with config {config_hash}",
    ),
    Rule(
        "I1b",
        """WITH planned AS (SELECT shard_key, unnest(image_ids) AS image_id FROM shards
                            WHERE state = 'committed'),
                done AS (SELECT shard_key, image_id FROM image_sets)
           SELECT 'shard ' || shard_key AS "where", image_id, 'was planned and has no set' AS what
           FROM planned ANTI JOIN done USING (shard_key, image_id)
           UNION ALL
           SELECT 'shard ' || shard_key, image_id, 'has a set that no committed shard planned'
           FROM done ANTI JOIN planned USING (shard_key, image_id)""",
        "image {image_id} {what}",
    ),
    Rule(
        "I6",
        """WITH found AS (SELECT shard_key, count(*) AS n FROM masks
                          WHERE shard_key IS NOT NULL GROUP BY 1)
           SELECT 'shard ' || coalesce(s.shard_key, f.shard_key) AS "where",
                  coalesce(n, 0) AS n, coalesce(num_masks, 0) AS num_masks
           FROM (FROM shards WHERE state = 'committed') s
           FULL JOIN found f ON s.shard_key = f.shard_key
           WHERE coalesce(n, 0) <> coalesce(num_masks, 0)""",
        "{n} masks are there, the ledger has committed {num_masks}",
    ),
    Rule(
        "I6",
        """SELECT 'image ' || image_id AS "where", model_version, num_masks, n
           FROM image_sets JOIN (SELECT image_id, shard_key, count(*) AS n FROM masks GROUP BY ALL)
           USING (image_id, shard_key) WHERE num_masks <> n""",
        "{n} masks by {model_version} are there, its set says {num_masks}",
    ),
    Rule(
        "I6",
        """WITH found AS (SELECT image_id, model_version, config_hash, count(*) AS n,
                                 count(DISTINCT number) AS different
                          FROM candidates GROUP BY ALL)
           SELECT 'image ' || image_id AS "where", model_version, coalesce(n, 0) AS n,
                  coalesce(num_candidates, 0) AS num_candidates
           FROM image_sets FULL JOIN found USING (image_id, model_version, config_hash)
           WHERE coalesce(n, 0) <> coalesce(num_candidates, 0) OR different <> n""",
        "{n} candidates of {model_version} are there, its set says {num_candidates}",
    ),
    Rule(
        "gold",
        """SELECT 'image ' || image_id AS "where", version, trained_on FROM gold_footprint""",
        "is gold, and {version} was trained on it ({trained_on})",
    ),
    Rule(
        "retired",
        """SELECT 'mask ' || mask_id AS "where" FROM current_masks SEMI JOIN retractions
           USING (mask_id)""",
        "was taken away, and yet it stands",
    ),
    Rule(
        "retired",
        """SELECT 'mask ' || mask_id AS "where", version, cause
           FROM training_masks JOIN retractions USING (mask_id)
           JOIN (SELECT version, training_snapshot FROM model_versions
                 UNION ALL SELECT version, training_snapshot FROM detectors) USING (version)
           WHERE cause IS NOT NULL AND training_snapshot > retractions.snapshot""",
        "was revoked ({cause}), and {version} was trained on it after that",
    ),
    Rule(
        "retired",
        """SELECT 'mask ' || mask_id AS "where" FROM retractions
           WHERE (submission_id IS NULL) = (cause IS NULL)""",
        "must have been taken away by an answer, or revoked: one of both",
    ),
    Rule(
        "I6",
        """SELECT 'image ' || image_id AS "where", version, num_masks, len(mask_ids) AS n
           FROM training_sets WHERE len(mask_ids) <> num_masks""",
        "{version} was trained on {n} masks of it, its row says {num_masks}",
    ),
    Rule(
        "withheld",
        """SELECT 'proposal ' || proposal_id AS "where", mask_id
           FROM decisions WHERE action = 'withheld' AND mask_id IS NOT NULL""",
        "was withheld from people, and yet mask {mask_id} came of it",
    ),
    _unique("images", "image_id"),
    _unique("masks", "mask_id"),
    _unique("model_versions", "version"),
    _unique("detectors", "version"),
    _unique("shards", "shard_key"),
    _unique("runs", "run_id"),
    _unique("reviews", "submission_id"),
    _unique("agreements", "submission_id"),
    _unique("retractions", "mask_id"),
    _unique("exports", "export_id"),
    _relative("images", "uri"),
    _relative("model_versions", "weights_uri"),
    _relative("detectors", "weights_uri"),
    _relative("embeddings", "uri"),
    _relative("shards", "mask_uri"),
    _relative("shards", "set_uri"),
    _relative("shards", "candidate_uri"),
)
_REFERENCES = (
    _Reference("masks", "image_id", "images", "image_id"),
    _Reference("masks", "model_version", "model_versions", "version"),
    _Reference("masks", "detector_version", "detectors", "version"),
    _Reference("masks", "supersedes", "masks", "mask_id"),
    _Reference("masks", "run_id", "runs", "run_id"),
    _Reference("detectors", "model_version", "model_versions", "version"),
    _Reference("mask_labels", "mask_id", "masks", "mask_id"),
    _Reference("mask_labels", "run_id", "runs", "run_id"),
    _Reference("mask_vectors", "mask_id", "masks", "mask_id"),
    _Reference("mask_vectors", "run_id", "runs", "run_id"),
    _Reference("image_sets", "model_version", "model_versions", "version"),
    _Reference("training_sets", "image_id", "images", "image_id"),
    _Reference("training_steps", "run_id", "runs", "run_id"),
    _Reference("decisions", "mask_id", "masks", "mask_id"),
    _Reference("agreements", "submission_id", "reviews", "submission_id"),
    _Reference("agreements", "reference_submission_id", "reviews", "submission_id"),
    _Reference("retractions", "submission_id", "reviews", "submission_id"),
    _Reference("retractions", "mask_id", "masks", "mask_id"),
    _Reference("retractions", "run_id", "runs", "run_id"),
    _Reference("exports", "run_id", "runs", "run_id"),
    _Reference("evaluations", "model_version", "model_versions", "version"),
    _Reference("suppressions", "mask_id", "masks", "mask_id"),
    _Reference("suppressions", "by_mask_id", "masks", "mask_id"),
)
LOOKS = (_together(_RULES), _all_refer(_REFERENCES))
