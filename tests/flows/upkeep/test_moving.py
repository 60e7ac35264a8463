"""A store that is moved is the same store in another place, with its history; nothing is half."""

import os
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.errors import StageError, UsageError
from flows.progress import Silent
from flows.settings import FILE_NAME, WORKSPACE_VERSION, read_settings
from flows.settings_template import TEMPLATE
from flows.settings_text import with_values
from flows.store_settings import StoreSettings
from flows.upkeep.checking import fsck
from flows.upkeep.moving import move_store
from flows.workspace import Workspace, open_workspace, queue_url
from storage.catalog.files import known_sums
from storage.catalog.lake import Lake
from storage.errors import TerminalStorageError, TransientStorageError
from storage.failpoints import EXIT_CODE, VARIABLE
from storage.queue import copying
from storage.queue.check import check
from storage.queue.database import Database
from storage.queue.errors import QueueMoved
from storage.queue.items import NewItem
from storage.queue.people import People
from storage.rows import WatermarkRow, utcnow

Everything = Callable[[Lake], dict[int, dict[str, list[str]]]]
QueueRows = Callable[[Database], dict[str, list[str]]]


def commit(lake: Lake, name: str) -> None:
    row = WatermarkRow(name=name, seq=0, updated_at=utcnow())
    lake.commit(lambda tx: tx.insert([row]), message="test")


def fill_queue(workspace: Workspace) -> None:
    """Items, one answer and one person; `person` holds the next item."""
    of_image = "SELECT image_id, file_name, height, width FROM images ORDER BY image_id"
    workspace.queue.enqueue(
        NewItem(**row, model_version="v1", run_id="run-1", iteration=1)
        for row in workspace.lake.rows(of_image)
    )
    answer(workspace, "first")
    People(workspace.queue.database).add("ada", "lead")
    assert workspace.queue.claim("person") is not None


def answer(workspace: Workspace, key: str) -> str:
    """The id of an answer that was accepted."""
    lease = workspace.queue.claim("bob")
    assert lease is not None
    held = (lease.item.item_id, lease.lease_token, "bob")
    return workspace.queue.submit(*held, key, {}).submission_id


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file() and "sqlite-" not in path.name)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.mark.postgres
@pytest.mark.s3
def test_to_a_team_and_back_with_every_snapshot(
    filled: Workspace,
    team: StoreSettings,
    tmp_path: Path,
    everything: Everything,
    queue_rows: QueueRows,
) -> None:
    fill_queue(filled)
    asked = queue_rows(filled.queue.database)
    filled.objects.put("models/a.safetensors", b"weights" * 1000)
    commit(filled.lake, "before")
    before, sums = everything(filled.lake), known_sums(filled.lake)
    assert any("ducklake-" in uri for uri in sums)
    lake_files = files(filled.root / "lake")
    moved = move_store(filled, team, Silent())
    assert moved.queue_moved
    assert files(filled.root / "lake") == lake_files, "the old place is as it was"
    with closing(open_workspace(filled.root)) as there:
        assert there.lake.place == team.place(filled.root)
        assert everything(there.lake) == before
        assert known_sums(there.lake) == sums, "what each file must be is known there too"
        assert fsck(there) == []
        assert queue_url(there.root, there.settings) == team.catalog
        assert queue_rows(there.queue.database) == asked
        told = answer(there, "there")
        commit(there.lake, "there")
        assert there.lake.snapshot() == len(before) + 1
        back = StoreSettings(data=str(tmp_path / "back"), catalog="sqlite:///back.sqlite")
        move_store(there, back, Silent())
    with closing(open_workspace(filled.root)) as again:
        assert again.objects.address("models") == str(tmp_path / "back" / "models")
        assert len(everything(again.lake)) == len(before) + 1
        assert fsck(again) == []
        assert told in {each.submission_id for each in again.queue.submissions_after(0)}
        settings = again.settings
    assert queue_url(filled.root, settings) == f"sqlite:///{filled.root / 'queue.sqlite'}"


class Stops(Silent):
    """Ctrl+C after so many objects."""

    def __init__(self, after: int) -> None:
        self.after = after

    def step(self, what: str, done: int, total: int) -> None:  # noqa: ARG002 -- Progress's own
        if done == self.after:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:  # noqa: ARG002
        if self.after == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 0], ids=["among the objects", "before the settings"])
