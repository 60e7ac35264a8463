"""A store that is moved is the same store in another place, with its history; nothing is half."""

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.checking import fsck
from flows.errors import StageError, UsageError
from flows.moving import move_store
from flows.progress import Silent
from flows.settings import FILE_NAME, TEMPLATE, WORKSPACE_VERSION, read_settings
from flows.settings_text import with_values
from flows.store_settings import StoreSettings
from flows.workspace import Workspace, open_workspace, queue_url
from storage.catalog.files import known_sums
from storage.catalog.lake import Lake
from storage.errors import TerminalStorageError, TransientStorageError
from storage.rows import ROWS, WatermarkRow, utcnow
from storage.s3.client import S3Config, client


@contextmanager
def opened(root: Path) -> Iterator[Workspace]:
    workspace = open_workspace(root)
    try:
        yield workspace
    finally:
        workspace.lake.close()
        workspace.queue.close()


def everything(lake: Lake) -> dict[int, dict[str, list[str]]]:
    """Every row of every table and the view at every snapshot."""
    names = [*(row.table for row in ROWS), "current_masks"]
    return {
        snapshot: {
            name: sorted(map(str, lake.rows(f"SELECT * FROM {name}", snapshot=snapshot)))
            for name in names
        }
        for snapshot in range(1, lake.snapshot() + 1)
    }


def commit(lake: Lake, name: str) -> None:
    row = WatermarkRow(name=name, seq=1, updated_at=utcnow())
    lake.commit(lambda tx: tx.insert([row]), message="test")


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file() and "sqlite-" not in path.name)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture
def team(postgres: Any, s3_server: Any, tmp_path: Path) -> StoreSettings:
    name = f"moved{os.getpid()}x{abs(hash(str(tmp_path)))}"
    endpoint = s3_server.endpoint_url
    client(S3Config(endpoint_url=endpoint)).create_bucket(Bucket=name)
    return StoreSettings(
        data=f"s3://{name}/store", catalog=postgres.create(name), endpoint=endpoint
    )


@pytest.mark.postgres
@pytest.mark.s3
def test_to_a_team_and_back_with_every_snapshot(
    filled: Workspace, team: StoreSettings, tmp_path: Path
) -> None:
    filled.objects.put("models/a.safetensors", b"weights" * 1000)
    commit(filled.lake, "before")
    before, sums = everything(filled.lake), known_sums(filled.lake)
    assert any("ducklake-" in uri for uri in sums)
    lake_files = files(filled.root / "lake")
    move_store(filled, team, Silent())
    assert files(filled.root / "lake") == lake_files, "the old place is as it was"
    with opened(filled.root) as there:
        assert there.lake.place == team.place(filled.root)
        assert everything(there.lake) == before
        assert known_sums(there.lake) == sums, "what each file must be is known there too"
        assert fsck(there) == []
        commit(there.lake, "there")
        assert there.lake.snapshot() == len(before) + 1
        back = StoreSettings(data=str(tmp_path / "back"), catalog="sqlite:///back.sqlite")
        move_store(there, back, Silent())
    with opened(filled.root) as again:
        assert again.objects.address("models") == str(tmp_path / "back" / "models")
        assert len(everything(again.lake)) == len(before) + 1
        assert fsck(again) == []
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
    filled: Workspace, tmp_path: Path, after: int
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
    with opened(filled.root) as there:
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


def test_another_store_is_not_overwritten(filled: Workspace, tmp_path: Path) -> None:
    to = StoreSettings(data=str(tmp_path / "new"), catalog="sqlite:///new/c.sqlite")
    other = Lake.create(to.place(filled.root))
    before = everything(other)
    with pytest.raises(TerminalStorageError, match="another store is there"):
        move_store(filled, to, Silent())
    assert everything(other) == before
    other.close()


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
