"""A store in S3 and Postgres: who is let in, who waits for whom, and what outages do."""

import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from storage.catalog.lake import Lake, Transaction
from storage.catalog.place import Place
from storage.catalog.postgres_catalog import PostgresCatalog
from storage.errors import (
    NotFoundError,
    StorageError,
    TerminalStorageError,
    TransientStorageError,
)

pytestmark = [pytest.mark.postgres, pytest.mark.s3]
PASSWORD = 'it\'s \\ a "pass word" = x@/?#'
QUOTED = "it%27s%20%5C%20a%20%22pass%20word%22%20%3D%20x%40%2F%3F%23"


@pytest.fixture(scope="module")
def own_postgres(local_postgres: ModuleType) -> Iterator[Any]:
    """A server that may be stopped."""
    with local_postgres.LocalPostgres({"fsync": "off"}) as server:
        server.execute("CREATE ROLE walled LOGIN PASSWORD 'x'")
        server.execute("ALTER ROLE walled PASSWORD '" + PASSWORD.replace("'", "''") + "'")
        rules = server._data / "pg_hba.conf"
        rules.write_text("local all walled scram-sha-256\n" + rules.read_text())
        server.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def own_place(own_postgres: Any, empty_team_store: Place) -> Place:
    name = f"own_{uuid.uuid4().hex}"
    return replace(empty_team_store, data=f"s3://lakes/{name}", catalog=own_postgres.create(name))


def database_of(place: Place) -> str:
    return place.catalog.partition("?")[0].rpartition("/")[2]


def walled(own_postgres: Any, place: Place, password: str) -> Place:
    own_postgres.execute(f"ALTER DATABASE {database_of(place)} OWNER TO walled")
    return replace(place, catalog=place.catalog.replace("postgres@", f"walled:{password}@"))


def test_a_password_of_any_characters_lets_in(own_postgres: Any, own_place: Place) -> None:
    place = pickle.loads(pickle.dumps(walled(own_postgres, own_place, QUOTED)))
    with pytest.raises(NotFoundError, match="no store here; run: maskloop init"):
        Lake.open(place)
    lake = Lake.create(place)
    lake.commit(lambda tx: tx.execute("UPDATE runs SET status = 'x'"), message="test")
    everything = lake.rows("SELECT * FROM duckdb_databases()"), lake.rows("FROM duckdb_secrets()")
    assert "pass word" not in str(everything)
    assert "pass word" not in f"{place!r} {place} {place.database}"
    lake.close()


def test_a_wrong_password_is_said_and_not_shown(own_postgres: Any, own_place: Place) -> None:
    place = walled(own_postgres, own_place, "sesame")
    with pytest.raises(
        TerminalStorageError, match=r"authentication failed.*store\.catalog"
    ) as caught:
        Lake.open(place)
    shown = f"{caught.value} {caught.value.__cause__}"
    assert "sesame" not in shown
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", ["nowhere", "postgresql://", "postgresql://a:sesame@h/d?bad=1"])
def test_a_url_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="must be postgresql://USER@HOST:PORT/DATABASE") as caught:
        PostgresCatalog(words)
    assert "sesame" not in f"{caught.value} {caught.value.__cause__}"


def test_a_database_that_is_not_there_is_final(own_postgres: Any, own_place: Place) -> None:
    place = replace(own_place, catalog=own_postgres.url("nobody_made_it"))
    with pytest.raises(TerminalStorageError, match=r"does not exist; correct store\.catalog"):
        Lake.create(place)


def test_a_queue_may_share_the_database(own_postgres: Any, own_place: Place) -> None:
    Lake.create(own_place).close()
    tables = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'ducklake%'"
    assert own_postgres.execute(tables, database_of(own_place)) == [("maskloop_lake",)]


def test_the_lock_is_one_for_all_and_is_waited_for(team: Place) -> None:
    order: list[str] = []

    def second() -> None:
        with team.database.lock():
            order.append("second")

    with team.database.lock():
        other = threading.Thread(target=second)
        other.start()
        with (
            pytest.raises(TransientStorageError, match="has been committing for 0 s; try again"),
            team.database.lock(timeout_s=0.2),
        ):
            order.append("never")
        order.append("first")
    other.join()
    assert order == ["first", "second"]


HOLDS_THE_LOCK = """
import pickle, sys, time
place = pickle.loads(bytes.fromhex(sys.argv[1]))
with place.database.lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_gives_the_lock_back(team: Place) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, pickle.dumps(team).hex()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    with team.database.lock(timeout_s=60):
        pass


def test_a_commit_that_loses_the_lock_begins_again(
    own_postgres: Any, own_place: Place, make: Any
) -> None:
    lake = Lake.create(own_place)
    tries: list[int] = []

    def body(tx: Transaction) -> None:
        tries.append(1)
        tx.insert([make.run("a")])
        if len(tries) == 1:
            own_postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            )

    lake.commit(body, message="test")
    assert len(tries) == 2
    assert lake.rows("SELECT run_id FROM runs") == [{"run_id": "a"}]
    lake.close()


def test_a_restart_in_the_middle_of_a_commit(
    own_postgres: Any, own_place: Place, make: Any
) -> None:
    lake = Lake.create(own_place)
    tries: list[int] = []

    def body(tx: Transaction) -> None:
        tries.append(1)
        tx.insert([make.run("a")])
        if len(tries) == 1:
            own_postgres.restart()

    lake.commit(body, message="test")
    assert lake.rows("SELECT run_id FROM runs") == [{"run_id": "a"}]
    lake.close()


def test_a_catalog_that_is_down_is_one_line_and_then_back(
    own_postgres: Any, own_place: Place, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.create(own_place)
    monkeypatch.setattr("storage.catalog.lake.GIVE_UP_S", 0.0)
    own_postgres.stop(signal.SIGQUIT)
    calls: tuple[Any, ...] = (
        lambda: lake.rows("SELECT * FROM runs"),
        lambda: lake.commit(lambda tx: tx.insert([make.run("a")]), message="test"),
        lambda: Lake.open(own_place),
    )
    try:
        for call in calls:
            with pytest.raises(TransientStorageError, match="store: ") as caught:
                call()
            assert "\n" not in str(caught.value)
    finally:
        own_postgres.start()
    lake.commit(lambda tx: tx.insert([make.run("a")]), message="test")
    assert lake.rows("SELECT run_id FROM runs") == [{"run_id": "a"}]
    lake.close()


@pytest.mark.slow
def test_commits_while_the_server_restarts_again_and_again(
    own_postgres: Any, own_place: Place, make: Any
) -> None:
    lake = Lake.create(own_place)
    done: list[str] = []
    refused: list[StorageError] = []
    stop = threading.Event()

    def commit() -> None:
        while not stop.is_set():
            row = make.run(f"r{len(done) + len(refused)}")
            try:
                lake.commit(lambda tx, row=row: tx.insert([row]), message="test")
                done.append(row.run_id)
            except TransientStorageError as error:
                refused.append(error)

    committer = threading.Thread(target=commit)
    committer.start()
    deadline = time.monotonic() + 30
    # Here, because the server ends with the thread that started it.
    while time.monotonic() < deadline:
        time.sleep(1.0)
        own_postgres.restart()
    stop.set()
    committer.join()
    found = [row["run_id"] for row in lake.rows("SELECT run_id FROM runs")]
    assert len(found) == len(set(found)), "none twice"
    assert set(done) <= set(found), "none lost"
    assert len(done) >= 5
    lake.close()
