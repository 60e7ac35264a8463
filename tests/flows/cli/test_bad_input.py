"""Mistakes of users: one line with file, field and remedy, exit code 2, the store as it was."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.images import encode_png
from flows import workspace as workspaces
from flows.annotating.people import annotator_server
from flows.asking.assist import assist_stage
from flows.progress import Silent
from flows.recipes import Recipe
from flows.workspace import Workspace

Cli = Callable[..., Any]


def one_line(said: Any, *words: str) -> None:
    """Exactly one line on stderr, which has all these words; nothing on stdout."""
    assert (said.code, said.out) == (2, ""), said.err
    assert len(said.errors) == 1, said.err
    assert said.errors[0].startswith("error: ")
    for word in words:
        assert word in said.errors[0]


class TestNoWorkspace:
    def test_nowhere(self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MASKLOOP_HOME", raising=False)
        monkeypatch.chdir(tmp_path)
        one_line(cli("status"), str(tmp_path), "run: maskloop init")

    def test_a_wrong_home(self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MASKLOOP_HOME", str(tmp_path / "gone"))
        one_line(cli("status"), "MASKLOOP_HOME: ", str(tmp_path / "gone"), "maskloop init")

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("version = 1", "version = 99", ("version 99", "install a newer maskloop")),
            ("version = 1", "version = ", ("not a TOML file", "correct it")),
            ("[workers]", "[robots]", ("robots: unknown setting", "workers")),
            ('"ray" ', '"gpu" ', ("workers.kind", "'local'", "'gpu'")),
        ],
        ids=["newer", "broken", "unknown setting", "wrong value"],
    )
    def test_settings(
        self, cli: Cli, at_home: Workspace, old: str, new: str, words: Sequence[str]
    ) -> None:
        path = at_home.root / "maskloop.toml"
        path.write_text(path.read_text().replace(old, new, 1))
        one_line(cli("status"), str(path), *words)

    def test_a_store_of_a_newer_maskloop(self, cli: Cli, at_home: Workspace) -> None:
        at_home.lake.commit(
            lambda tx: tx.execute("UPDATE schema_versions SET version = 99"), message="test"
        )
        one_line(cli("status"), "schema 99", "install")

    def test_init_twice(self, cli: Cli, at_home: Workspace) -> None:
        one_line(cli("init", at_home.root), "maskloop.toml: a workspace already")

    def test_init_where_a_file_is(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        one_line(cli("init", tmp_path / "file"), str(tmp_path / "file"), "File exists")


def square(side: float = 9) -> list[list[float]]:
    return [[1, 1, side, 1, side, side, 1, side]]


def first_mask(**change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["annotations"][0].update(change)


def first_image(**change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["images"][0].update(change)


PROBLEMS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "polygon under 3 points": (
        first_mask(segmentation=[[1, 1, 9, 9]]),
        "but got 4 numbers; correct the annotation or delete it",
    ),
    "RLE of another size": (
        first_mask(segmentation={"size": [4, 4], "counts": "0"}),
        "must be the image's [96, 128], but got [4, 4]; draw the mask at that size, or correct",
    ),
    "broken RLE": (
        first_mask(segmentation={"size": [96, 128], "counts": "zz"}),
        "annotations[0].segmentation: counts: must",
    ),
    "unknown image id": (
        first_mask(image_id=999),
        "annotations[0].image_id: must be the id of an image, but got 999",
    ),
    "duplicate mask id": (
        first_mask(id=2000),
        "annotations[",
    ),
    "duplicate image id": (
        first_image(id=2),
        "images[1].id: must be unique, but 2 is there twice",
    ),
    "wrong crowd flag": (
        first_mask(iscrowd="yes"),
        "annotations[0].iscrowd: must be 0 or 1, but got 'yes'",
    ),
    "image outside the folder": (
        first_image(file_name="../../etc/passwd"),
        "images[0].file_name: must lie inside the folder of images",
    ),
    "image missing on disk": (
        first_image(file_name="gone.png"),
        "gone.png: no such file; copy it there or correct the file name",
    ),
    "wrong size": (
        first_image(height=97),
        "must be the image's [97, 128], but got [96, 128]",
    ),
}


@pytest.fixture
def fresh(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace, which commands find."""
    monkeypatch.setenv("MASKLOOP_HOME", str(workspace.root))
    return workspace


