"""What descends from someone's, a model's or a run's masks: later models, their masks, exports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from flows.errors import UsageError
from flows.training.model_line import Rows
from flows.workspace import Workspace, placeholders
from storage.errors import NotFoundError

Kind = Literal["annotator", "model", "run"]
PEOPLE = ("label", "manual", "semi")

# Which masks are somebody's own. A mask that a person made with a model's help is the person's.
_OWN: Mapping[Kind, str] = {
    "annotator": "annotator = ?",
    "model": "(stage = 'auto' AND model_version = ?)",
    "run": "(run_id = ? OR (stage = 'auto' AND model_version IN "
    "(SELECT version FROM model_versions WHERE run_id = ?)))",
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whose masks are meant; `since` and `until` (UTC, half-open) limit them by their time."""

    kind: Kind
    name: str
    since: datetime | None = None
    until: datetime | None = None

    @property
    def cause(self) -> str:
        """The same in words, as retractions keep it."""
        limits = (("since", self.since), ("until", self.until))
        said = [f" {word} {time.isoformat()}" for word, time in limits if time is not None]
        return f"{self.kind} {self.name}{''.join(said)}"

    @property
    def own_masks(self) -> tuple[str, list[Any]]:
        """A condition on `masks` or `current_masks`, and its parameters."""
        sql = _OWN[self.kind]
        params: list[Any] = [self.name] * sql.count("?")
        for comparison, time in ((">=", self.since), ("<", self.until)):
            if time is not None:
                sql += f" AND created_at {comparison} ?"
                params.append(time)
        return sql, params

    def own_models(self, store: Rows) -> list[str]:
        """The versions that are revoked themselves: none where only some time is."""
        if self.kind == "annotator" or self.since or self.until:
            return []
        column = "version" if self.kind == "model" else "run_id"
        found = store.rows(f"SELECT version FROM model_versions WHERE {column} = ?", (self.name,))
        return [row["version"] for row in found]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        times = {"since": self.since, "until": self.until}
        said = {name: None if time is None else time.isoformat() for name, time in times.items()}
        return {"kind": self.kind, "name": self.name, **said}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Target":
        """The target that `to_dict` wrote."""
        since, until = (
            None if value[name] is None else datetime.fromisoformat(value[name])
            for name in ("since", "until")
        )
        return cls(kind=value["kind"], name=value["name"], since=since, until=until)


def check_known(store: Rows, target: Target) -> None:
    """Raise UsageError for a name that the store does not have."""
    where = {
        "annotator": "masks WHERE annotator = ?",
        "model": "model_versions WHERE version = ?",
        "run": "runs WHERE run_id = ?",
    }[target.kind]
    if not store.rows(f"SELECT 1 FROM {where} LIMIT 1", (target.name,)):
        raise UsageError(
            f"--{target.kind}: the store has none named {target.name!r}; names are whole: look "
            "with maskloop lineage, or maskloop sql"
        )


def descendants(store: Rows, target: Target) -> list[dict[str, Any]]:
    """Models and detectors with anything of it in their line, oldest first.

    Each is `version` and `why`: it is the target itself, it learnt `num_masks` of the target's
    masks, or it only descends from such a one, by its parent or by masks that one helped to make.
    """
    sql, params = target.own_masks
    learnt = {
        row["version"]: row["n"]
        for row in store.rows(
            f"""SELECT version, count(*) AS n FROM training_masks
                WHERE mask_id IN (SELECT mask_id FROM masks WHERE {sql}) GROUP BY version""",
            params,
        )
    }
    own = target.own_models(store)
    first = sorted({*own, *learnt})
    rows = store.rows(
        f"""SELECT version, created_at FROM
            (SELECT version, created_at FROM model_versions
             UNION ALL SELECT version, created_at FROM detectors)
            WHERE version IN ({placeholders(first)}) OR version IN
                (SELECT version FROM model_descent WHERE ancestor IN ({placeholders(first)}))
            ORDER BY created_at, version""",
        [*first, *first],
    )
    return [
        {
            "version": row["version"],
            "why": "is revoked itself"
            if row["version"] in own
            else "trained on them"
            if row["version"] in learnt
            else "descends from one that was",
            "num_masks": learnt.get(row["version"], 0),
        }
        for row in rows
    ]


def own_masks(store: Rows, target: Target) -> list[dict[str, Any]]:
    """How many masks are its own, by stage, annotator and model, and how many of them stand."""
    sql, params = target.own_masks
    return store.rows(
        f"""SELECT stage, annotator, model_version, count(*) AS num_masks,
                   count(DISTINCT image_id) AS num_images, count(c.mask_id) AS num_current
            FROM (FROM masks WHERE {sql}) m
            LEFT JOIN (SELECT mask_id FROM current_masks WHERE {sql}) c ON c.mask_id = m.mask_id
            GROUP BY ALL ORDER BY ALL""",
        [*params, *params],
    )


def later_masks(store: Rows, target: Target, versions: Sequence[str]) -> list[dict[str, Any]]:
    """How many masks the versions made or helped to make, without the target's own."""
    sql, params = target.own_masks
    made_by, of_versions = _made_by(versions)
    return store.rows(
        f"""SELECT model_version, stage, annotator, count(*) AS num_masks,
                   count(DISTINCT image_id) AS num_images
            FROM masks WHERE {made_by} AND NOT coalesce({sql}, false)
            GROUP BY ALL ORDER BY ALL""",
        [*of_versions, *params],
    )


def exports_of(
    workspace: Workspace, target: Target, versions: Sequence[str]
) -> list[dict[str, Any]]:
    """The exports with any of these masks in them, and how many.

    An export whose snapshot is gone cannot be looked into: it counts, with None for how many.
    """
    found = []
    for row in workspace.lake.rows("SELECT * FROM exports ORDER BY created_at, export_id"):
        num_masks = _num_exported(workspace, row, target, versions)
        if num_masks != 0:
            names = ("export_id", "file_name", "snapshot", "sha256", "created_at")
            found.append({**{name: row[name] for name in names}, "num_masks": num_masks})
    return found


def _num_exported(
    workspace: Workspace, export: Mapping[str, Any], target: Target, versions: Sequence[str]
) -> int | None:
    sql, params = target.own_masks
    made_by, of_versions = _made_by(versions)
    stages = json.loads(export["options"])["stages"]
    try:
        [row] = workspace.lake.rows(
            f"""SELECT count(*) AS n FROM current_masks
                WHERE list_contains(?, stage) AND (({sql}) OR {made_by})""",
            [stages, *params, *of_versions],
            snapshot=export["snapshot"],
        )
    except NotFoundError:
        return None
    return int(row["n"])


def _made_by(versions: Sequence[str]) -> tuple[str, list[str]]:
    marks = placeholders(versions)
    sql = f"coalesce(model_version IN ({marks}) OR detector_version IN ({marks}), false)"
    return sql, [*versions, *versions]
