"""Older databases brought up to date: each step is one transaction with the row that records it.

The statements are written out, as the tables of `schema` go on changing and a step must not.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, text

from storage.queue.documents import from_text
from storage.queue.schema import stored_version
from storage.queue.summary import Summary

# Bodies have up to tens of megabytes; so many are in memory at once.
_AT_ONCE = 20

_PEOPLE_AND_SUMMARIES = (
    "ALTER TABLE annotations ADD COLUMN num_accepted INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE annotations ADD COLUMN num_edited INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE annotations ADD COLUMN num_rejected INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE annotations ADD COLUMN num_added INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE annotations ADD COLUMN num_clicks INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE annotations ADD COLUMN seconds DOUBLE PRECISION DEFAULT 0 NOT NULL",
    "CREATE INDEX annotations_by_annotator ON annotations (annotator, at, item_id,"
    " num_accepted, num_edited, num_rejected, num_added, num_clicks, seconds)",
    "CREATE INDEX annotations_by_time ON annotations (at, num_accepted, num_edited, num_added)",
    "CREATE INDEX items_closed ON items (state, item_id) WHERE state = 'done' OR state = 'dead'",
    "CREATE TABLE people (name VARCHAR NOT NULL, role VARCHAR NOT NULL,"
    " token_sha256 VARCHAR NOT NULL, created_at DOUBLE PRECISION NOT NULL,"
    " revoked_at DOUBLE PRECISION, PRIMARY KEY (name), UNIQUE (token_sha256),"
    " CONSTRAINT people_role CHECK (role IN ('annotator', 'lead')))",
    "CREATE TABLE sessions (id_sha256 VARCHAR NOT NULL, name VARCHAR NOT NULL,"
    " csrf_token VARCHAR NOT NULL, created_at DOUBLE PRECISION NOT NULL,"
    " expires_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (id_sha256),"
    " FOREIGN KEY(name) REFERENCES people (name))",
    "CREATE INDEX sessions_by_name ON sessions (name)",
)
_KINDS_AND_PINS = (
    "ALTER TABLE items ADD COLUMN not_for VARCHAR",
    "ALTER TABLE items ADD COLUMN for_role VARCHAR"
    " CONSTRAINT items_for_role CHECK (for_role = 'lead')",
    "ALTER TABLE items ADD COLUMN base_priority DOUBLE PRECISION",
    "DROP INDEX items_ready",
    "CREATE INDEX items_ready ON items (skips, priority DESC, item_id, not_for, for_role, state)"
    " WHERE state = 'ready'",
    "CREATE TABLE pins (image_id VARCHAR NOT NULL, pinned_by VARCHAR NOT NULL,"
    " pinned_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (image_id))",
)
_KEEP_SUMMARY = text(
    "UPDATE annotations SET num_accepted = :num_accepted, num_edited = :num_edited,"
    " num_rejected = :num_rejected, num_added = :num_added, num_clicks = :num_clicks,"
    " seconds = :seconds WHERE seq = :seq"
)
_BODIES = text("SELECT seq, body FROM annotations WHERE seq > :seq ORDER BY seq LIMIT :limit")


def migrate(connection: Connection) -> None:
    """Take every step that this database has not seen, inside the caller's transaction.

    Safe to repeat. A newer database, or one without tables, is left alone.
    """
    version = stored_version(connection)
    while version is not None and (step := _STEPS.get(version)):
        step(connection)
        version += 1
        connection.execute(text("UPDATE schema_version SET version = :v"), {"v": version})


def _people_and_summaries(connection: Connection) -> None:
    _run(connection, _PEOPLE_AND_SUMMARIES)
    seq = 0
    while rows := connection.execute(_BODIES, {"seq": seq, "limit": _AT_ONCE}).all():
        found = [{"seq": row.seq, **asdict(_summary(row.body))} for row in rows]
        connection.execute(_KEEP_SUMMARY, found)
        seq = rows[-1].seq


def _kinds_and_pins(connection: Connection) -> None:
    _run(connection, _KINDS_AND_PINS)


def _run(connection: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        connection.execute(text(statement))


def _summary(body: str) -> Summary:
    try:
        return Summary.of(from_text(body))
    except ValueError:
        # A damaged body is `maskloop fsck`'s to report; it must not keep the queue shut.
        return Summary()


_STEPS: dict[int, Callable[[Connection], None]] = {1: _people_and_summaries, 2: _kinds_and_pins}
