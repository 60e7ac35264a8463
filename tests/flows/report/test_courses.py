"""How trainings went: means over parts of the steps, as curves of which the newest stand out."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from xml.etree import ElementTree

import pytest

from flows.report.courses import PARTS, Course, alone, course_chart, read_courses
from flows.report.reading import Reading
from flows.report.reporting import training_curves
from flows.workspace import Workspace
from storage.catalog.lake import Transaction
from storage.rows import ModelVersionRow, TrainingStepRow

Version = Callable[..., ModelVersionRow]
SVG = "{http://www.w3.org/2000/svg}"


def steps(number: int, losses: list[float]) -> list[TrainingStepRow]:
    return [
        TrainingStepRow(run_id=f"run{number}", step=step, loss=loss, iou=1 - loss, seconds=0.5)
        for step, loss in enumerate(losses, start=1)
    ]


@pytest.fixture
def courses(workspace: Workspace, version: Version) -> list[Course]:
    """Two trainings of the loop, one of two steps, and a control."""
    roles = ("base", "candidate", "control", "candidate")
    versions = [
        version(f"v{number}", None, role=role, run_id=f"run{number}")
        for number, role in enumerate(roles, start=1)
    ]
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


def test_what_nobody_measured_is_left_out(workspace: Workspace, version: Version) -> None:
    """No image had an object: no IoU, and in the second half no loss either."""
    silent = [replace(step, iou=None) for step in steps(1, [0.5, 0.5])]
    silent[1] = replace(silent[1], loss=None)
    for rows in ([version("v1", None, run_id="run1")], silent):
        workspace.lake.commit(partial(Transaction.insert, rows=rows), message="test")
    assert list(training_curves(workspace)) == ["loss"]
    [course] = read_courses(Reading(workspace.lake, workspace.lake.snapshot()))
    assert (course.losses, course.ious) == ([0.5, None], [None, None])


def test_a_chart_alone_is_a_picture(courses: list[Course]) -> None:
    root = ElementTree.fromstring(alone(course_chart("IoU", courses, lambda course: course.ious)))
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}polyline"))) == 3
