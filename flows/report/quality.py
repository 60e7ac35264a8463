"""How good people's work and the automatic masks are, as far as it was checked."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from engine.asking.promise import WOULD_BE_ACCEPTED
from flows.report.reading import Reading

_SUMS = (
    *("num_checks", "checked", "num_audited", "over_90", "over_75"),
    *("num_withheld", "unaided"),
)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was checked in one turn; each share and mean is None where nothing was.

    check_iou: mean IoU of people's masks with known ones, over hidden checks; over_90, over_75: the
    share of audited automatic masks that have a higher IoU with what people left of them; unaided:
    the share of withheld proposals that are as near to what people made without seeing them as one
    that would be accepted.
    """

    num_checks: int
    check_iou: float | None
    num_audited: int
    over_90: float | None
    over_75: float | None
    num_withheld: int
    unaided: float | None


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """How one annotator's answers agree with known masks, and with other people's."""

    name: str
    num_checks: int
    check_iou: float | None
    num_seconds: int
    second_iou: float | None
    num_disputed: int


@dataclass(frozen=True)
class Checks:
    """All that was checked, by run and by annotator."""

    rows: Sequence[dict[str, Any]]
    annotators: Sequence[Annotator]

    def of(self, run_ids: Collection[str]) -> Quality | None:
        """What was checked in these runs; None if nothing was."""
        own = [row for row in self.rows if row["run_id"] in run_ids]
        if not own:
            return None
        total = {name: sum(row[name] or 0 for row in own) for name in _SUMS}
        return Quality(
            num_checks=total["num_checks"],
            check_iou=_ratio(total["checked"], total["num_checks"]),
            num_audited=total["num_audited"],
            over_90=_ratio(total["over_90"], total["num_audited"]),
            over_75=_ratio(total["over_75"], total["num_audited"]),
            num_withheld=total["num_withheld"],
            unaided=_ratio(total["unaided"], total["num_withheld"]),
        )


def read_checks(reading: Reading) -> Checks:
    """Read what was checked."""
    by_run = reading.rows(
        """SELECT run_id, count(*) AS num_checks, sum(mean_iou) AS checked,
                  0 AS num_audited, 0 AS over_90, 0 AS over_75, 0 AS num_withheld, 0 AS unaided
           FROM agreements WHERE kind = 'gold' GROUP BY run_id
           UNION ALL
           SELECT d.run_id, 0, 0, count(*),
                  count(*) FILTER (coalesce(d.iou_with_result, 0) > 0.9),
                  count(*) FILTER (coalesce(d.iou_with_result, 0) > 0.75), 0, 0
           FROM decisions d JOIN reviews r USING (submission_id)
           WHERE r.kind = 'audit' AND d.action <> 'withheld' GROUP BY d.run_id
           UNION ALL
           SELECT run_id, 0, 0, 0, 0, 0, count(*), count(*) FILTER (iou_with_result >= ?)
           FROM decisions WHERE action = 'withheld' GROUP BY run_id""",
        (WOULD_BE_ACCEPTED,),
    )
    annotators = reading.rows(
        """SELECT annotator AS name, count(*) FILTER (kind = 'gold') AS num_checks,
                  avg(mean_iou) FILTER (kind = 'gold') AS check_iou,
                  count(*) FILTER (kind = 'second') AS num_seconds,
                  avg(mean_iou) FILTER (kind = 'second') AS second_iou,
                  count(*) FILTER (is_disputed) AS num_disputed
           FROM agreements GROUP BY annotator ORDER BY annotator"""
    )
    return Checks(by_run, [Annotator(**row) for row in annotators])


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
