"""The report and the sample picture of a workspace, also when files of images are gone."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from flows.errors import UsageError
from flows.intake.rows import IntakeReport
from flows.orchestration.artifacts import sample_page
from flows.report.reporting import sample_picture, write_report
from flows.workspace import Workspace

Import = Callable[..., IntakeReport]


def most_masks(workspace: Workspace) -> str:
    [row] = workspace.lake.rows(
        """SELECT file_name FROM current_masks JOIN images USING (image_id)
           GROUP BY image_id, file_name ORDER BY count(*) DESC, image_id LIMIT 1"""
    )
    return str(row["file_name"])


def size(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture)) as image:
        return image.size


def test_the_sample_passes_over_files_that_are_gone(
    bring: Import, workspace: Workspace, pictures: Path
) -> None:
    bring(folder=pictures, gold=0.0)
    whole = sample_picture(workspace)
    assert (size(whole.jpeg), whole.problems) == ((720, 540), ())
    gone = most_masks(workspace)
    (pictures / gone).unlink()
    sample = sample_picture(workspace)
    assert size(sample.jpeg) == (720, 540)
    assert sample.jpeg != whole.jpeg
    [line] = sample.problems
    assert line.startswith(f"{pictures / gone}: No such file")
    assert f"Left out: {line}" in sample_page(workspace)


def test_the_sample_is_grey_when_no_file_is_left(
    bring: Import, workspace: Workspace, pictures: Path
) -> None:
    assert size(sample_picture(workspace).jpeg) == (64, 64)
    bring(folder=pictures, gold=0.0)
    for path in pictures.iterdir():
        path.unlink()
    sample = sample_picture(workspace)
    assert size(sample.jpeg) == (64, 64)
    assert 0 < len(sample.problems) <= 10


@pytest.mark.parametrize(
    ("place", "message"), [(".", "a folder; name the file"), ("no/r.html", "make it first")]
)
def test_a_report_that_cannot_be_written_leaves_nothing(
    filled: Workspace, tmp_path: Path, place: str, message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        write_report(filled, tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_report_takes_the_place_of_the_last(filled: Workspace, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for _ in range(2):
        path = write_report(filled, tmp_path / "out" / "r.html")
        assert [item.name for item in path.parent.iterdir()] == ["r.html"]
        assert path.read_text().startswith("<!doctype html>")
