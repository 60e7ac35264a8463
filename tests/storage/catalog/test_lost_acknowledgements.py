"""A commit of which nobody heard whether it landed is there once, with its files, or not at all.

Between DuckDB and Postgres stands a proxy that loses the answer to a COMMIT, as a failing network
does. DuckLake takes that for a failure and removes the files that it wrote.
"""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import compaction, fsck, shards
from storage.catalog.lake import Lake, Transaction
from storage.catalog.place import Place
from storage.errors import TransientStorageError

pytestmark = pytest.mark.postgres
BETWEEN = Path(__file__).with_name("between.py")
LATE_S = 1.5


@pytest.fixture
def network(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Path]:
    """The folder of the proxy's socket: a file in it says what is lost next."""
    folder = tmp_path_factory.mktemp("p")
    server = Path(postgres.url("x").partition("host=")[2], ".s.PGSQL.5432")
    command = [sys.executable, str(BETWEEN), str(folder), str(server)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "listens\n"
        yield folder
        proxy.kill()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def lake(
    request: pytest.FixtureRequest, network: Path, postgres: Any, tmp_path: Path
) -> Iterator[Lake]:
    name = f"own_{uuid.uuid4().hex}"
    postgres.create(name)
    catalog = f"postgresql://postgres@/{name}?host={network}"
    place = Place(data=str(tmp_path / "data"), catalog=catalog)
    if request.param == "s3":
        team: Place = request.getfixturevalue("empty_team_store")
        place = replace(team, data=f"s3://lakes/{name}", catalog=catalog)
    lake = Lake.create(place)
    yield lake
    lake.close()


class Inspector:
    """Knows the masks that `make` writes."""

    def box_and_area(self, _: tuple[int, int], __: str) -> tuple[list[float], int]:
        return [1.0, 2.0, 3.0, 4.0], 12


def breaches(lake: Lake) -> list[fsck.Breach]:
    return fsck.check(lake, current=lambda: None, submissions=list, inspect=Inspector())


@pytest.mark.parametrize("how", ["lose_answer", "come_late"])
def test_what_landed_unheard_is_there_once(lake: Lake, network: Path, make: Any, how: str) -> None:
    lake.commit(lambda tx: tx.insert([make.run("a"), make.run("b")]), message="before")
    (network / how).touch()

    def body(tx: Transaction) -> None:
        tx.insert([make.run("c")])
        tx.execute("UPDATE runs SET status = 'changed' WHERE run_id = 'a'")
        tx.execute("DELETE FROM runs WHERE run_id = 'b'")

    lake.commit(body, message="unheard")
    assert not (network / how).exists()
    if how == "come_late":
        time.sleep(LATE_S)
    rows = lake.rows("SELECT run_id, status FROM runs ORDER BY run_id")
    assert rows == [{"run_id": "a", "status": "changed"}, {"run_id": "c", "status": "running"}]
    assert lake.rows("SELECT count(*) AS n FROM runs") == [{"n": 2}]
    lake.commit(lambda tx: tx.insert([make.run("d")]), message="after")
    assert breaches(lake) == []
    history = "SELECT commit_message AS m FROM ducklake_snapshots('lake')"
    messages = [row["m"] for row in lake.rows(history)]
    assert (messages.count("unheard"), messages.count("after")) == (1, 1)


def test_of_several_lost_answers_each_lands(lake: Lake, network: Path, make: Any) -> None:
    for number in range(4):
        (network / "lose_answer").touch()
        row = make.run(f"r{number}")
        lake.commit(lambda tx, row=row: tx.insert([row]), message="unheard")
        assert not (network / "lose_answer").exists()
    assert len(lake.rows("SELECT DISTINCT run_id FROM runs")) == 4
    assert lake.rows("SELECT count(*) AS n FROM runs") == [{"n": 4}]
    assert breaches(lake) == []


def test_a_shard_that_landed_unheard(lake: Lake, network: Path, make: Any) -> None:
    lake.commit(
        lambda tx: tx.insert([make.run("run", status="done"), make.image("a")]), message="before"
    )
    lake.commit(lambda tx: tx.insert([weights(lake, make)]), message="before")
    row = make.shard("s", ["a"])
    shards.plan(lake, [row])
    (network / "lose_answer").touch()
    shards.commit_shards(lake, [make.work(lake, row)])
    assert not (network / "lose_answer").exists()
    assert lake.rows("SELECT state, num_masks FROM shards") == [
        {"state": "committed", "num_masks": 2}
    ]
    assert lake.rows("SELECT count(*) AS n FROM masks") == [{"n": 2}]
    assert breaches(lake) == []


def test_a_merge_that_landed_unheard(lake: Lake, network: Path, make: Any) -> None:
    for name in "abcd":
        lake.commit(lambda tx, name=name: tx.insert([make.run(name)]), message="before")
    before = {n: lake.rows("SELECT * FROM runs ORDER BY 1", snapshot=n) for n in (3, 5)}
    (network / "lose_answer").touch()
    compaction.compact(lake)
    assert not (network / "lose_answer").exists()
    assert [found.num_files for found in compaction.survey(lake) if found.table == "runs"] == [1]
    assert {n: lake.rows("SELECT * FROM runs ORDER BY 1", snapshot=n) for n in before} == before
    assert breaches(lake) == []
    assert not [each for each in lake.objects.below("lake") if each.uri.endswith(".kept")]


def test_a_catalog_that_stays_away_is_asked_when_the_store_is_opened_again(
    lake: Lake, network: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.commit(lambda tx: tx.insert([make.run("a")]), message="before")
    (network / "go_down").touch()
    monkeypatch.setattr("storage.catalog.lake.GIVE_UP_S", 0.0)
    with pytest.raises(TransientStorageError, match="store: "):
        lake.commit(lambda tx: tx.insert([make.run("b")]), message="unheard")
    (network / "down").unlink()
    with closing(Lake.open(lake.place)) as again:
        assert [row["run_id"] for row in again.rows("SELECT run_id FROM runs")] == ["a"]
        assert list(again.objects.below("unheard")) == []
        again.commit(lambda tx: tx.insert([make.run("b")]), message="again")
        assert again.rows("SELECT count(*) AS n FROM runs") == [{"n": 2}]
        assert breaches(again) == []


def weights(lake: Lake, make: Any) -> Any:
    stored = lake.objects.put("models/v1.safetensors", b"weights")
    return make.model("v1", status="retired", weights_sha256=stored.sha256)
