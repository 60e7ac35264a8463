"""The report and the sample picture of a workspace: `flows/report` with the store behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import rle
from flows.errors import StageError
from flows.exporting import check_place
from flows.report.courses import alone, course_chart, read_courses
from flows.report.data import STAGES
from flows.report.gallery import MAX_PIXELS
from flows.report.page import build_report
from flows.report.pictures import Layer, Pixels, jpeg, overlay
from flows.report.reading import Reading
from flows.suppression import as_rle
from flows.workspace import Workspace
from storage.queue.errors import UnknownItem

_MAX_TRIES = 10


def write_report(workspace: Workspace, path: Path) -> Path:
    """Write the report of the newest snapshot; returns `path`. Raises UsageError for a folder."""
    check_place(path)

    def proposals(item_id: str) -> Sequence[Mapping[str, Any]]:
        try:
            offered: Sequence[Mapping[str, Any]] = workspace.queue.item(item_id).payload[
                "proposals"
            ]
        except UnknownItem:
            return ()
        return offered

    return build_report(workspace.lake, workspace.pixels, _decode, out=path, proposals=proposals)


@dataclass(frozen=True)
class Sample:
    """A JPEG, and a line for each image that would have been shown but cannot be read."""

    jpeg: bytes
    problems: tuple[str, ...]


def sample_picture(workspace: Workspace) -> Sample:
    """The image that has most masks, with them; a grey square where there is none to show."""
    reading = Reading(workspace.lake, workspace.lake.snapshot())
    rows = reading.rows(
        f"""SELECT image_id FROM current_masks JOIN images USING (image_id)
            WHERE height * width <= {MAX_PIXELS}
            GROUP BY image_id ORDER BY count(*) DESC, image_id LIMIT {_MAX_TRIES}"""
    )
    problems: list[str] = []
    for row in rows:
        try:
            picture = _with_masks(workspace, reading, row["image_id"])
        except StageError as error:
            problems.append(str(error))
        else:
            return Sample(jpeg(picture), tuple(problems))
    return Sample(jpeg(np.full((64, 64, 3), 200, dtype=np.uint8)), tuple(problems))


def training_curves(workspace: Workspace) -> dict[str, str]:
    """SVG pictures of how the trainings went, by what they show; none before the first."""
    courses = read_courses(Reading(workspace.lake, workspace.lake.snapshot()))
    charts = {
        "loss": course_chart("loss", courses, lambda course: course.losses),
        "IoU": course_chart("IoU", courses, lambda course: course.ious),
    }
    return {name: alone(chart) for name, chart in charts.items() if chart}


def _with_masks(workspace: Workspace, reading: Reading, image_id: str) -> Pixels:
    pixels = workspace.pixels(image_id)
    masks = reading.rows(
        "SELECT stage, segmentation FROM current_masks WHERE image_id = ? ORDER BY area DESC",
        (image_id,),
    )
    layers = [
        Layer(_decode(row["segmentation"]), stage)
        for stage in STAGES
        for row in masks
        if row["stage"] == stage
    ]
    return overlay(pixels, layers)


def _decode(segmentation: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    return rle.decode(as_rle(segmentation))
