"""A backup is whole or not there, and what comes back is the workspace that was copied."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.progress import Silent
from flows.settings import FILE_NAME
from flows.settings_text import with_values
from flows.store_settings import StoreSettings
from flows.upkeep import backups, checking
from flows.upkeep.moving import move_store
from flows.workspace import Workspace, open_workspace
from storage.errors import ChecksumMismatchError, NotFoundError, TerminalStorageError
from storage.failpoints import EXIT_CODE, VARIABLE
from storage.queue.items import NewItem
from storage.queue.people import People
from storage.rows import RunRow, utcnow

ROWS = "SELECT * FROM masks ORDER BY mask_id"


def add_run(workspace: Workspace, name: str) -> None:
    row = RunRow(run_id=name, stage="add", config="{}", status="done", started_at=utcnow())
    workspace.lake.commit(lambda tx: tx.insert([row]), message="test")


def test_what_comes_back_is_what_was_there(filled: Workspace, tmp_path: Path) -> None:
    snapshot = filled.lake.snapshot()
    first = backups.back_up(filled, tmp_path / "backup")
    assert first.num_copied > 5
    assert first.snapshot == snapshot
    add_run(filled, "later")
    second = backups.back_up(filled, tmp_path / "backup")
    assert second.num_copied < 6, "only what is new is copied"
    kept = [path for path in (tmp_path / "backup" / "files").rglob("*") if path.is_file()]
    assert len(kept) == len({file.sha256 for file in second.files})
    backups.restore(tmp_path / "backup", tmp_path / "again")
    again = open_workspace(tmp_path / "again")
    assert again.lake.rows(ROWS) == filled.lake.rows(ROWS)
    assert again.lake.rows(ROWS, snapshot=snapshot) == filled.lake.rows(ROWS, snapshot=snapshot)
    assert again.lake.rows("SELECT 1 AS one FROM runs WHERE run_id = 'later'") == [{"one": 1}]
    image = again.lake.rows("SELECT image_id FROM images LIMIT 1")[0]["image_id"]
    assert (again.pixels(image) == filled.pixels(image)).all()
    add_run(again, "goes on")
    assert checking.fsck(again) == []
    again.close()


def test_a_damaged_backup_is_refused_and_makes_no_workspace(
    filled: Workspace, tmp_path: Path
) -> None:
    made = backups.back_up(filled, tmp_path / "backup")
    file = max(made.files, key=lambda file: file.bytes)
    path = tmp_path / "backup" / "files" / file.sha256[:2] / file.sha256
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ChecksumMismatchError, match=file.sha256):
        backups.restore(tmp_path / "backup", tmp_path / "again")
    assert not (tmp_path / "again" / "maskloop.toml").exists()
    (tmp_path / "again").mkdir(exist_ok=True)
    (tmp_path / "again" / "mine").touch()
    with pytest.raises(TerminalStorageError, match="not empty; restore into an empty folder"):
        backups.restore(tmp_path / "backup", tmp_path / "again")


def test_a_backup_that_was_cut_short_is_none(filled: Workspace, tmp_path: Path) -> None:
    backups.back_up(filled, tmp_path / "backup")
    (tmp_path / "backup" / "manifest.json").unlink()
    with pytest.raises(NotFoundError, match=r"manifest\.json: not there"):
        backups.restore(tmp_path / "backup", tmp_path / "again")


def test_a_damaged_store_is_not_backed_up(filled: Workspace, tmp_path: Path) -> None:
    path = max((filled.root / "lake/main/masks").glob("*.parquet"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ChecksumMismatchError, match=path.name):
        backups.back_up(filled, tmp_path / "backup")
    assert not (tmp_path / "backup" / "manifest.json").exists()


QueueRows = Callable[[Any], dict[str, list[str]]]
Everything = Callable[[Any], dict[int, dict[str, list[str]]]]
TEAM = [pytest.mark.postgres, pytest.mark.s3]
SLOW_TEAM = [pytest.mark.slow, *TEAM]
# What is moved of a workspace, and whether its queue goes along.
PLACES = {
    "in its folder": (),
    "in another folder": ("data",),
    "in S3 and Postgres": ("s3", "postgres"),
    "in S3 and SQLite": ("s3",),
    "in a folder and Postgres": ("postgres",),
    "in S3 and Postgres, its queue in SQLite": ("s3", "postgres", "here"),
    "in its folder, its queue in Postgres": ("queue",),
}
MARKS = {
    "in S3 and Postgres": TEAM,
    "in S3 and SQLite": SLOW_TEAM,
    "in a folder and Postgres": SLOW_TEAM,
    "in S3 and Postgres, its queue in SQLite": SLOW_TEAM,
    "in its folder, its queue in Postgres": TEAM,
}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in PLACES])
def anywhere(
    request: pytest.FixtureRequest, filled: Workspace, tmp_path: Path
) -> Iterator[Workspace]:
    """A workspace with images, objects and a queue, whose store lies in every kind of place."""
    told = PLACES[request.param]
    team = request.getfixturevalue("team") if request.param in MARKS else StoreSettings()
    filled.objects.put("models/a.safetensors", b"weights" * 1000)
    if "queue" in told:
        path = filled.root / FILE_NAME
        path.write_text(with_values(path.read_text(), "queue", {"url": team.catalog}))
    elif told:
        data = team.data if "s3" in told else str(tmp_path / "elsewhere")
        catalog = team.catalog if "postgres" in told else ""
        to = StoreSettings(data=data, catalog=catalog, endpoint=team.endpoint)
        move_store(filled, to, Silent(), queue_along="here" not in told)
    found = open_workspace(filled.root)
    fill_queue(found)
    yield found
    found.close()


def fill_queue(workspace: Workspace) -> None:
    """Items, one answer and one person; `person` holds the next item."""
    queue = workspace.queue
    of_image = "SELECT image_id, file_name, height, width FROM images ORDER BY image_id"
    queue.enqueue(
        NewItem(**row, model_version="v1", run_id="run-1", iteration=1)
        for row in workspace.lake.rows(of_image)
    )
    lease = queue.claim("bob")
    assert lease is not None
    queue.submit(lease.item.item_id, lease.lease_token, "bob", "key", {})
    People(queue.database).add("ada", "lead")
    assert queue.claim("person") is not None


def test_wherever_the_store_lies_the_same_comes_back_in_a_folder(
    anywhere: Workspace, tmp_path: Path, everything: Everything, queue_rows: QueueRows
) -> None:
    add_run(anywhere, "here")
    before, asked = everything(anywhere.lake), queue_rows(anywhere.queue.database)
    token = People(anywhere.queue.database).renew("ada")
    asked = queue_rows(anywhere.queue.database)
    made = backups.back_up(anywhere, tmp_path / "backup")
    assert (tmp_path / "backup" / "part").exists() is False
    add_run(anywhere, "later")
    again = backups.back_up(anywhere, tmp_path / "backup")
    assert again.num_copied < 6 < made.num_copied, "only what is new is copied"
    restored = backups.restore(tmp_path / "backup", tmp_path / "again")
    here = open_workspace(tmp_path / "again")
    found = everything(here.lake)
    assert {number: found[number] for number in before} == before
    assert len(found) == len(before) + 1
    assert queue_rows(here.queue.database) == asked
    held = here.queue.claim("person")
    assert held is not None
    identity = People(here.queue.database).of_token(token)
    assert identity is not None
    assert (
        str(here.lake.place) == f"{tmp_path}/again with the catalog {tmp_path}/again/catalog.sqlite"
    )
    assert here.queue.database.file == tmp_path / "again" / "queue.sqlite"
    image = here.lake.rows("SELECT image_id FROM images LIMIT 1")[0]["image_id"]
    assert (here.pixels(image) == anywhere.pixels(image)).all()
    assert checking.fsck(here) == []
    is_here = anywhere.settings.store == StoreSettings() and not anywhere.settings.queue.url
    assert (restored.brought_here is None) == is_here
    settings = [root / FILE_NAME for root in (here.root, anywhere.root)]
    assert (settings[0].read_bytes() == settings[1].read_bytes()) == is_here
    here.close()


@pytest.mark.postgres
@pytest.mark.s3
def test_it_says_how_to_go_back_and_no_password(
    filled: Workspace, team: StoreSettings, tmp_path: Path
) -> None:
    move_store(filled, team, Silent())
    path = filled.root / FILE_NAME
    secret = team.catalog.replace("@", ":sesame@", 1)
    path.write_text(with_values(path.read_text(), "store", {"catalog": secret}))
    there = open_workspace(filled.root)
    backups.back_up(there, tmp_path / "backup")
    there.close()
    restored = backups.restore(tmp_path / "backup", tmp_path / "again")
    assert restored.brought_here is not None
    assert f"maskloop store move --data {team.data} --catalog postgresql" in restored.brought_here
    assert "sesame" not in restored.brought_here + (tmp_path / "again" / FILE_NAME).read_text()
    again = open_workspace(tmp_path / "again")
    assert again.settings.store.endpoint == team.endpoint, "images may be on that server"
    again.close()


@pytest.mark.parametrize("number", [3, -1], ids=["among the objects", "before the manifest"])
def test_killed_while_it_copies_it_goes_on_and_the_one_before_stays_whole(
    filled: Workspace, tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "backup"
    num_files = backups.back_up(filled, tmp_path / "another").num_copied
    nth = number % (num_files + 1)
    command = [sys.executable, "-m", "flows.cli.app", "store", "backup", str(folder)]
    environment = {**os.environ, "MASKLOOP_HOME": str(filled.root)}
    killed = subprocess.run(
        command, env={**environment, VARIABLE: f"backup.after_file:{nth}"}, check=False
    )
    assert killed.returncode == EXIT_CODE
    with pytest.raises(NotFoundError, match=r"manifest\.json: not there"):
        backups.restore(folder, tmp_path / "again")
    made = backups.back_up(filled, folder)
    assert made.num_copied <= num_files - nth + 2, "what was there is not copied again"
    add_run(filled, "later")
    killed = subprocess.run(
        command, env={**environment, VARIABLE: "backup.after_file:1"}, check=False
    )
    assert killed.returncode == EXIT_CODE
    assert backups.restore(folder, tmp_path / "again").backup.snapshot == made.snapshot


@pytest.mark.parametrize(
    "open_filled",
    ["filled_here", pytest.param("filled_team", marks=[pytest.mark.slow, *TEAM])],
)
def test_others_commit_meanwhile(
    request: pytest.FixtureRequest, tmp_path: Path, open_filled: str
) -> None:
    with request.getfixturevalue(open_filled)() as filled:
        enough, stop = threading.Event(), threading.Event()

        def commit() -> None:
            number = 0
            while not stop.is_set():
                add_run(filled, f"run-{number}")
                number += 1
                if number == 3:
                    enough.set()

        other = threading.Thread(target=commit)
        other.start()
        try:
            assert enough.wait(60)
            made = backups.back_up(filled, tmp_path / "backup")
        finally:
            stop.set()
            other.join()
        assert filled.lake.snapshot() >= made.snapshot
        before = rows_at(filled, made.snapshot)
    backups.restore(tmp_path / "backup", tmp_path / "again")
    again = open_workspace(tmp_path / "again")
    assert again.lake.snapshot() == made.snapshot
    assert rows_at(again, made.snapshot) == before
    assert checking.fsck(again) == []
    again.close()


def rows_at(workspace: Workspace, snapshot: int) -> list[list[str]]:
    """What commits and images have brought up to then."""
    return [
        sorted(map(str, workspace.lake.rows(f"SELECT * FROM {table}", snapshot=snapshot)))
        for table in ("runs", "images", "masks", "mask_labels")
    ]