def test_a_move_that_was_interrupted_is_run_again(
    filled: Workspace, tmp_path: Path, after: int, everything: Everything
) -> None:
    before = everything(filled.lake)
    to = StoreSettings(data=str(tmp_path / "new"), catalog="sqlite:///new/c.sqlite")
    text = (filled.root / FILE_NAME).read_text()
    with pytest.raises(KeyboardInterrupt):
        move_store(filled, to, Stops(after))
    assert (filled.root / FILE_NAME).read_text() == text
    # The store goes on where it was, and what was copied of it is no other store.
    commit(filled.lake, "meanwhile")
    move_store(filled, to, Silent())
    with closing(open_workspace(filled.root)) as there:
        after_move = everything(there.lake)
        assert {number: after_move[number] for number in before} == before
        assert len(after_move) == len(before) + 1
        assert fsck(there) == []


def test_a_commit_during_the_check_stops_the_move(filled: Workspace, tmp_path: Path) -> None:
    class Meanwhile(Silent):
        def note(self, text: str) -> None:  # noqa: ARG002
            commit(filled.lake, "meanwhile")

    to = StoreSettings(data=str(tmp_path / "new"), catalog="sqlite:///new/c.sqlite")
    with pytest.raises(TransientStorageError, match="somebody committed while it was moved"):
        move_store(filled, to, Meanwhile())
    assert read_settings(filled.root).store == StoreSettings()


def test_a_damaged_store_is_not_moved(filled: Workspace, tmp_path: Path) -> None:
    lost = next((filled.root / "lake" / "main" / "masks").glob("*.parquet"))
    lost.unlink()
    to = StoreSettings(data=str(tmp_path / "new"), catalog="sqlite:///new/c.sqlite")
    with pytest.raises(StageError, match=r"the copy is not sound: .* I7 .*maskloop fsck"):
        move_store(filled, to, Silent())
    assert read_settings(filled.root).store == StoreSettings()


def test_another_store_is_not_overwritten(
    filled: Workspace, tmp_path: Path, everything: Everything
) -> None:
    to = StoreSettings(data=str(tmp_path / "new"), catalog="sqlite:///new/c.sqlite")
    other = Lake.create(to.place(filled.root))
    before = everything(other)
    with pytest.raises(TerminalStorageError, match="another store is there"):
        move_store(filled, to, Silent())
    assert everything(other) == before
    other.close()


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("failpoint", "usable"),
    [
        pytest.param("move.after_copy", "old", marks=pytest.mark.slow, id="copied"),
        pytest.param("move.after_fence", None, id="fenced"),
        pytest.param("move.after_release", None, id="before the settings"),
        pytest.param("move.after_settings", "new", marks=pytest.mark.slow, id="after the settings"),
    ],
)
def test_a_move_that_was_killed_is_finished_by_the_same_command(
    filled: Workspace,
    postgres: Any,
    tmp_path: Path,
    queue_rows: QueueRows,
    failpoint: str,
    usable: str | None,
) -> None:
    fill_queue(filled)
    asked = queue_rows(filled.queue.database)
    name = f"killed{os.getpid()}{failpoint.replace('.', '')}"
    url = postgres.create(name)
    arguments = ("store", "move", "--data", str(tmp_path / "new"), "--catalog", url)
    assert run(filled.root, *arguments, failpoint=failpoint).returncode == EXIT_CODE
    new = usable == "new"
    assert (read_settings(filled.root).store.catalog == url) == new
    told = []
    if usable is None:
        refused = run(filled.root, "status")
        assert refused.returncode == 1
        assert "run the same maskloop store move again" in refused.stderr
        assert run(filled.root, *arguments, "--queue", "here").returncode == 1
    else:
        with closing(open_workspace(filled.root)) as there:
            assert queue_rows(there.queue.database) == asked
            told = [answer(there, "meanwhile")]
    if not new:
        # The server that runs on: whatever it takes goes along.
        again = run(filled.root, *arguments)
        assert again.returncode == 0, again.stderr
        assert "the review queue is in postgresql://" in again.stdout
    with closing(open_workspace(filled.root)) as there:
        assert there.lake.place.catalog == url
        assert check(there.queue.database, acknowledged=told) == []
        assert fsck(there) == []
    with pytest.raises(QueueMoved):
        answer(filled, "late")


