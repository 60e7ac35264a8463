"""What the report tells, read from one snapshot of the store and put into values."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from annotator.signature import SIMULATED, is_simulated
from flows.report.advice import Advice, advice
from flows.report.courses import Course, read_courses
from flows.report.quality import Annotator, Checks, Quality, read_checks
from flows.report.reading import Reading
from storage.catalog.models import REVOKED

STAGES = ("label", "manual", "semi", "auto")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What annotators did in one turn, summed over their submissions.

    `seconds` is None where a simulated annotator was among them, or where somebody's is not known.
    """

    num_images: int
    num_accepted: int
    num_edited: int
    num_rejected: int
    num_added: int
    num_clicks: int
    seconds: float | None

    @property
    def num_masks(self) -> int:
        """Masks that came out of it."""
        return self.num_accepted + self.num_edited + self.num_added

    @property
    def num_proposals(self) -> int:
        """Proposals that were decided on."""
        return self.num_accepted + self.num_edited + self.num_rejected

    @property
    def masks_per_image(self) -> float | None:
        """None without an image."""
        return self.num_masks / self.num_images if self.num_images else None

    @property
    def clicks_per_mask(self) -> float | None:
        """None without a mask."""
        return self.num_clicks / self.num_masks if self.num_masks else None

    @property
    def seconds_per_mask(self) -> float | None:
        """None without a mask, and without `seconds`."""
        return self.seconds / self.num_masks if self.num_masks and self.seconds else None


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model version with its scores on the gold set."""

    version: str
    parent: str | None
    role: str
    status: str
    reason: str | None
    training_snapshot: int | None
    num_training_images: int
    num_training_masks: int
    generation_depth: int
    scores: Mapping[str, float]

    @property
    def is_revoked(self) -> bool:
        """Whether it, or what it learnt, was taken back."""
        return (self.reason or "").startswith(REVOKED)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of the loop: a model is trained, then people work with it, then it generates.

    After a loop's last one comes a closing turn: people's last work is learnt, and nobody asked.
    """

    number: int
    closing: bool = False
    model: Model | None = None
    control: Model | None = None
    made: Mapping[str, int] = field(default_factory=dict)
    effort: Effort | None = None
    quality: Quality | None = None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the grid proposed with the model in service, and what became of it."""

    model_version: str
    num_images: int
    num_empty: int
    num_proposed: int
    num_kept: int
    rejections: Mapping[str, int]
    num_suppressed: int


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything but the pictures."""

    snapshot: int
    as_of: datetime | None
    num_images: int
    num_covered: int
    num_gold_images: int
    masks: Mapping[str, int]
    annotators: Sequence[str]
    made_before: Mapping[str, int]
    turns: Sequence[Turn]
    models: Sequence[Model]
    courses: Sequence[Course]
    generation: Generation | None
    checked: Sequence[Annotator]
    advice: Advice | None

    @property
    def in_service(self) -> Model | None:
        """The promoted model."""
        return next((model for model in self.models if model.status == "promoted"), None)

    @property
    def base(self) -> Model | None:
        """The model that the first turn started from."""
        return next((model for model in self.models if model.role == "base"), None)

    @property
    def simulated(self) -> bool:
        """Whether programs alone were the annotators."""
        return bool(self.annotators) and all(map(is_simulated, self.annotators))

    @property
    def num_masks(self) -> int:
        """Masks that stand."""
        return sum(self.masks.values())


def read_story(reading: Reading) -> Story:
    """Read all numbers of the report."""
    models = _models(reading)
    images = reading.rows(
        "SELECT count(*) AS images, count(*) FILTER (split = 'gold') AS gold FROM images"
    )[0]
    standing = reading.rows("SELECT stage, count(*) AS masks FROM current_masks GROUP BY stage")
    covered = reading.rows("SELECT count(DISTINCT image_id) AS images FROM current_masks")[0]
    people = reading.rows("SELECT DISTINCT annotator FROM reviews ORDER BY annotator")
    last = reading.rows("SELECT max(coalesce(ended_at, started_at)) AS at FROM runs")[0]
    checks = read_checks(reading)
    made_before, turns = _turns(reading, {model.version: model for model in models}, checks)
    return Story(
        snapshot=reading.snapshot,
        as_of=last["at"],
        num_images=images["images"],
        num_covered=covered["images"],
        num_gold_images=images["gold"],
        masks=_by_stage(standing),
        annotators=[row["annotator"] for row in people],
        made_before=made_before,
        turns=turns,
        models=models,
        courses=read_courses(reading),
        generation=_generation(reading),
        checked=checks.annotators,
        advice=advice(reading),
    )


