"""Rows come back as they went in, of any snapshot, and a commit lands once or not at all."""

import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest

from storage.catalog import connection, schema
from storage.catalog import lake as lake_module
from storage.catalog.lake import Lake, Transaction
from storage.catalog.place import Place
from storage.catalog.views import VIEWS
from storage.errors import NewerStoreError, NotFoundError, TransientStorageError
from storage.rows import ROWS, Row, SchemaVersionRow, WatermarkRow

pytestmark = pytest.mark.places("folder", "team")


def example(kind: type[Row], *, optional: bool) -> Row:
    """A row with a value in every column, or only in those that need one."""
    values: dict[Any, Any] = {
        str: "it's 'text' / ünïcode \\ \n",
        int: 2**40,
        float: 0.1,
        bool: True,
        bytes: b"\x00\xff",
        datetime: datetime(2026, 1, 2, 3, 4, 5, 678901),
        list[str]: ["a", "b"],
        list[float]: [0.5, 1.5],
        list[list[float]]: [[0.5, 1.5], []],
    }
    made = {}
    for name, (python, may_be_none) in schema.columns_of(kind).items():
        if may_be_none and not optional:
            made[name] = None
        elif python in values:
            made[name] = values[python]
        elif get_args(python):
            made[name] = {"overlap": 3}
        else:
            made[name] = {"size": [3, 4], "counts": "052203"}
    return kind(**made)


def test_rows_come_back_as_they_went_in(lake: Lake, put: Callable[..., int]) -> None:
    rows = [example(kind, optional=optional) for kind in ROWS for optional in (True, False)]
    put(*rows)
    for row in rows:
        assert row.to_dict() in lake.rows(f"SELECT * FROM {row.table}")