@pytest.mark.parametrize(("spoil", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_in_a_coco_file_is_one_line_and_strict_imports_nothing(
    cli: Cli,
    fresh: Workspace,
    drawn: Any,
    tmp_path: Path,
    spoil: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    document = drawn.document
    spoil(document)
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(document))
    snapshot = fresh.lake.snapshot()
    said = cli("import", "coco", path, "--images", drawn.folder, "--strict")
    strict = "nothing came in; without --strict only what is wrong stays out"
    one_line(said, "spoilt.json" if "gone" not in message else "gone.png", message, strict)
    assert fresh.lake.snapshot() == snapshot
    assert not (fresh.root / "sources.toml").exists()


FILES: dict[str, tuple[bytes | None, tuple[str, ...]]] = {
    "missing": (None, ("no such file", "name a COCO annotation file")),
    "empty": (b"", ("line 1: not JSON", "expected a COCO file")),
    "not JSON": (b"<xml/>", ("line 1: not JSON", "expected a COCO file")),
    "not text": (b"\xff\xfe\x00", ("not JSON",)),
    "a list": (b"[]", ("a list, such as a file of results",)),
    "not COCO": (b'{"a": 1}', ("images: missing", "expected a COCO file")),
    "no annotations": (b'{"images": []}', ("annotations: missing",)),
    "no images": (b'{"images": [], "annotations": []}', ("images is empty", "name a COCO file")),
}


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_coco_file(
    cli: Cli,
    fresh: Workspace,
    drawn: Any,
    tmp_path: Path,
    content: bytes | None,
    words: Sequence[str],
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    snapshot = fresh.lake.snapshot()
    one_line(cli("import", "coco", path, "--images", drawn.folder), str(path), *words)
    assert fresh.lake.snapshot() == snapshot


IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty; expected a JPEG"),
    "truncated": (encode_png(np.zeros((90, 90, 3), np.uint8))[:60], "broken"),
    "not an image": (b"hello", "not an image that can be read"),
    "too large": (encode_png(np.zeros((300, 300, 3), np.uint8)), "make the image smaller or raise"),
}


@pytest.mark.parametrize(("content", "message"), IMAGES.values(), ids=IMAGES)
def test_an_image_that_cannot_be_used(
    cli: Cli, fresh: Workspace, tmp_path: Path, content: bytes, message: str
) -> None:
    toml = fresh.root / "maskloop.toml"
    toml.write_text(toml.read_text().replace("200_000_000", "50_000"))
    (tmp_path / "one [b].png").write_bytes(content)
    snapshot = fresh.lake.snapshot()
    one_line(cli("add", tmp_path / "one [b].png"), "one [b].png: ", message)
    assert fresh.lake.snapshot() == snapshot


COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "SQL error": (("sql", "SELECT nothing FROM masks"), ("sql: ", "nothing")),
    "SQL syntax": (("sql", "SELEC 1"), ("sql: ", "SELEC")),
    "not a SELECT": (("sql", "DELETE FROM masks"), ("only one SELECT is allowed", "DELETE")),
    "two statements": (("sql", "SELECT 1; SELECT 2"), ("only one SELECT is allowed",)),
    "unknown table": (("sql", "SELECT * FROM secrets"), ("no table 'secrets'", "there are:")),
    "unknown version": (("sql", "SELECT 1 FROM masks AT (VERSION => 999)"), ("snapshot", "999")),
    "wrong format": (
        ("sql", "SELECT 1", "--format", "xml"),
        ("--format", "table, json, csv, parquet or arrow"),
    ),
    "unknown recipe": (("train", "--recipe", "huge"), ("recipe 'huge': unknown", "nano")),
    "unknown model": (("evaluate", "--model", "v9"), ("model version 'v9': unknown",)),
    "models show": (("models", "show", "v9"), ("model version 'v9': unknown",)),
    "models promote": (("models", "promote", "v9"), ("model version 'v9': unknown",)),
    "models rollback": (("models", "rollback"), ("no model is in service yet",)),
    "unknown stage": (("export", "coco", "o.json", "--stage", "x"), ("--stage", "label, manual")),
    "unknown snapshot": (("export", "coco", "o.json", "--snapshot", "99"), ("--snapshot", "99")),
    "no folder to write to": (("export", "coco", "no/o.json"), ("no folder no", "make it first")),
    "nothing to add": (("add", "nowhere/*.png"), ("nowhere/*.png: no image file there",)),
    "no folder of images": (("import", "coco", "a.json", "--images", "no"), ("--images: no is",)),
    "a fraction over 1": (
        ("import", "coco", "a.json", "--images", ".", "--gold", "2"),
        ("--gold: must be a fraction from 0 to 1, but got 2.0",),
    ),
    "truth without images": (("evaluate", "--truth", "t.json"), ("--truth and --images",)),
    "a version and a file": (
        ("evaluate", "--model", "v1", "--weights", "w.safetensors"),
        ("--model and --weights: give one",),
    ),
    "missing weights": (
        ("evaluate", "--weights", "w.safetensors"),
        ("--weights: w.safetensors: No such file", "name a weights file"),
    ),
    "weights that are none": (
        ("evaluate", "--weights", Path(__file__)),
        ("--weights: ", "not a maskloop safetensors file"),
    ),
    "missing truth": (
        ("evaluate", "--truth", "t.json", "--images", "."),
        ("--truth: t.json: no such file",),
    ),
    "loop without truth": (("loop", "--annotate", "simulated"), ("--truth: ", "name a COCO file")),
    "loop by nobody": (("loop", "--annotate", "robots"), ("--annotate: must be people or",)),
    "loop of no turn": (("loop", "--iterations", "0"), ("--iterations: must be at least 1",)),
    "loop with a missing truth": (
        ("loop", "--annotate", "simulated", "--truth", "t.json"),
        ("--truth: t.json: no such file",),
    ),
    "annotate with a missing truth": (
        ("annotate", "--simulate", "--truth", "t.json"),
        ("--truth: t.json: no such file",),
    ),
    "annotate without budget": (
        ("annotate", "--simulate", "--truth", "t.json", "--budget", "0"),
        ("--budget: must be at least 1",),
    ),
    "no way to choose": (
        ("assist", "--choose", "best"),
        ("--choose: must be one of random, uncertainty", "'best'"),
    ),
    "no way to propose": (("assist", "--propose", "magic"), ("--propose: must be one of grid",)),
    "a promise of everything": (
        ("assist", "--promise", "1"),
        ("--promise: must be between 0 and 1", "1.0"),
    ),
    "annotate with care and a budget": (
        ("annotate", "--simulate", "--truth", "t.json", "--budget", "9", "--careful"),
        ("--budget: a careful annotator takes what clicks it needs", "leave it out"),
    ),
    "audit of no image": (("audit", "--images", "0"), ("--images: must be at least 1, but got 0",)),
    "audit without a model": (("audit",), ("no model is in service yet", "maskloop generate")),
    "audit report without a model": (("audit", "--report"), ("no model is in service yet",)),
    "audit report of some images": (
        ("audit", "--report", "--images", "5"),
        ("--report: takes no --images or --seed",),
    ),
    "audit of another model": (("audit", "--model", "v2"), ("--model: goes with --report",)),
    "report into no folder": (("report", "no/r.html"), ("no/r.html: no folder no", "make it")),
    "report over a folder": (("report", "."), (".: a folder; name the file to write",)),
    "a negative age": (
        ("store", "gc", "--min-age-h", "-1"),
        ("--min-age-h: must be at least 0 hours, but got -1",),
    ),
    "no way for a queue": (
        ("store", "move", "--data", "there", "--queue", "away"),
        ("--queue: must be along or here, but got 'away'",),
    ),
    "no age": (("store", "gc", "--min-age-h", "nan"), ("--min-age-h: must be at least 0",)),
    "gold twice": (
        ("import", "coco", "a.json", "--images", ".", "--gold", "0.1", "--gold-list", "g.txt"),
        ("--gold and --gold-list: give one",),
    ),
}


@pytest.mark.parametrize(("arguments", "words"), COMMANDS.values(), ids=COMMANDS)
def test_a_wrong_argument(
    cli: Cli,
    at_home: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    words: Sequence[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    snapshot = at_home.lake.snapshot()
    one_line(cli(*arguments), *words)
    assert at_home.lake.snapshot() == snapshot


def other_names(document: dict[str, Any]) -> None:
    for image in document["images"]:
        image["file_name"] = "other-" + image["file_name"]


def other_sizes(document: dict[str, Any]) -> None:
    for image in document["images"]:
        image["height"] = 90
    for mask in document["annotations"]:
        mask["segmentation"] = square()


@pytest.mark.parametrize("spoil", [other_names, other_sizes])
@pytest.mark.parametrize("command", ["loop", "evaluate"])
def test_a_truth_for_other_images(
    cli: Cli,
    at_home: Workspace,
    drawn: Any,
    tmp_path: Path,
    spoil: Callable[[dict[str, Any]], None],
    command: str,
) -> None:
    document = drawn.document
    spoil(document)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(document))
    snapshot = at_home.lake.snapshot()
    more = {"loop": ("--annotate", "simulated"), "evaluate": ("--images", drawn.folder)}
    one_line(cli(command, "--truth", path, *more[command]), "--", "name")
    assert at_home.lake.snapshot() == snapshot


def test_a_simulated_annotator_with_a_truth_for_other_images_gives_its_item_back(
    cli: Cli, at_home: Workspace, drawn: Any, recipe: Recipe, tmp_path: Path
) -> None:
    assist_stage(at_home, recipe, Silent())
    document = drawn.document
    other_names(document)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(document))
    with annotator_server(at_home) as url:
        said = cli("annotate", "--simulate", "--truth", path, "--url", url)
    one_line(said, "--truth: ", "must have the images of the queue", "name the annotation file")
    assert at_home.queue.counts()["ready"] == 2


def run(root: Path, *arguments: object, **more: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.app", *map(str, arguments)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        **more,
    )


@pytest.mark.parametrize("limit", [8_000, 34_000], ids=["at once", "in the commit"])
def test_a_disk_that_fills_up(workspace: Workspace, drawn: Any, contents: Any, limit: int) -> None:
    before, snapshot = contents(workspace), workspace.lake.snapshot()
    arguments = ("import", "coco", drawn.truth, "--images", drawn.folder)

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = run(workspace.root, *arguments, preexec_fn=small_files)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: the disk is full")
    assert "nothing committed is lost: make room and run the command again" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    opened = workspaces.open_workspace(workspace.root)
    assert (contents(opened), opened.lake.snapshot()) == (before, snapshot)
    assert run(workspace.root, *arguments).returncode == 0


def test_a_folder_that_may_not_be_read_is_named(cli: Cli, fresh: Workspace, drawn: Any) -> None:
    shutil.copytree(drawn.folder, fresh.root / "pictures")
    (fresh.root / "pictures" / "gold.txt").mkdir()
    arguments = ("import", "coco", drawn.truth, "--images", fresh.root / "pictures")
    gold = fresh.root / "pictures" / "gold.txt"
    one_line(cli(*arguments, "--gold-list", gold), "--gold-list: ", str(gold), "Is a directory")
