"""Questions to the store that a reader may repeat with `maskloop sql`, and today's answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.report.reading import Reading

MAX_ROWS = 12


@dataclass(frozen=True)
class Answer:
    """One question, its SQL and the table that came back."""

    question: str
    sql: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_left_out: int


QUESTIONS = (
    (
        "What stands in the store?",
        """SELECT stage, count(*) AS masks, count(DISTINCT image_id) AS images
FROM current_masks GROUP BY stage ORDER BY masks DESC""",
    ),
    (
        "Which model helped to make each mask, and what was that model trained on?",
        """SELECT m.stage, m.model_version, v.training_snapshot,
       v.num_training_masks, count(*) AS masks
FROM current_masks m JOIN model_versions v ON m.model_version = v.version
GROUP BY ALL ORDER BY m.stage, m.model_version""",
    ),
    (
        "When a person decides on a proposal, was the model right to be sure of it?",
        """SELECT model_version, action, count(*) AS proposals,
       round(avg(predicted_iou), 2) AS model_said,
       round(avg(iou_with_result), 2) AS person_left
FROM decisions WHERE action <> 'withheld' GROUP BY ALL ORDER BY model_version, action""",
    ),
)


def ask_all(reading: Reading) -> list[Answer]:
    """Every question with its answer now."""
    return [_ask(reading, question, sql) for question, sql in QUESTIONS]


def _ask(reading: Reading, question: str, sql: str) -> Answer:
    rows = reading.rows(sql)
    return Answer(
        question=question,
        sql=sql,
        columns=list(rows[0]) if rows else [],
        rows=[[_cell(value) for value in row.values()] for row in rows[:MAX_ROWS]],
        num_left_out=max(0, len(rows) - MAX_ROWS),
    )


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
