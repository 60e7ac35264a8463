"""What the Prefect UI shows of a run: metrics, a picture of masks, progress, a link to the report.

Keys are stable, so that the UI shows each artifact's history over the runs.
"""

import base64
import time
from collections.abc import Mapping
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.progress import Progress
from flows.report.advice import advice
from flows.report.reporting import sample_picture, training_curves, write_report
from flows.workspace import Workspace
from storage.catalog import evaluations, models

METRICS_KEY = "gold-scores"
SAMPLE_KEY = "sample-masks"
CURVES_KEY = "training-curves"
ADVICE_KEY = "stop-or-go-on"
REPORT_KEY = "report"
PROGRESS_KEY = "progress"
_UPDATE_EVERY_S = 3.0


def publish(workspace: Workspace) -> None:
    """Refresh the metrics, the advice, the curves, the sample picture, the link to the report."""
    scores = evaluations.by_model(workspace.lake, split="gold")
    rows = [
        {
            "version": row.version,
            "role": row.role,
            "status": row.status,
            **scores.get(row.version, {}),
        }
        for row in models.all_versions(workspace.lake)
    ]
    create_table_artifact(
        rows, key=METRICS_KEY, description="Scores on the gold set by model version"
    )
    create_markdown_artifact(
        sample_page(workspace),
        key=SAMPLE_KEY,
        description="Images with their masks, as the store has them now",
    )
    if told := advice(workspace.lake):
        create_markdown_artifact(
            told.words,
            key=ADVICE_KEY,
            description="What people's last work bought on the gold set, and what to do next",
        )
    if curves := training_curves(workspace):
        create_markdown_artifact(
            _curves_page(curves),
            key=CURVES_KEY,
            description="The trainings from their first step to their last; the newest stands out",
        )
    report = write_report(workspace, workspace.root / "report.html")
    create_link_artifact(report.as_uri(), link_text=str(report), key=REPORT_KEY)


def sample_page(workspace: Workspace) -> str:
    """The sample picture as Markdown, with a note for each image whose file cannot be read."""
    sample = sample_picture(workspace)
    picture = base64.b64encode(sample.jpeg).decode()
    notes = (f"Left out: {line}" for line in sample.problems)
    return "\n\n".join([f"![images with their masks](data:image/jpeg;base64,{picture})", *notes])


def _curves_page(curves: Mapping[str, str]) -> str:
    pictures = {name: base64.b64encode(svg.encode()).decode() for name, svg in curves.items()}
    return "\n\n".join(
        f"**{name}**\n\n![{name}](data:image/svg+xml;base64,{picture})"
        for name, picture in pictures.items()
    )


class _Published:
    """Passes progress on, and to a Prefect progress artifact at most every few seconds."""

    def __init__(self, listener: Progress) -> None:
        self._listener = listener
        self._artifact: UUID | None = None
        self._next = time.monotonic() + _UPDATE_EVERY_S

    def step(self, what: str, done: int, total: int) -> None:
        self._listener.step(what, done, total)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _UPDATE_EVERY_S
        percent = 100.0 * done / max(total, 1)
        description = f"{what}: {done} of {total}"
        if self._artifact is None:
            made = create_progress_artifact(percent, key=PROGRESS_KEY, description=description)
            assert isinstance(made, UUID), "outside an event loop Prefect answers at once"
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, percent, description=description)

    def note(self, text: str) -> None:
        self._listener.note(text)


def published_progress(listener: Progress) -> Progress:
    """Progress for the body of a task, shown in the Prefect UI as well."""
    return _Published(listener)
