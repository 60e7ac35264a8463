"""A backup is whole or not there, and what comes back is the workspace that was copied."""

from pathlib import Path

import pytest

from flows import backups, checking
from flows.workspace import Workspace, open_workspace
from storage.errors import ChecksumMismatchError, NotFoundError, TerminalStorageError
from storage.rows import RunRow, utcnow

ROWS = "SELECT * FROM masks ORDER BY mask_id"


def add_run(workspace: Workspace, name: str) -> None:
    row = RunRow(run_id=name, stage="add", config="{}", status="done", started_at=utcnow())
    workspace.lake.commit(lambda tx: tx.insert([row]), message="test")


def close(workspace: Workspace) -> None:
    workspace.lake.close()
    workspace.queue.close()
    workspace.pointer.close()


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
    close(again)


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