def run(root: Path, *arguments: str, failpoint: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.app", *arguments],
        env={**os.environ, VARIABLE: failpoint, "MASKLOOP_HOME": str(root), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_queue_whose_new_place_is_gone_is_taken_back(filled: Workspace, tmp_path: Path) -> None:
    fill_queue(filled)
    target = Database.open(f"sqlite:///{tmp_path}/gone.sqlite", even_moved=True)
    copying.carry(filled.queue.database, target)
    copying.release(target)
    target.close()
    (tmp_path / "gone.sqlite").unlink()
    with pytest.raises(QueueMoved, match="maskloop store move --take-back"):
        answer(filled, "refused")
    wrong = run(filled.root, "store", "move", "--take-back", "--data", "x")
    assert (wrong.returncode, "--take-back: goes with nothing" in wrong.stderr) == (2, True)
    done = run(filled.root, "store", "move", "--take-back", "--yes")
    assert (done.returncode, "takes answers here again" in done.stdout) == (0, True), done.stderr
    answer(filled, "goes on")
    assert check(filled.queue.database) == []
    again = run(filled.root, "store", "move", "--take-back")
    assert (again.returncode, "nothing to do" in again.stderr) == (2, True)


@pytest.mark.postgres
def test_a_queue_stays_where_it_is_told_to(
    filled: Workspace, postgres: Any, tmp_path: Path, queue_rows: QueueRows
) -> None:
    fill_queue(filled)
    asked = queue_rows(filled.queue.database)
    url = postgres.create(f"stays{os.getpid()}")
    to = StoreSettings(data=str(tmp_path / "new"), catalog=url)
    moved = move_store(filled, to, Silent(), queue_along=False)
    assert (moved.queue_moved, moved.queue) == (False, f"sqlite:///{filled.root}/queue.sqlite")
    with closing(open_workspace(filled.root)) as there:
        assert there.settings.queue.url == "sqlite:///queue.sqlite"
        assert queue_rows(there.queue.database) == asked
        answer(there, "goes on")
        # A place that the settings say is not changed either.
        back = StoreSettings(data="back", catalog="sqlite:///back.sqlite")
        assert not move_store(there, back, Silent()).queue_moved
    with closing(open_workspace(filled.root)) as there:
        answer(there, "goes on again")


@pytest.mark.postgres
def test_a_move_that_fails_at_last_gives_the_queue_back(
    filled: Workspace, postgres: Any, tmp_path: Path
) -> None:
    fill_queue(filled)
    url = postgres.create(f"fails{os.getpid()}")
    to = StoreSettings(data=str(tmp_path / "new"), catalog=url)
    settings = filled.root / FILE_NAME
    text = settings.read_text()

    def spoil(held: threading.Event) -> None:
        """Nothing can be put in the place of a folder with something in it."""
        with filled.queue.database.write():
            held.set()
            time.sleep(1)
            settings.unlink()
            (settings / "something").mkdir(parents=True)

    class Spoils(Silent):
        def note(self, text: str) -> None:
            if "review queue" in text:
                held = threading.Event()
                pool.submit(spoil, held)
                assert held.wait(60)

    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match=FILE_NAME):
        move_store(filled, to, Spoils())
    (settings / "something").rmdir()
    settings.rmdir()
    settings.write_text(text)
    answer(filled, "goes on")
    with pytest.raises(QueueMoved, match=r"a copy of .* that was not finished"):
        Database.open(url)
    move_store(filled, to, Silent())
    with closing(open_workspace(filled.root)) as there:
        assert len(there.queue.submissions_after(0)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({}, "nothing to do"), ({"data": "gs://bucket/x"}, "--data: must be a folder or s3://")],
)
def test_a_place_that_makes_no_sense(
    filled: Workspace, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        move_store(filled, replace(StoreSettings(), **changes), Silent())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEMPLATE.format(version=WORKSPACE_VERSION), id="as init writes it"),
        pytest.param("version = 1\n", id="no such table"),
        pytest.param("[store]\n", id="an empty table"),
        pytest.param("[store]", id="no newline"),
        pytest.param("[store]\ndata = 'x'  # here\n[queue]\nurl = \"\"\n", id="with a comment"),
    ],
)
def test_the_settings_change_and_all_else_stays(text: str) -> None:
    values = {"data": "s3://b/p", "catalog": 'postgresql://a:"\\@h/d', "region": ""}
    found = tomllib.loads(with_values(text, "store", values))
    was = tomllib.loads(text)
    assert found["store"]["data"] == "s3://b/p"
    assert found["store"]["catalog"] == values["catalog"]
    assert {k: v for k, v in found.items() if k != "store"} == {
        k: v for k, v in was.items() if k != "store"
    }
    again = tomllib.loads(with_values(with_values(text, "store", values), "store", values))
    assert again == found


def test_what_cannot_be_changed_is_said_without_the_password() -> None:
    text = '[store]\ncatalog = """x"""\n'
    with pytest.raises(UsageError, match=r"maskloop\.toml: store\.catalog: .* by hand") as caught:
        with_values(text, "store", {"catalog": "postgresql://ada:sesame@host/db"})
    assert "sesame" not in str(caught.value)
