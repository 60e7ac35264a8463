"""A queue of an earlier maskloop is brought up to date when it is opened, wholly or not at all."""

import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import DBAPIError

from storage.queue import migration
from storage.queue.check import check
from storage.queue.database import Database
from storage.queue.documents import sha256
from storage.queue.people import People
from storage.queue.review import ReviewQueue
from storage.queue.schema import SCHEMA_VERSION

DDL = Path(__file__).with_name("version_1.sql")
SUMMARY = "num_accepted, num_edited, num_rejected, num_added, num_clicks, seconds"
BODIES: dict[str, Any] = {
    "all of it": {
        "decisions": [
            {"proposal_id": "a", "action": "accepted", "clicks": []},
            {"proposal_id": "b", "action": "edited", "clicks": [{"x": 1}, {"x": 2}]},
            {"proposal_id": "c", "action": "rejected", "clicks": [{"x": 3}]},
            {"proposal_id": "d", "action": "accepted"},
        ],
        "added": [{"clicks": [{"x": 4}]}, {}],
        "seconds": 12.5,
    },
    "nothing": {},
    "something else": {"decisions": 3, "added": [1, None], "seconds": "long"},
    "whole seconds": {"seconds": 7},
}
EXPECTED = {
    "all of it": (2, 1, 1, 2, 4, 12.5),
    "nothing": (0, 0, 0, 0, 0, 0.0),
    "something else": (0, 0, 0, 0, 0, 0.0),
    "whole seconds": (0, 0, 0, 0, 0, 7.0),
}
Answer = Callable[..., None]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 1 with an answer of each kind and an item that somebody holds."""
    file = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(DDL.read_text())
        for name, body in BODIES.items():
            insert_answer(connection, name, json.dumps(body))
        connection.execute(
            "INSERT INTO items VALUES ('held', 'image-held', 'held.png', 9, 9, 'v1', 'assist', 'r',"
            " 1, 0, 'leased', 3, 'ada', 1, 2, 1, 0, 1, NULL)"
        )
        connection.execute("INSERT INTO payloads VALUES ('held', '{}')")
    return file


def insert_answer(connection: sqlite3.Connection, name: str, body: str) -> None:
    connection.execute(
        "INSERT INTO items VALUES (?, ?, 'x.png', 9, 9, 'v1', 'assist', 'r', 1, 0, 'done', 1, NULL,"
        " NULL, NULL, 1, 0, 1, NULL)",
        (name, f"image of {name}"),
    )
    connection.execute("INSERT INTO payloads VALUES (?, '{}')", (name,))
    connection.execute(
        "INSERT INTO submissions VALUES ('ada', ?, ?, ?, ?, 201, '{}', 1.0)",
        (name, f"s-{name}", name, sha256(body)),
    )
    connection.execute(
        "INSERT INTO annotations (submission_id, item_id, ordinal, annotator, lease_token, body,"
        " body_sha256, at) VALUES (?, ?, 1, 'ada', 1, ?, ?, 1.0)",
        (f"s-{name}", name, body, sha256(body)),
    )


def read(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


def summaries(file: Path) -> dict[str, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in read(file, f"SELECT item_id, {SUMMARY} FROM annotations")}


def structure(file: Path) -> dict[str, Any]:
    """Tables with columns, indexes and rules, as the database says them."""
    engine = create_engine(f"sqlite:///{file}")
    found = inspect(engine)
    described = {
        table: {
            "columns": [
                # SQLite knows one kind of such numbers, by either name.
                (name, kind.removesuffix(" PRECISION"), not_null, default)
                for _, name, kind, not_null, default, _ in read(file, f"PRAGMA table_info({table})")
            ],
            "key": found.get_pk_constraint(table)["constrained_columns"],
            "indexes": sorted(
                (index["name"], str(index["column_names"]), index["unique"])
                for index in found.get_indexes(table)
            ),
            "unique": sorted(
                str(each["column_names"]) for each in found.get_unique_constraints(table)
            ),
            "foreign": sorted(
                str((each["constrained_columns"], each["referred_table"]))
                for each in found.get_foreign_keys(table)
            ),
            "checks": sorted(each["sqltext"] for each in found.get_check_constraints(table)),
        }
        for table in found.get_table_names()
    }
    engine.dispose()
    return described


def partial_indexes(file: Path) -> set[str]:
    sql = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'"
    return {f"{name} {text.partition(' WHERE ')[2]}" for name, text in read(file, sql)}


def test_an_old_queue_becomes_what_a_new_one_is(old: Path, tmp_path: Path) -> None:
    ReviewQueue.open(f"sqlite:///{old}").close()
    new = tmp_path / "new.sqlite"
    ReviewQueue.open(f"sqlite:///{new}").close()
    assert structure(old) == structure(new)
    assert partial_indexes(old) == partial_indexes(new)
    assert read(old, "SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]


def test_its_answers_are_counted_and_everything_else_stays(old: Path) -> None:
    before = read(old, "SELECT * FROM items ORDER BY item_id")
    bodies = read(old, "SELECT seq, body, body_sha256 FROM annotations ORDER BY seq")
    queue = ReviewQueue.open(f"sqlite:///{old}")
    assert summaries(old) == EXPECTED
    after = read(old, "SELECT * FROM items ORDER BY item_id")
    assert after == [(*row, None, None, None) for row in before], "for everybody, and not pinned"
    assert read(old, "SELECT seq, body, body_sha256 FROM annotations ORDER BY seq") == bodies
    assert check(queue.database) == []
    assert not People(queue.database).any_added(), "nobody has to sign in all at once"
    assert queue.submit("held", 3, "ada", "key", BODIES["all of it"]).status == 201
    queue.close()


def test_more_answers_than_are_read_at_once_are_counted(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        for number in range(2 * migration._AT_ONCE + 1):
            insert_answer(connection, f"item {number}", json.dumps({"seconds": number}))
    ReviewQueue.open(f"sqlite:///{old}").close()
    [(total,)] = read(old, "SELECT sum(seconds) FROM annotations WHERE item_id LIKE 'item %'")
    assert total == sum(range(2 * migration._AT_ONCE + 1))


def test_a_body_that_is_damaged_keeps_no_queue_shut(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE annotations SET body = '{' WHERE item_id = 'whole seconds'")
    queue = ReviewQueue.open(f"sqlite:///{old}")
    assert summaries(old) == {**EXPECTED, "whole seconds": (0, 0, 0, 0, 0, 0.0)}
    [breach] = check(queue.database)
    assert "its body is not the one that was accepted" in breach.message
    queue.close()


def test_a_step_that_fails_leaves_the_old_queue_whole(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(
            "CREATE TRIGGER no_room BEFORE UPDATE ON annotations WHEN new.seconds = 7"
            " BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    before = structure(old)
    with pytest.raises(DBAPIError, match="no room"):
        ReviewQueue.open(f"sqlite:///{old}")
    assert structure(old) == before
    assert read(old, "SELECT version FROM schema_version") == [(1,)]
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("DROP TRIGGER no_room")
    ReviewQueue.open(f"sqlite:///{old}").close()
    assert summaries(old) == EXPECTED


def test_many_may_open_an_old_queue_at_once(old: Path) -> None:
    start, troubles = threading.Barrier(6), []

    def open_it() -> None:
        start.wait(10)
        try:
            ReviewQueue.open(f"sqlite:///{old}").close()
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert troubles == []
    assert summaries(old) == EXPECTED


def test_a_step_is_taken_once(old: Path) -> None:
    database = Database.open(f"sqlite:///{old}")
    with database.write() as connection:
        migration.migrate(connection)
    database.close()
    assert summaries(old) == EXPECTED
