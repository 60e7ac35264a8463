"""The tables of the review queue and of the model in service; times are seconds since 1970, UTC.

They live in a file (or Postgres schema) of their own, never in the lake's catalog file.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    literal_column,
    or_,
    select,
    text,
)

from storage.errors import NewerStoreError

SCHEMA_VERSION = 3
STATES = ("ready", "leased", "done", "dead")
# What an item is for; `items.stage` has it. Ordinary work; a hidden check whose truth is known; a
# second pair of eyes; a disagreement for a lead; automatic masks that people correct to measure.
KINDS = ("assist", "gold", "second", "dispute", "audit")
ROLES = ("annotator", "lead")

metadata = MetaData()

# Postgres orders text by the rules of a language, unless told to go by its bytes as SQLite does.
_NAME = String().with_variant(String(collation="C"), "postgresql")
# SQLite's INTEGER has 8 bytes, and only a column of just this type counts by itself.
_BIG = BigInteger().with_variant(Integer, "sqlite")

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

items = Table(
    "items",
    metadata,
    Column("item_id", _NAME, primary_key=True),
    Column("image_id", String, nullable=False),
    Column("file_name", String, nullable=False),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("model_version", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("run_id", String, nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("priority", Double, nullable=False),
    Column("state", String, nullable=False),
    # Grows with each new lease and is never reset: the fencing token that a write must show.
    Column("lease_token", _BIG, nullable=False, default=0),
    Column("lease_owner", _NAME),
    Column("leased_at", Double),
    Column("lease_expires", Double),
    Column("attempts", Integer, nullable=False, default=0),
    Column("skips", Integer, nullable=False, default=0),
    # How often the item was opened for an answer: 1, and one more for each time it was reopened
    # after one. A done item has this many annotations, any other one fewer.
    Column("openings", Integer, nullable=False, default=1),
    Column("dead_reason", String),
    # The one annotator who is never given it, such as whoever did what a second now looks at.
    Column("not_for", String),
    # Leads alone are given it.
    Column("for_role", String, CheckConstraint("for_role = 'lead'", name="items_for_role")),
    # Its own priority, while its image is pinned and `priority` brings it to the front.
    Column("base_priority", Double),
    UniqueConstraint("image_id", "model_version", "stage", name="items_once"),
    CheckConstraint("state IN ('ready', 'leased', 'done', 'dead')", name="items_state"),
    CheckConstraint(
        "(state = 'leased') = (lease_owner IS NOT NULL)"
        " AND (state = 'leased') = (leased_at IS NOT NULL)"
        " AND (state = 'leased') = (lease_expires IS NOT NULL)",
        name="items_lease",
    ),
    CheckConstraint("(state = 'dead') = (dead_reason IS NOT NULL)", name="items_dead_reason"),
    CheckConstraint("attempts >= 0 AND skips >= 0 AND openings >= 1", name="items_counts"),
    Index("items_by_run", "run_id", "state"),
)

# Written out, not bound: SQLite picks a partial index only by a condition that it can read.
IS_READY = items.c.state == literal_column("'ready'")
IS_LEASED = items.c.state == literal_column("'leased'")
IS_DONE = items.c.state == literal_column("'done'")
IS_DEAD = items.c.state == literal_column("'dead'")
IS_CLOSED = or_(IS_DONE, IS_DEAD)
Index(
    "items_ready",
    items.c.skips,
    items.c.priority.desc(),
    items.c.item_id,
    # Whoever may not have the first ones passes over them without reading their rows.
    items.c.not_for,
    items.c.for_role,
    items.c.state,
    sqlite_where=IS_READY,
    postgresql_where=IS_READY,
)
Index(
    "items_leased",
    items.c.lease_expires,
    sqlite_where=IS_LEASED,
    postgresql_where=IS_LEASED,
)
Index(
    "items_one_lease_each",
    items.c.lease_owner,
    unique=True,
    sqlite_where=IS_LEASED,
    postgresql_where=IS_LEASED,
)

# For lists of them. An index of all states would lure SQLite away from `items_ready`.
Index(
    "items_closed",
    items.c.state,
    items.c.item_id,
    sqlite_where=IS_CLOSED,
    postgresql_where=IS_CLOSED,
)

# Apart from `items`, because each heartbeat rewrites its whole row there.
payloads = Table(
    "payloads",
    metadata,
    Column("item_id", ForeignKey("items.item_id"), primary_key=True),
    Column("body", Text, nullable=False),
)

# Images that somebody wants first; all items of a pinned one have a `base_priority`, no others.
pins = Table(
    "pins",
    metadata,
    Column("image_id", String, primary_key=True),
    Column("pinned_by", String, nullable=False),
    Column("pinned_at", Double, nullable=False),
)

submissions = Table(
    "submissions",
    metadata,
    Column("annotator", String, primary_key=True),
    Column("idempotency_key", String, primary_key=True),
    Column("submission_id", String, nullable=False, unique=True),
    # Deferred: the row goes in first, and only then it turns out that there is no such item.
    Column(
        "item_id",
        ForeignKey("items.item_id", deferrable=True, initially="DEFERRED"),
        nullable=False,
    ),
    Column("body_sha256", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("response", Text, nullable=False),
    Column("at", Double, nullable=False),
)

# What a body says, so that nobody counts by reading bodies: they may have megabytes.
_SUMMARY = ("num_accepted", "num_edited", "num_rejected", "num_added", "num_clicks")

# The outbox: `seq` grows in commit order, and readers remember the last one they merged.
annotations = Table(
    "annotations",
    metadata,
    Column("seq", _BIG, primary_key=True, autoincrement=True),
    Column("submission_id", ForeignKey("submissions.submission_id"), nullable=False, unique=True),
    Column("item_id", ForeignKey("items.item_id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("annotator", String, nullable=False),
    Column("lease_token", _BIG, nullable=False),
    Column("body", Text, nullable=False),
    Column("body_sha256", String, nullable=False),
    Column("at", Double, nullable=False),
    *(Column(name, Integer, nullable=False, server_default=text("0")) for name in _SUMMARY),
    Column("seconds", Double, nullable=False, server_default=text("0")),
    UniqueConstraint("item_id", "ordinal", name="annotations_once"),
    # These hold all that statistics ask for: SQLite reads through a body to what lies behind it.
    Index("annotations_by_annotator", "annotator", "at", "item_id", *_SUMMARY, "seconds"),
    Index("annotations_by_time", "at", "num_accepted", "num_edited", "num_added"),
    sqlite_autoincrement=True,
)

# Nobody is deleted: a name that signed work is never given to somebody else.
people = Table(
    "people",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("role", String, nullable=False),
    Column("token_sha256", String, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    CheckConstraint("role IN ('annotator', 'lead')", name="people_role"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id_sha256", String, primary_key=True),
    Column("name", ForeignKey("people.name"), nullable=False),
    Column("csrf_token", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("sessions_by_name", "name"),
)

gates = Table(
    "gates",
    metadata,
    Column("gate_id", Integer, primary_key=True, autoincrement=True),
    Column("model_version", String, nullable=False),
    Column("compared_with", String),
    Column("metrics", Text, nullable=False),
    Column("passed", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("at", Double, nullable=False),
    CheckConstraint("passed IN (0, 1)", name="gates_passed"),
    sqlite_autoincrement=True,
)

promotions = Table(
    "promotions",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("model_version", String, nullable=False),
    Column("gate_id", ForeignKey("gates.gate_id"), nullable=False),
    Column("kind", String, nullable=False),
    # A rollback restores an earlier generation; a promotion is its own.
    Column("restores", Integer, nullable=False),
    Column("at", Double, nullable=False),
    CheckConstraint("kind IN ('promote', 'rollback')", name="promotions_kind"),
)

current_model = Table(
    "current_model",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("model_version", String),
    Column("generation", Integer, nullable=False),
    CheckConstraint("id = 1", name="current_model_single"),
    CheckConstraint("(generation = 0) = (model_version IS NULL)", name="current_model_set"),
)


def stored_version(connection: Connection) -> int | None:
    """The schema version of this database, None when it has no tables yet."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    return int(connection.execute(select(schema_version.c.version)).scalar_one())


def create(connection: Connection) -> None:
    """Make the tables in one transaction, unless another process has just made them."""
    if stored_version(connection) is not None:
        return
    metadata.create_all(connection)
    connection.execute(insert(current_model).values(id=1, generation=0))
    connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))


def check_version(stored: int | None) -> None:
    """Raise NewerStoreError unless this code reads schema version `stored`."""
    if stored != SCHEMA_VERSION:
        raise NewerStoreError(
            f"workspace of a newer version: its review queue has schema {stored}, this maskloop"
            f" reads {SCHEMA_VERSION}; install the newer maskloop"
        )
