"""`maskloop add`: files, folders and globs; each picture once."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.errors import UsageError
from flows.intake.adding import add_images
from flows.intake.files import expand
from flows.intake.rows import IntakeReport
from flows.workspace import Workspace


def quiet(_done: int, _total: int) -> None:
    return


def add(workspace: Workspace, *patterns: object, strict: bool = False) -> IntakeReport:
    return add_images(workspace, [str(item) for item in patterns], strict=strict, progress=quiet)


@pytest.fixture
def photos(drawn: Any, tmp_path: Path) -> Path:
    """Two pictures, one of them deeper, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(drawn.folder / "scene-01.png", folder / "one.png")
    shutil.copy(drawn.folder / "scene-02.png", folder / "deep" / "two.PNG")
    (folder / "notes.txt").write_text("no picture")
    (folder / "folder.png").mkdir()
    return folder


PATTERNS = {
    "folder": (["."], ["deep/two.PNG", "one.png"]),
    "file": (["one.png"], ["one.png"]),
    "glob": (["*.png"], ["one.png"]),
    "deep glob": (["**/*.[pP][nN][gG]"], ["deep/two.PNG", "one.png"]),
    "each once": (["one.png", ".", "*.png"], ["deep/two.PNG", "one.png"]),
}


@pytest.mark.parametrize(("patterns", "names"), PATTERNS.values(), ids=PATTERNS)
def test_files_folders_and_globs_name_images(
    photos: Path, monkeypatch: pytest.MonkeyPatch, patterns: list[str], names: list[str]
) -> None:
    wanted = [photos / name for name in names]
    assert sorted(expand([str(photos / item) for item in patterns])) == wanted
    monkeypatch.chdir(photos)
    assert sorted(expand(patterns)) == wanted


def test_what_a_folder_has_beside_is_said(workspace: Workspace, photos: Path) -> None:
    frames = [Image.new("L", (20, 20), level) for level in (0, 200)]
    frames[0].save(photos / "pages.tif", save_all=True, append_images=frames[1:])
    (photos / ".git").mkdir()
    (photos / ".git" / "index").write_text("nothing to say about")
    report = add(workspace, photos, strict=True)
    assert report.num_new == 3
    assert report.notes == (
        f"{photos}: files left out by their endings: 1 .txt",
        f"images of which only the first page or frame is read: 1, such as {photos / 'pages.tif'}",
    )
    assert add(workspace, photos / "one.png").notes == ()


@pytest.mark.parametrize("pattern", ["nothing", "*.bmp", "a**b", "deep/deep"])
def test_a_name_without_images_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.chdir(photos)
    with pytest.raises(UsageError, match=r"expected files|write a glob"):
        expand([pattern])


def test_images_come_without_labels_and_once(workspace: Workspace, photos: Path) -> None:
    first = add(workspace, photos)
    assert (first.num_new, first.num_known, first.problems) == (2, 0, ())
    snapshot = workspace.lake.snapshot()
    again = add(workspace, photos, photos / "one.png")
    assert (again.num_new, again.num_known, again.repeated) == (0, 2, True)
    assert workspace.lake.snapshot() == snapshot
    rows = workspace.lake.rows("SELECT file_name, uri, split FROM images ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [
        ("deep/two.PNG", "source:photos/deep/two.PNG", "unlabelled"),
        ("one.png", "source:photos/one.png", "unlabelled"),
    ]


def test_a_bad_file_is_reported_and_strict_makes_it_fatal(
    workspace: Workspace, photos: Path
) -> None:
    (photos / "bad.png").write_bytes(b"")
    snapshot = workspace.lake.snapshot()
    with pytest.raises(
        UsageError, match=r"bad\.png: the file is empty.*\(nothing came in; without --strict"
    ):
        add(workspace, photos, strict=True)
    assert workspace.lake.snapshot() == snapshot
    report = add(workspace, photos)
    assert report.num_new == 2
    assert len(report.problems) == 1


def test_a_folder_of_nothing_usable_is_a_mistake(workspace: Workspace, photos: Path) -> None:
    with pytest.raises(UsageError, match=r"no usable image\. First problem: .*notes\.txt"):
        add(workspace, photos / "notes.txt")


def names(workspace: Workspace) -> dict[str, str]:
    rows = workspace.lake.rows("SELECT file_name, uri FROM images")
    assert len({row["file_name"] for row in rows}) == len(rows)
    return {row["file_name"]: row["uri"] for row in rows}


@pytest.fixture
def plates(drawn: Any, tmp_path: Path) -> Path:
    """Three folders with a `0.png` each, of other pictures."""
    for number, place in enumerate(("a", "b", "deep/b"), start=1):
        (tmp_path / "plates" / place).mkdir(parents=True)
        shutil.copy(drawn.folder / f"scene-{number:02d}.png", tmp_path / "plates" / place / "0.png")
    return tmp_path / "plates"


@pytest.mark.parametrize("pattern", ["", "**/*.png"], ids=["folder", "glob"])
def test_names_are_paths_below_what_was_named(
    workspace: Workspace, plates: Path, pattern: str
) -> None:
    add(workspace, plates / pattern)
    assert names(workspace) == {
        name: f"source:plates/{name}" for name in ("a/0.png", "b/0.png", "deep/b/0.png")
    }


def test_names_stay_apart_where_their_folders_were_named_alone(
    workspace: Workspace, plates: Path
) -> None:
    add(workspace, plates / "a" / "0.png", plates / "b" / "0.png")
    add(workspace, plates / "deep" / "b")
    assert names(workspace) == {
        "0.png": "source:a/0.png",
        "b/0.png": "source:b/0.png",
        "b-2/0.png": "source:b-2/0.png",
    }


def test_names_stay_apart_when_a_file_is_replaced(workspace: Workspace, plates: Path) -> None:
    for number in (1, 2, 3):
        shutil.copy(plates / ["a", "b", "deep/b"][number - 1] / "0.png", plates / "new.png")
        add(workspace, plates / "new.png")
    assert names(workspace).keys() == {"new.png", "plates/new.png", "plates/new-2.png"}


def test_the_same_picture_twice_is_one_image(workspace: Workspace, photos: Path) -> None:
    shutil.copy(photos / "one.png", photos / "copy.png")
    assert add(workspace, photos).num_new == 2


def test_pictures_that_moved_are_found_by_their_source(workspace: Workspace, photos: Path) -> None:
    from flows import workspace as workspaces

    add(workspace, photos)
    [row] = workspace.lake.rows("SELECT image_id FROM images WHERE file_name = 'one.png'")
    moved = photos.rename(photos.with_name("elsewhere"))
    sources = workspace.root / "sources.toml"
    sources.write_text(sources.read_text().replace(str(photos), str(moved)))
    opened = workspaces.open_workspace(workspace.root)
    assert opened.pixels(row["image_id"]).shape == (96, 128, 3)


def test_a_name_that_is_not_utf8_is_reported(workspace: Workspace, photos: Path) -> None:
    strange = photos / "\udcff.png"
    shutil.copy(photos / "one.png", strange)
    (photos / "one.png").unlink()
    report = add(workspace, photos)
    assert report.num_new == 1
    assert "rename the file" in report.problems[0]
