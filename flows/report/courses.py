"""How trainings went, step by step: read from the store, and drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from flows.report.charts import HEIGHT, WIDTH, Line, Point, line_chart
from flows.report.reading import Reading

# More would draw the noise of single images.
PARTS = 10


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a training went: mean loss and IoU over each of PARTS equal parts of its steps.

    Of a training of fewer steps some parts are missing; `parts` says which there are. A part in
    which no image had anything to say is None.
    """

    version: str
    is_control: bool
    parts: Sequence[int]
    losses: Sequence[float | None]
    ious: Sequence[float | None]

    @property
    def kind(self) -> str:
        """Its class in the style sheet."""
        return "control" if self.is_control else "loop"


def read_courses(reading: Reading) -> list[Course]:
    """Of each model version that was trained here, the oldest first."""
    rows = reading.rows(
        """WITH lengths AS (SELECT run_id, max(step) AS steps FROM training_steps GROUP BY run_id)
           SELECT version, role = 'control' AS is_control, array_agg(part ORDER BY part) AS parts,
                  array_agg(loss ORDER BY part) AS losses, array_agg(iou ORDER BY part) AS ious
           FROM (SELECT run_id, (step - 1) * ? // steps AS part,
                        avg(loss) AS loss, avg(iou) AS iou
                 FROM training_steps JOIN lengths USING (run_id) GROUP BY ALL)
           JOIN model_versions USING (run_id)
           GROUP BY version, role, created_at ORDER BY created_at, version""",
        [PARTS],
    )
    return [Course(**row) for row in rows]


def course_chart(
    title: str, courses: Sequence[Course], values: Callable[[Course], Sequence[float | None]]
) -> Markup:
    """A curve for each training; the newest of the loop's and of the controls stand out.

    Empty where there is nothing to draw.
    """
    newest = {course.is_control: course.version for course in courses}
    ordered = sorted(courses, key=lambda course: course.version in newest.values())
    labels = [""] * PARTS
    labels[0], labels[PARTS // 2], labels[-1] = "start", "half", "end"
    lines = [
        _line(course, values(course), stands_out=course.version in newest.values())
        for course in ordered
    ]
    return line_chart(title, lines, labels)


def _line(course: Course, values: Sequence[float | None], *, stands_out: bool) -> Line:
    points = [
        Point(x=part, y=value, name=course.version)
        for part, value in zip(course.parts, values, strict=True)
        if value is not None
    ]
    return Line(
        kind=course.kind if stands_out else f"{course.kind} earlier",
        name=f"{course.kind} {course.version}",
        points=points,
        dots=False,
        ends=stands_out,
    )


def alone(chart: Markup) -> str:
    """A chart as a file of its own, with the page's colours and fonts."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{2 * HEIGHT}" '
    opening, rest = str(chart).split(">", 1)
    return f"{opening.replace('<svg ', head)}><style>{style}</style>{rest}"