def _by_stage(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found = {row["stage"]: row["masks"] for row in rows}
    return {stage: found[stage] for stage in STAGES if stage in found}


def _models(reading: Reading) -> list[Model]:
    scores: dict[str, dict[str, float]] = {}
    # A model may have been measured again, on a larger gold set: the newest figure stands.
    for row in reading.rows(
        "SELECT model_version, metric, value FROM evaluations WHERE split = 'gold' "
        "ORDER BY created_at"
    ):
        scores.setdefault(row["model_version"], {})[row["metric"]] = row["value"]
    rows = reading.rows(
        """SELECT version, parent, role, status, reason, training_snapshot,
                  coalesce(num_training_images, 0) AS num_training_images,
                  coalesce(num_training_masks, 0) AS num_training_masks,
                  coalesce(generation_depth, 0) AS generation_depth
           FROM model_versions ORDER BY created_at, version"""
    )
    return [Model(**row, scores=scores.get(row["version"], {})) for row in rows]


def _turns(
    reading: Reading, models: Mapping[str, Model], checks: Checks
) -> tuple[dict[str, int], list[Turn]]:
    """Masks made outside any turn (imports), and the turns."""
    runs = reading.rows(
        """SELECT run_id, stage, iteration, parent_run_id, model_version, status
           FROM runs WHERE stage <> 'loop' ORDER BY started_at, run_id"""
    )
    groups = [(group, {run["run_id"] for run in group}) for group in _grouped(runs)]
    made = reading.rows("SELECT run_id, stage, count(*) AS masks FROM masks GROUP BY run_id, stage")
    efforts = reading.rows(
        f"""SELECT run_id, count(*) AS num_images,
                  sum(num_accepted)::BIGINT AS num_accepted, sum(num_edited)::BIGINT AS num_edited,
                  sum(num_rejected)::BIGINT AS num_rejected, sum(num_added)::BIGINT AS num_added,
                  sum(num_clicks)::BIGINT AS num_clicks,
                  CASE WHEN bool_and(seconds IS NOT NULL AND annotator <> '{SIMULATED}'
                                     AND NOT starts_with(annotator, '{SIMULATED}-'))
                       THEN sum(seconds)::DOUBLE END AS seconds
           FROM reviews WHERE coalesce(kind, 'assist') = 'assist' GROUP BY run_id"""
    )
    loops = reading.rows("SELECT run_id, config FROM runs WHERE stage = 'loop'")
    num_turns = {loop["run_id"]: json.loads(loop["config"])["iterations"] for loop in loops}
    turns = [
        Turn(
            number=number,
            closing=_closes(group[0], num_turns),
            model=_trained(group, "train", models),
            control=_trained(group, "control", models),
            made=_made(row for row in made if row["run_id"] in run_ids),
            effort=_effort([row for row in efforts if row["run_id"] in run_ids]),
            quality=checks.of(run_ids),
        )
        for number, (group, run_ids) in enumerate(groups, start=1)
    ]
    in_turns = set().union(*(run_ids for _, run_ids in groups))
    return _made(row for row in made if row["run_id"] not in in_turns), turns


def _closes(run: Mapping[str, Any], num_turns: Mapping[str, int]) -> bool:
    loop, iteration = run["parent_run_id"], run["iteration"]
    return iteration is not None and loop in num_turns and iteration > num_turns[loop]


def _grouped(runs: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs by turn. A loop numbers its runs; a stage started by hand joins the newest turn,

    except that a training begins one, as it does in a loop.
    """
    groups: list[list[dict[str, Any]]] = []
    of_loop: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in runs:
        begins = run["stage"] == "train" and run["status"] != "failed"
        if run["parent_run_id"] is not None and run["iteration"] is not None:
            key = (run["parent_run_id"], run["iteration"])
            if key not in of_loop:
                of_loop[key] = []
                groups.append(of_loop[key])
            of_loop[key].append(run)
        elif begins or (not groups and run["stage"] in ("assist", "generate")):
            groups.append([run])
        elif groups:
            groups[-1].append(run)
    return groups


def _trained(
    group: Sequence[Mapping[str, Any]], stage: str, models: Mapping[str, Model]
) -> Model | None:
    versions = [run["model_version"] for run in group if run["stage"] == stage]
    return next((models[version] for version in reversed(versions) if version in models), None)


def _made(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    total = dict.fromkeys(STAGES, 0)
    for row in rows:
        total[row["stage"]] += row["masks"]
    return {stage: masks for stage, masks in total.items() if masks}


def _effort(rows: Sequence[Mapping[str, Any]]) -> Effort | None:
    if not rows:
        return None
    totals = {name: sum(row[name] or 0 for row in rows) for name in rows[0] if name != "run_id"}
    if any(row["seconds"] is None for row in rows):
        totals["seconds"] = None
    return Effort(**totals)


def _generation(reading: Reading) -> Generation | None:
    # One version can have been generated with several configs: the newest one is what stands.
    newest = reading.rows(
        """SELECT s.model_version, s.config_hash
           FROM image_sets s JOIN model_versions v ON s.model_version = v.version
           ORDER BY v.status = 'promoted' DESC, s.created_at DESC LIMIT 1"""
    )
    if not newest:
        return None
    key = (newest[0]["model_version"], newest[0]["config_hash"])
    sets = reading.rows(
        "SELECT num_proposed, num_masks, rejections FROM image_sets "
        "WHERE model_version = ? AND config_hash = ?",
        key,
    )
    suppressed = reading.rows(
        """SELECT count(DISTINCT mask_id) AS masks FROM suppressions JOIN masks USING (mask_id)
           WHERE model_version = ? AND config_hash = ?""",
        key,
    )
    rejections: dict[str, int] = {}
    for row in sets:
        for reason, count in dict(row["rejections"] or {}).items():
            rejections[reason] = rejections.get(reason, 0) + count
    return Generation(
        model_version=key[0],
        num_images=len(sets),
        num_empty=sum(row["num_masks"] == 0 for row in sets),
        num_proposed=sum(row["num_proposed"] for row in sets),
        num_kept=sum(row["num_masks"] for row in sets),
        rejections=dict(sorted(rejections.items(), key=lambda item: -item[1])),
        num_suppressed=suppressed[0]["masks"],
    )
