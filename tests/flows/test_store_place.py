"""The store lies where `[store]` says, and a machine that knows the place works on the same one."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows import workspace as workspaces
from flows.errors import UsageError
from flows.settings import FILE_NAME, read_settings
from flows.store_settings import StoreSettings
from flows.upkeep.checking import fsck
from flows.workspace import open_workspace, queue_url
from storage.errors import NotFoundError, TerminalStorageError
from storage.rows import WatermarkRow, utcnow


def settings_with(folder: Path, **store: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f'{name} = "{value}"' for name, value in store.items()]
    (folder / FILE_NAME).write_text("version = 1\n[store]\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("store", "data", "catalog"),
    [
        pytest.param({}, "{root}", "{root}/catalog.sqlite", id="nothing said"),
        pytest.param({"data": "./data"}, "{root}/data", "{root}/catalog.sqlite", id="a folder"),
        pytest.param(
            {"data": "/there", "catalog": "sqlite:///c/x.sqlite"},
            "/there",
            "{root}/c/x.sqlite",
            id="whole paths stay",
        ),
        pytest.param(
            {"catalog": "sqlite:////there/x.sqlite"}, "{root}", "/there/x.sqlite", id="of a file"
        ),
        pytest.param(
            {"data": "s3://bucket/a/b", "catalog": "postgresql://me:sesame@host/db"},
            "s3://bucket/a/b",
            "postgresql://host/db",
            id="of a team",
        ),
    ],
)
def test_where_a_store_lies(tmp_path: Path, store: dict[str, str], data: str, catalog: str) -> None:
    place = read_settings(settings_with(tmp_path, **store)).store.place(tmp_path)
    assert place.data == data.format(root=tmp_path)
    assert str(place.database) == catalog.format(root=tmp_path)
    assert "sesame" not in f"{place} {place!r} {place.database.target} {place.database!r}"


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ({"data": "s3://B/x"}, r"store\.data: must be s3://BUCKET/PREFIX"),
        ({"data": "gs://bucket"}, r"store\.data: must be a folder or s3://BUCKET/PREFIX"),
        ({"data": "s3://bucket/a*"}, r"store\.data: the prefix must be letters"),
        ({"catalog": "mysql://me:sesame@host/db"}, r"store\.catalog: must be sqlite:///FILE or"),
        ({"catalog": "postgresql://me:sesame@host"}, r"store\.catalog: must be postgresql://"),
        ({"catalog": "postgresql://me:sesame@host/db?x=y"}, r"store\.catalog: must be"),
        ({"endpoint": "ftp://me:sesame@host"}, r"store\.endpoint: must be http://HOST:PORT"),
    ],
)
def test_a_place_that_is_none_is_refused_without_its_password(
    tmp_path: Path, store: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_settings(settings_with(tmp_path, **store))
    assert "sesame" not in str(caught.value)


def test_files_in_a_folder_elsewhere(tmp_path: Path) -> None:
    root = settings_with(tmp_path / "w", data="../data", catalog="sqlite:///c/x.sqlite")
    with pytest.raises(NotFoundError, match=r"x\.sqlite: no store here; run: maskloop init"):
        open_workspace(root)
    made = workspaces.create(root)
    made.objects.put("models/a", b"weights")
    made.close()
    assert (tmp_path / "data" / "models" / "a").is_file()
    assert (tmp_path / "data" / "lake" / "main").is_dir()
    assert (root / "c" / "x.sqlite").is_file()
    assert (root / "c" / "x.lock").is_file()
    assert not (root / "lake").exists()
    with pytest.raises(UsageError, match="a workspace already; nothing to do"):
        workspaces.create(root)


def test_the_queue_is_with_the_catalog_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    url = "postgresql://host/db"
    settings = read_settings(settings_with(tmp_path, catalog=url))
    assert queue_url(tmp_path, settings) == url
    own = read_settings(settings_with(tmp_path))
    assert queue_url(tmp_path, own) == f"sqlite:///{tmp_path / 'queue.sqlite'}"
    (tmp_path / FILE_NAME).write_text(
        f'[store]\ncatalog = "{url}"\n[queue]\nurl = "postgresql://other/db"\n'
    )
    assert queue_url(tmp_path, read_settings(tmp_path)) == "postgresql://other/db"


@pytest.mark.postgres
@pytest.mark.s3
def test_two_machines_work_on_one_store(tmp_path: Path, postgres: Any, s3_server: Any) -> None:
    store = {
        "data": "s3://machines/here",
        "catalog": postgres.create("two_machines"),
        "endpoint": s3_server.endpoint_url,
    }
    one = settings_with(tmp_path / "one", **store)
    with pytest.raises((NotFoundError, TerminalStorageError), match="run: maskloop init"):
        open_workspace(one)
    with pytest.raises(NotFoundError, match="there is no such bucket; make it"):
        workspaces.create(one)
    make_bucket(StoreSettings(**store), one)
    here = workspaces.create(one)
    there = open_workspace(Path(shutil.copytree(one, tmp_path / "two")))
    stored = here.objects.put("models/a", b"weights")
    assert there.objects.get("models/a", sha256=stored.sha256) == b"weights"
    row = WatermarkRow(name="a", seq=1, updated_at=utcnow())
    here.lake.commit(lambda tx: tx.insert([row]), message="test")
    assert there.lake.rows("SELECT name, seq FROM watermarks") == [{"name": "a", "seq": 1}]
    assert there.lake.snapshot() == here.lake.snapshot()
    assert [each.invariant for each in fsck(there)] == []
    assert sorted(path.name for path in one.iterdir()) == [FILE_NAME]
    here.close()
    there.close()


def make_bucket(store: StoreSettings, root: Path) -> None:
    from storage.s3 import client as s3

    config = store.place(root).s3
    s3.client(config).create_bucket(Bucket=s3.parse(store.data)[0])
