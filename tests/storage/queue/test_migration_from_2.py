"""A queue of schema version 2 learns of kinds and pins when it is opened, in either database."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, inspect

from storage.queue.check import check
from storage.queue.database import Database
from storage.queue.documents import sha256
from storage.queue.errors import QueueMoved, StaleLease
from storage.queue.fence import Fence
from storage.queue.review import ReviewQueue
from storage.queue.schema import SCHEMA_VERSION, stored_version

# Columns in the order of version 2, up to the reason why an item is dead.
ITEM = "INSERT INTO items VALUES ('{0}', 'image-{0}', 'x.png', 9, 9, 'v1', 'assist', 'r', 1, {1});"
ROWS = "\n".join(
    [
        ITEM.format("ready", "0.5, 'ready', 0, NULL, NULL, NULL, 0, 0, 1, NULL"),
        ITEM.format("skipped", "9.5, 'ready', 1, NULL, NULL, NULL, 1, 1, 1, NULL"),
        ITEM.format("held", "2.5, 'leased', 3, 'ada', 1, 2, 1, 0, 1, NULL"),
        ITEM.format("done", "3.5, 'done', 1, NULL, NULL, NULL, 1, 0, 1, NULL"),
        ITEM.format("gone", "4.5, 'dead', 0, NULL, NULL, NULL, 0, 0, 1, 'withdrawn'"),
        *(
            f"INSERT INTO payloads VALUES ('{name}', '{{}}');"
            for name in ("ready", "skipped", "held", "done", "gone")
        ),
        "INSERT INTO submissions VALUES"
        f" ('ada', 'key', 's', 'done', '{sha256('{}')}', 201, '{{}}', 1.0);",
        "INSERT INTO annotations"
        " (submission_id, item_id, ordinal, annotator, lease_token, body, body_sha256, at)"
        f" VALUES ('s', 'done', 1, 'ada', 1, '{{}}', '{sha256('{}')}', 1.0);",
    ]
)


@pytest.fixture
def old(store: Any) -> str:
    """The url of a queue of version 2 with an item in every state."""
    url: str = store.another()
    script = Path(__file__).with_name(f"version_2.{store.kind}.sql").read_text() + ROWS
    if store.kind == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.executescript(script)
    else:
        with psycopg.connect(url) as connection:
            connection.execute(script.encode())
    return url


def structure(url: str) -> dict[str, Any]:
    """Tables with columns, indexes and rules, as the database says them."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    found = inspect(engine)
    described = {
        table: {
            "columns": [
                (each["name"], kind_of(each["type"]), each["nullable"])
                for each in found.get_columns(table)
            ],
            "key": found.get_pk_constraint(table)["constrained_columns"],
            "indexes": sorted(str(sorted(each.items())) for each in indexes(found, table)),
            "unique": sorted(
                str(each["column_names"]) for each in found.get_unique_constraints(table)
            ),
            "checks": sorted(
                f"{each['name']}: {without_casts(each['sqltext'])}"
                for each in found.get_check_constraints(table)
            ),
        }
        for table in found.get_table_names()
    }
    engine.dispose()
    return described


def without_casts(rule: str) -> str:
    # Postgres writes them elsewhere each time that it reads a rule it has written.
    return re.sub(r"::(character varying|text)(\[\])?", "", rule)


def kind_of(column_type: Any) -> str:
    # SQLite knows one kind of such numbers, and SQLAlchemy calls it after what it was made by.
    return str(column_type).replace("REAL", "DOUBLE")


def indexes(found: Any, table: str) -> list[dict[str, Any]]:
    return [
        {
            **{key: str(each.get(key)) for key in ("name", "column_names", "unique")},
            "sorting": str(each.get("column_sorting")),
            "options": str({key: str(text) for key, text in each["dialect_options"].items()}),
        }
        for each in found.get_indexes(table)
    ]


def test_it_becomes_what_a_new_one_is(store: Any, old: str) -> None:
    ReviewQueue.open(old).close()
    store.make()
    assert structure(old) == structure(store.url)
    database = Database.open(old)
    with database.read() as connection:
        assert stored_version(connection) == SCHEMA_VERSION
    database.close()


def test_its_items_are_for_everybody_and_stay_as_they_were(old: str) -> None:
    queue = ReviewQueue.open(old)
    assert check(queue.database) == []
    assert queue.counts() == {"ready": 2, "leased": 1, "done": 1, "dead": 1}
    assert {queue.item(name).priority for name in ("ready", "held", "done")} == {0.5, 2.5, 3.5}
    for name in ("ready", "skipped", "held", "done", "gone"):
        item = queue.item(name)
        assert (item.stage, item.not_for, item.for_role) == ("assist", None, None)
    leases = [queue.claim(name) for name in ("bob", "cy", "dee")]
    assert [lease and lease.item.item_id for lease in leases] == ["ready", "skipped", "held"]
    with pytest.raises(StaleLease):
        queue.submit("held", 3, "ada", "late", {})
    assert queue.submit("held", 4, "dee", "in time", {}).status == 201
    assert check(queue.database, acknowledged=["s"]) == []
    queue.close()


def test_the_step_is_taken_once(old: str) -> None:
    ReviewQueue.open(old).close()
    once = structure(old)
    ReviewQueue.open(old).close()
    assert structure(old) == once


MOVED = """
CREATE TABLE queue_moved (place VARCHAR NOT NULL, is_copy INTEGER NOT NULL, words VARCHAR NOT NULL);
INSERT INTO queue_moved VALUES ('there', 0, 'the queue moved to there');
"""
REFUSES = {
    "sqlite": "PRAGMA user_version = 1;",
    "postgres": """
CREATE FUNCTION refuse_moved_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION USING ERRCODE = 'MQ001', MESSAGE = (SELECT words FROM queue_moved); END $$;
CREATE TRIGGER queue_moved BEFORE INSERT OR UPDATE ON schema_version
FOR EACH STATEMENT EXECUTE FUNCTION refuse_moved_queue();
""",
}


def test_one_that_moved_learns_it_too_and_stays_closed(store: Any, old: str) -> None:
    if store.kind == "sqlite":
        with closing(sqlite3.connect(old.removeprefix("sqlite:///"))) as file:
            file.executescript(MOVED + REFUSES["sqlite"])
    else:
        with psycopg.connect(old) as connection:
            connection.execute((MOVED + REFUSES["postgres"]).encode())
    with pytest.raises(QueueMoved, match="the queue moved to there"):
        ReviewQueue.open(old)
    database = Database.open(old, even_moved=True)
    with database.read() as connection:
        assert stored_version(connection) == SCHEMA_VERSION
        assert Fence.read(connection) == Fence(place="there", is_copy=False)
    with pytest.raises(QueueMoved, match="the queue moved to there"):
        ReviewQueue(database).withdraw("r")
    database.close()