def test_many_rows_of_several_tables_go_in_at_once(lake: Lake, put: Any, make: Any) -> None:
    masks = [make.mask(str(number), "a") for number in range(5_000)]
    put(make.image("a"), *masks, make.image("b"))
    assert lake.rows("SELECT count(*) AS n FROM masks") == [{"n": 5_000}]
    assert lake.rows("SELECT count(*) AS n FROM images") == [{"n": 2}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uri": None}, "images.uri: must not be None"),
        ({"height": "tall"}, "images.height: must be int64"),
        ({"file_name": 3}, "images.file_name: must be string"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(
    lake: Lake, put: Any, make: Any, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        put(make.image("a", **change))
    assert lake.rows("SELECT * FROM images") == []


def test_no_rows_make_no_snapshot(lake: Lake) -> None:
    before = lake.snapshot()
    lake.commit(lambda tx: tx.insert([]), message="nothing")
    assert lake.snapshot() == before


def test_a_transaction_sees_what_it_wrote_and_counts_what_it_changed(lake: Lake, make: Any) -> None:
    def body(tx: Transaction) -> tuple[int, int, list[dict[str, Any]]]:
        tx.insert([make.run("a"), make.run("b")])
        one = tx.execute("UPDATE runs SET status = ? WHERE run_id = ?", ("done", "a"))
        none = tx.execute("UPDATE runs SET status = 'done' WHERE run_id = 'c'")
        return one, none, tx.rows("SELECT run_id FROM runs WHERE status = ?", ["done"])

    assert lake.commit(body, message="test") == (1, 0, [{"run_id": "a"}])


def test_a_body_that_raises_changes_nothing(lake: Lake, make: Any) -> None:
    def body(tx: Transaction) -> None:
        tx.insert([make.run("a")])
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        lake.commit(body, message="test")
    assert lake.rows("SELECT * FROM runs") == []
    assert lake.snapshot() == 1


def test_a_passing_error_runs_the_body_again(lake: Lake, make: Any) -> None:
    tries = []

    def body(tx: Transaction) -> None:
        tx.insert([make.run("a")])
        tries.append(1)
        if len(tries) < 3:
            raise TransientStorageError("locked")

    lake.commit(body, message="test")
    assert lake.rows("SELECT run_id FROM runs") == [{"run_id": "a"}]
    assert len(tries) == 3


def test_an_error_that_does_not_pass_is_reported(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "ATTEMPTS", 3)
    tries = []

    def body(_: Transaction) -> None:
        tries.append(1)
        raise TransientStorageError("locked")

    with pytest.raises(TransientStorageError, match="locked"):
        lake.commit(body, message="test")
    assert len(tries) == 3
    assert lake.snapshot() == 1


class LosesAnswers(Lake):
    """A lake whose next COMMIT answers with an error, before or after it has landed."""

    lands = True
    armed = True

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        with super()._cursor() as cursor:
            yield Losing(cursor, self)


class Losing:
    def __init__(self, cursor: duckdb.DuckDBPyConnection, lake: LosesAnswers) -> None:
        self._cursor = cursor
        self._lake = lake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, *params: Any) -> Any:
        if sql == "COMMIT" and self._lake.armed:
            self._lake.armed = False
            if self._lake.lands:
                self._cursor.execute(sql)
            raise duckdb.TransactionException("the connection is gone")
        return self._cursor.execute(sql, *params)


@pytest.mark.parametrize("lands", [True, False], ids=["after it landed", "before it landed"])
def test_a_commit_whose_answer_is_lost_lands_once(place: Place, make: Any, lands: bool) -> None:
    lake = LosesAnswers.open(place)
    lake.lands = lands
    bodies = []

    def body(tx: Transaction) -> str:
        bodies.append(1)
        tx.insert([make.run("a")])
        return "answer"

    assert lake.commit(body, message="test") == "answer"
    assert lake.rows("SELECT run_id FROM runs") == [{"run_id": "a"}]
    assert len(bodies) == (1 if lands else 2)
    assert lake.snapshot() == 2


def test_earlier_snapshots_can_be_read(lake: Lake, put: Any, make: Any) -> None:
    first = put(make.image("a"), make.mask("one", "a"))
    second = put(make.mask("two", "a"))
    lake.commit(lambda tx: tx.execute("UPDATE images SET split = 'gold'"), message="test")
    for snapshot, count in ((1, 0), (first, 1), (second, 2), (None, 2)):
        for relation in ("masks", "current_masks"):
            found = lake.rows(f"SELECT count(*) AS n FROM {relation}", snapshot=snapshot)
            assert found == [{"n": count}], (snapshot, relation)
    split = "SELECT split FROM images WHERE image_id = ?"
    assert lake.rows(split, ("a",), snapshot=second) == [{"split": "unlabelled"}]
    assert lake.rows(split, ("a",)) == [{"split": "gold"}]
    in_sql = f"SELECT count(*) AS n FROM masks AT (VERSION => {first})"
    assert lake.rows(in_sql) == [{"n": 1}]
    assert lake.arrow("FROM masks", snapshot=first).num_rows == 1


@pytest.mark.parametrize("snapshot", [-1, 0, 99])
def test_a_snapshot_that_there_is_not_is_not_found(lake: Lake, snapshot: int) -> None:
    with pytest.raises(NotFoundError, match="snapshot"):
        lake.rows("SELECT * FROM masks", snapshot=snapshot)


def test_faulty_sql_stays_the_error_of_duckdb(lake: Lake) -> None:
    with pytest.raises(duckdb.BinderException, match="colour"):
        lake.rows("SELECT colour FROM masks")


def test_the_author_and_message_of_a_commit_are_kept(lake: Lake, make: Any) -> None:
    lake.commit(lambda tx: tx.insert([make.run("a")]), message="it's done", author="me")
    found = lake.rows("SELECT author, commit_message FROM lake.snapshots() ORDER BY snapshot_id")
    assert found[-1] == {"author": "me", "commit_message": "it's done"}


def test_making_a_store_again_keeps_it(lake: Lake, put: Any, make: Any) -> None:
    put(make.image("a"))
    again = Lake.create(lake.place)
    assert again.rows("SELECT image_id FROM images") == [{"image_id": "a"}]
    assert again.rows("SELECT version FROM schema_versions") == [{"version": schema.SCHEMA_VERSION}]


def test_a_store_that_was_not_finished_is_finished(tmp_path: Path) -> None:
    connection.initialise(Place.folder(tmp_path))
    with pytest.raises(NotFoundError, match="never finished; run: maskloop init"):
        Lake.open(tmp_path)
    assert Lake.create(tmp_path).rows("SELECT * FROM masks") == []


def test_a_folder_without_a_store_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"catalog\.sqlite: no store here; run: maskloop init"):
        Lake.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_older_store_is_brought_up_to_date(lake: Lake) -> None:
    def age(tx: Transaction) -> None:
        for name in VIEWS:
            tx.execute(f"DROP VIEW {name}")
        tx.execute("CREATE VIEW current_masks AS FROM masks")
        tx.execute("DROP TABLE mask_vectors")
        tx.execute("DROP TABLE mask_labels")
        tx.execute(
            "CREATE TABLE mask_labels (mask_id VARCHAR NOT NULL, category VARCHAR NOT NULL, "
            "score DOUBLE NOT NULL, classes_hash VARCHAR, accepted_by VARCHAR, "
            "created_at TIMESTAMP NOT NULL)"
        )
        tx.execute("DROP TABLE exports")
        tx.execute("ALTER TABLE training_sets DROP COLUMN mask_ids")
        tx.execute("ALTER TABLE images DROP COLUMN num_labels_refused")
        tx.execute("DROP TABLE training_steps")
        tx.execute("ALTER TABLE reviews DROP COLUMN is_complete")
        tx.execute("ALTER TABLE image_sets DROP COLUMN num_candidates")
        tx.execute("ALTER TABLE image_sets DROP COLUMN savings")
        tx.execute("ALTER TABLE masks DROP COLUMN part_of")
        tx.execute("ALTER TABLE masks DROP COLUMN level")
        tx.execute("ALTER TABLE reviews DROP COLUMN kind")
        for name in ("area", "source", "score"):
            tx.execute(f"ALTER TABLE decisions DROP COLUMN {name}")
        tx.execute("DROP TABLE agreements")
        tx.execute("DROP TABLE retractions")
        tx.execute("DROP TABLE detectors")
        tx.execute("ALTER TABLE candidates DROP COLUMN number")
        for what in ("uri", "sha256", "bytes"):
            tx.execute(f"ALTER TABLE shards DROP COLUMN candidate_{what}")
        tx.execute("UPDATE schema_versions SET version = 1")

    lake.commit(age, message="as an earlier maskloop left it")
    before = lake.snapshot()
    for _ in range(2):
        again = Lake.open(lake.place)
        assert again.rows("SELECT count(*) AS steps FROM training_steps") == [{"steps": 0}]
        assert again.rows("SELECT is_complete, kind FROM reviews") == []
        assert again.rows("SELECT area, source, score FROM decisions") == []
        assert again.rows("SELECT mean_iou, is_disputed FROM agreements") == []
        assert again.rows("SELECT mask_id, cause, snapshot FROM retractions") == []
        assert again.rows("SELECT mask_ids FROM training_sets") == []
        assert again.rows("SELECT sha256 FROM exports") == []
        assert again.rows("SELECT vector FROM mask_vectors") == []
        assert again.rows("SELECT run_id FROM mask_labels") == []
        assert again.rows("SELECT num_labels_refused FROM images") == []
        assert again.rows("SELECT num_candidates, savings FROM image_sets") == []
        assert again.rows("SELECT part_of, level FROM current_masks") == []
        assert again.rows("SELECT number, crop_layer FROM candidates") == []
        assert again.rows("SELECT candidate_uri FROM shards") == []
        versions = again.rows("SELECT version FROM schema_versions ORDER BY version")
        assert versions == [{"version": 1}, {"version": schema.SCHEMA_VERSION}]
        assert again.snapshot() == before + 1


def test_a_newer_store_is_refused(lake: Lake, put: Any, make: Any) -> None:
    known = schema.SCHEMA_VERSION
    put(SchemaVersionRow(version=known + 1, applied_at=make.now))
    words = f"its store has schema {known + 1}, this maskloop reads up to {known}"
    with pytest.raises(NewerStoreError, match=words):
        Lake.open(lake.place)


@pytest.mark.places("folder")
def test_a_store_can_be_moved_and_names_no_folder_of_this_machine(
    lake: Lake, put: Any, make: Any, tmp_path: Path
) -> None:
    put(*(make.mask(str(number), "a") for number in range(100)))
    lake.close()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    shutil.move(tmp_path, moved)
    assert len(Lake.open(moved).rows("SELECT * FROM masks")) == 100
    for path in moved.glob("catalog.sqlite*"):
        assert str(tmp_path).encode() not in path.read_bytes()


def test_threads_read_while_another_commits(lake: Lake, make: Any) -> None:
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            row = lake.rows("SELECT count(*) AS runs, coalesce(max(iteration), 0) AS n FROM runs")[
                0
            ]
            if row["runs"] != row["n"]:
                wrong.append(row)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 16):
        row = make.run(str(number), iteration=number)
        lake.commit(lambda tx, row=row: tx.insert([row]), message="test")
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


FILLS_THE_DISK = """
import resource, sys
from pathlib import Path
from storage.catalog.lake import Lake
from storage.errors import StorageFull
from storage.rows import TrainingSetRow
lake = Lake.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
rows = [TrainingSetRow(version=str(n * 7919), image_id=str(n * 104729), num_masks=n)
        for n in range(100_000)]
try:
    lake.commit(lambda tx: tx.insert(rows), message="big")
except StorageFull as error:
    print(error)
"""


@pytest.mark.places("folder")
def test_a_full_disk_is_said_and_nothing_is_lost(lake: Lake, put: Any, make: Any) -> None:
    put(make.image("a"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FILLS_THE_DISK), str(lake.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the disk is full; nothing committed is lost" in done.stdout, done.stderr
    assert lake.rows("SELECT count(*) AS n FROM training_sets") == [{"n": 0}]
    put(WatermarkRow(name="a", seq=1, updated_at=make.now))
    assert lake.rows("SELECT image_id FROM images") == [{"image_id": "a"}]
