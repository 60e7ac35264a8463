"""How trainings went: means over parts of the steps, as curves of which the newest stand out."""

from functools import partial
from xml.etree import ElementTree

import pytest

from flows.report.courses import PARTS, Course, alone, course_chart, read_courses
from flows.report.reading import Reading
from flows.workspace import Workspace
from storage.catalog.lake import Transaction
from storage.rows import ModelVersionRow, TrainingStepRow, utcnow

SVG = "{http://www.w3.org/2000/svg}"


def version(number: int, role: str) -> ModelVersionRow:
    return ModelVersionRow(
        version=f"v{number}",
        parent=None,
        weights_uri="weights",
        weights_sha256="00",
        architecture="nano",
        config_hash="c",
        config="{}",
        training_snapshot=1,
        num_training_images=4,
        num_training_masks=9,
        generation_depth=1,
        role=role,
        status="retired",
        reason=None,
        run_id=f"run{number}",
        created_at=utcnow(),
    )


def steps(number: int, losses: list[float]) -> list[TrainingStepRow]:
    return [
        TrainingStepRow(run_id=f"run{number}", step=step, loss=loss, iou=1 - loss, seconds=0.5)
        for step, loss in enumerate(losses, start=1)
    ]


@pytest.fixture
def courses(workspace: Workspace) -> list[Course]:
    """Two trainings of the loop, one of two steps, and a control."""
    versions = [version(1, "base"), version(2, "candidate"), version(3, "control")]
    versions.append(version(4, "candidate"))
    for rows in (
        versions,
        steps(2, [0.25, 0.75]),
        steps(3, [0.5] * PARTS),
        steps(4, [float(part % 2) / 2 for part in range(2 * PARTS)]),
    ):
        workspace.lake.commit(partial(Transaction.insert, rows=rows), message="test")
    return read_courses(Reading(workspace.lake, workspace.lake.snapshot()))


def test_each_point_is_the_mean_of_its_part(courses: list[Course]) -> None:
    short, control, last = courses
    assert [course.version for course in courses] == ["v2", "v3", "v4"]
    assert [course.is_control for course in courses] == [False, True, False]
    assert (short.parts, short.losses, short.ious) == ([0, PARTS // 2], [0.25, 0.75], [0.75, 0.25])
    assert control.losses == [0.5] * PARTS
    assert last.losses == pytest.approx([0.25] * PARTS)


def test_the_newest_of_each_kind_stand_out(courses: list[Course]) -> None:
    chart = course_chart("loss", courses, lambda course: course.losses)
    root = ElementTree.fromstring(chart)
    assert [group.attrib["class"] for group in root.iter("g")] == [
        "line loop earlier",
        "line control",
        "line loop",
    ]
    ends = {text.text for text in root.iter("text") if "end" in text.attrib["class"].split()}
    assert ends == {"0.250", "0.500"}


def test_a_chart_alone_is_a_picture(courses: list[Course]) -> None:
    root = ElementTree.fromstring(alone(course_chart("IoU", courses, lambda course: course.ious)))
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}polyline"))) == 3
