"""Commits and reads of a lake in S3 while the network fails: nothing lost, nothing twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import connection, fsck
from storage.catalog.lake import Lake
from storage.catalog.place import Place
from storage.errors import StorageError, TerminalStorageError
from storage.rows import WatermarkRow, utcnow
from storage.s3.client import client
from storage.s3.config import S3Config

pytestmark = pytest.mark.s3
PASSING = (
    "busy",
    "failing",
    "reset",
    "reset midway",
    "black hole",
    "cut",
    "cut head",
    "cut upload",
    "lost",
    "slow",
)
BUCKET = "faulty-lakes"
OF_THE_LAKE = "/lake/main/"


class Blind:
    """Looks at no mask: there is none here."""

    def box_and_area(self, _size: tuple[int, int], _counts: str) -> tuple[list[float], int]:
        raise AssertionError("there are no masks")


@pytest.fixture(scope="module")
def far(s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A lake in S3, its catalog in a file; each test adds to it."""
    direct = S3Config(endpoint_url=s3_server.endpoint_url)
    client(direct).create_bucket(Bucket=BUCKET)
    catalog = tmp_path_factory.mktemp("far") / "catalog.sqlite"
    place = Place(data=f"s3://{BUCKET}/lake", catalog=f"sqlite:///{catalog}", s3=direct)
    Lake.create(place).close()
    return place


@pytest.fixture
def lake(far: Place, faulty_s3: Any) -> Iterator[Lake]:
    """The lake through the proxy."""
    config = S3Config(endpoint_url=faulty_s3.endpoint_url, read_timeout_s=1)
    opened = Lake.open(replace(far, s3=config))
    yield opened
    opened.close()


def counted(far: Place, ending: str) -> dict[str, int]:
    """How many rows there are of each name that ends so, without the proxy."""
    direct = Lake.open(far)
    rows = direct.rows(
        "SELECT name, count(*) AS n FROM watermarks WHERE ends_with(name, ?) GROUP BY 1", (ending,)
    )
    direct.close()
    return {row["name"]: row["n"] for row in rows}


def put(lake: Lake, name: str) -> None:
    row = WatermarkRow(name=name, seq=1, updated_at=utcnow())
    lake.commit(lambda tx: tx.insert([row]), message="test")


@pytest.mark.parametrize("verb", ["PUT", "GET"])
def test_commits_survive_what_passes(lake: Lake, far: Place, faulty_s3: Any, verb: str) -> None:
    """PUT is DuckDB's, of the rows; GET the look at what it wrote, which is sealed."""
    for kind in PASSING:
        faulty_s3.fail(kind, verb, OF_THE_LAKE)
        put(lake, f"{kind} {verb}")
    assert faulty_s3.struck == [(kind, verb) for kind in PASSING]
    assert counted(far, verb) == {f"{kind} {verb}": 1 for kind in PASSING}
    assert sound(lake)


def test_reads_survive_what_passes(lake: Lake, faulty_s3: Any) -> None:
    put(lake, "read")
    for kind in PASSING:
        lake.close()  # else DuckDB has what it needs in memory
        faulty_s3.fail(kind, "GET", OF_THE_LAKE)
        found = lake.rows("SELECT name FROM watermarks WHERE name = 'read'")
        assert found == [{"name": "read"}], kind
    assert faulty_s3.struck == [(kind, "GET") for kind in PASSING]


def test_a_file_that_the_server_does_not_find_is_said(lake: Lake, faulty_s3: Any) -> None:
    put(lake, "not found")
    lake.close()
    faulty_s3.fail("missing", "GET", OF_THE_LAKE, times=100)
    with pytest.raises(TerminalStorageError, match=r"^store: .*run: maskloop fsck$"):
        lake.rows("SELECT * FROM watermarks")
    faulty_s3.heal()
    assert lake.rows("SELECT name FROM watermarks WHERE name = 'not found'")


def test_a_commit_that_may_not_write_says_so_and_leaves_nothing(
    lake: Lake, far: Place, faulty_s3: Any
) -> None:
    faulty_s3.fail("forbidden", "PUT", OF_THE_LAKE, times=100)
    with pytest.raises(TerminalStorageError, match=r"refuses: .*store\.data") as caught:
        put(lake, "forbidden")
    assert "\n" not in str(caught.value)
    faulty_s3.heal()
    assert counted(far, "forbidden") == {}
    put(lake, "forbidden")
    assert counted(far, "forbidden") == {"forbidden": 1}
    assert sound(lake)


def test_bytes_that_came_damaged_are_no_error_of_duckdb(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.parquet"
    with connection.translated(), connection._bare(Place.folder(tmp_path)) as bare:
        bare.execute(f"COPY (SELECT range AS a FROM range(100)) TO '{damaged}'")
        whole = damaged.read_bytes()
        for kept, flipped in ((len(whole) // 2, 0), (len(whole), 8), (len(whole), len(whole) - 20)):
            data = bytearray(whole[:kept])
            data[flipped] ^= 0x7F
            damaged.write_bytes(data)
            with (
                pytest.raises(TerminalStorageError, match=r"^store: .* run: maskloop fsck$"),
                connection.translated(),
            ):
                bare.execute(f"SELECT sum(a) FROM '{damaged}'").fetchall()


def test_any_thread_of_a_lake_has_its_settings(lake: Lake) -> None:
    found = lake.rows("SELECT current_setting('http_timeout') AS s, current_setting('TimeZone') z")
    assert [(int(row["s"]), row["z"]) for row in found] == [(1, "UTC")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_commits_under_faults_by_chance_land_once_or_say_that_they_did_not(
    lake: Lake, far: Place, faulty_s3: Any, seed: int
) -> None:
    kinds = [*PASSING, "forbidden", "missing"]
    faulty_s3.fail_by_chance(0.3, kinds, seed)
    acknowledged, said = set(), []
    for number in range(30):
        name = f"{number} by chance {seed}"
        try:
            put(lake, name)
        except StorageError as error:
            said.append(str(error))
        else:
            acknowledged.add(name)
    faulty_s3.heal()
    assert "\n" not in "".join(said)
    landed = counted(far, f"by chance {seed}")
    assert acknowledged <= landed.keys()
    assert set(landed.values()) == {1}
    assert len(faulty_s3.struck) > 10
    assert sound(lake)


def sound(lake: Lake) -> bool:
    return fsck.check(lake, current=lambda: None, submissions=tuple, inspect=Blind()) == []
