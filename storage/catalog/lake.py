"""The lake: rows of any snapshot, and commits that land exactly once.

Reads go to whichever thread asks. A commit holds the store's lock, and after any error whose
outcome is unknown it connects anew and looks whether it has landed before it tries again.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, Self, TypeVar

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from storage.catalog import connection, schema, seals, secrets, unheard
from storage.catalog.commit_lock import StillHeld
from storage.catalog.place import Place
from storage.errors import NotFoundError, StorageError, TransientStorageError
from storage.objects import Objects
from storage.rows import Row, SchemaVersionRow, utcnow

T = TypeVar("T")
ATTEMPTS = 10
GIVE_UP_S = 120.0
_UNDISTURBED_TRIES = 5
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0


class _MeanwhileCommitted(Exception):  # noqa: N818 -- named for what happened
    """Somebody committed while this was read."""


class Transaction:
    """One transaction on the lake: everything in it lands together or not at all."""

    def __init__(self, cursor: DuckDBPyConnection) -> None:
        self._cursor = cursor

    def insert(self, rows: Sequence[Row]) -> None:
        """Append rows to the tables of their classes; no rows are no work."""
        for kind, group in groupby(rows, key=lambda row: type(row)):
            self._cursor.register("_inserted", schema.arrow_table(kind, group))
            self._cursor.execute(f"INSERT INTO {kind.table} BY NAME SELECT * FROM _inserted")
            self._cursor.unregister("_inserted")

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; returns how many rows it changed."""
        answer = self._cursor.execute(sql, list(params)).fetchone()
        return answer[0] if answer and isinstance(answer[0], int) else 0

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows that `sql` selects, with what this transaction has written so far."""
        return _dicts(self._cursor.execute(sql, list(params)))


class Lake:
    """The store of one workspace. Any number of threads and processes may have it open."""

    def __init__(self, place: Place | Path) -> None:
        self.place = Place.folder(place) if isinstance(place, Path) else place
        self._guard = threading.Lock()
        self._connection: DuckDBPyConnection | None = None
        self._secrets: tuple[str, ...] = ()
        self._may_have_grown = False
        self._idle: list[DuckDBPyConnection] = []

    @classmethod
    def create(cls, place: Place | Path) -> Self:
        """The store at `place`, made if there is none, whatever an interrupted try has left.

        A path is a folder that has both the files and the catalog.
        """
        lake = cls(place)
        # Whoever may not look into the place hears of it before anything is made.
        any(lake.objects.below(connection.DATA_FOLDER))
        lake.place.database.prepare()
        with lake.lock() as still_held:
            connection.initialise(lake.place)
            if lake._version() is None:
                lake._commit(_create_tables, "new store", "maskloop", still_held)
                seals.seal_newest(lake, connection.DATA_FOLDER)
        return cls.open(place)

    @classmethod
    def open(cls, place: Place | Path) -> Self:
        """The store at `place`; raises NotFoundError, or NewerStoreError for a newer one."""
        lake = cls(place)
        database = lake.place.database
        if not database.is_there():
            raise NotFoundError(f"{database}: no store here; run: maskloop init, or restore it")
        stored = lake._version()
        if stored is None:
            raise NotFoundError(f"{database}: the store was never finished; run: maskloop init")
        schema.check_version(stored)
        if any(lake.objects.below(unheard.NOTES)):
            with lake.lock():
                unheard.settle_notes(lake.place, connection.DATA_FOLDER)
        if stored < schema.SCHEMA_VERSION:
            lake._upgrade()
        return lake

    @property
    def root(self) -> Path:
        """The folder of the files; raises ValueError where they lie elsewhere."""
        if self.place.in_s3:
            raise ValueError(f"{self.place.data}: not a folder")
        return Path(self.place.data)

    @property
    def objects(self) -> Objects:
        """The files of this store, with those of the lake below `lake/`."""
        return self.place.objects

    def lock(self) -> AbstractContextManager[StillHeld]:
        """The lock that every commit holds: under it nothing changes what snapshots name."""
        return self.place.database.lock()

    def close(self) -> None:
        """Let go of the catalog; the next call connects again."""
        with self._guard:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            idle, self._idle = self._idle, []
        for cursor in idle:
            cursor.close()

    def snapshot(self) -> int:
        """The number of the newest snapshot."""
        return int(self.rows("SELECT id FROM lake.current_snapshot()")[0]["id"])

    def rows(
        self, sql: str, params: Sequence[Any] = (), *, snapshot: int | None = None
    ) -> list[dict[str, Any]]:
        """The rows that `sql` selects, of the newest snapshot or of `snapshot`.

        Raises NotFoundError for a snapshot that there is not.
        """
        return self._read(sql, params, snapshot, _dicts)

    def arrow(
        self, sql: str, params: Sequence[Any] = (), *, snapshot: int | None = None
    ) -> pa.Table:
        """The same as an Arrow table."""
        return self._read(sql, params, snapshot, lambda cursor: cursor.to_arrow_table())

    def commit(
        self, body: Callable[[Transaction], T], *, message: str, author: str = "maskloop"
    ) -> T:
        """Run `body` in one transaction, which becomes one snapshot; returns what `body` returns.

        `body` may run several times, each time on an untouched store: it must not change anything
        outside the transaction. Raises TransientStorageError after ATTEMPTS failures.
        """
        with self.lock() as still_held:
            result = self._commit(body, message, author, still_held)
            self._may_have_grown = True
            seals.seal_newest(self, connection.DATA_FOLDER)
        return result

    def _commit(
        self, body: Callable[[Transaction], T], message: str, author: str, still_held: StillHeld
    ) -> T:
        token = uuid.uuid4().hex
        # What `body` gave in a try of which it is not known whether it has landed.
        unknown: list[T] = []

        def attempt() -> T:
            if unknown and self._stands(token, still_held):
                return unknown[0]
            unknown.clear()
            with self._cursor() as cursor:
                result = _written(cursor, body, message, author, token)
                _while_held(cursor, still_held)
                unknown.append(result)
                try:
                    cursor.execute("COMMIT")
                except duckdb.Error:
                    _roll_back(cursor)
                    self.close()
                    if not self._stands(token, still_held):
                        unknown.clear()
                        raise
            return result

        try:
            return self._retrying(attempt)
        except StorageError:
            if unknown:
                # Where the objects cannot be reached either, DuckLake could not remove any.
                with suppress(StorageError):
                    unheard.note(self.objects, token)
            raise

    def _stands(self, token: str, still_held: StillHeld) -> bool:
        """Whether the commit of this token is there: its answer may have been lost."""
        try:
            still_held()
        except TransientStorageError:
            # It was lost, and may have been taken again.
            still_held()
        with connection.translated():
            return unheard.stands(self.place, token, connection.DATA_FOLDER)

    def _read(
        self,
        sql: str,
        params: Sequence[Any],
        snapshot: int | None,
        fetch: Callable[[DuckDBPyConnection], T],
    ) -> T:
        if snapshot is not None and snapshot < 1:
            raise NotFoundError(f"snapshot {snapshot}: there is none; the first one is 1")

        def attempt() -> T:
            with self._reading() if snapshot is None else self._cursor() as cursor:
                before = connection.state(cursor, self.place)
                found = self._read_at(cursor, sql, params, snapshot, fetch)
                if connection.state(cursor, self.place) != before:
                    raise _MeanwhileCommitted
                return found

        for _ in range(_UNDISTURBED_TRIES):
            with suppress(_MeanwhileCommitted):
                return self._retrying(attempt)
        with self.lock():
            return self._retrying(attempt)

    def _read_at(
        self,
        cursor: DuckDBPyConnection,
        sql: str,
        params: Sequence[Any],
        snapshot: int | None,
        fetch: Callable[[DuckDBPyConnection], T],
    ) -> T:
        if snapshot is None:
            return fetch(cursor.execute(sql, list(params)))
        with connection.attached_snapshot(cursor, self.place, snapshot):
            return fetch(cursor.execute(sql, list(params)))

    def _upgrade(self) -> None:
        """Add what an earlier maskloop did not know; whoever comes second finds nothing to do."""

        def body(tx: Transaction) -> None:
            stored = int(
                tx.rows("SELECT max(version) AS version FROM schema_versions")[0]["version"]
            )
            for statement in schema.upgrade(stored):
                tx.execute(statement)
            if stored < schema.SCHEMA_VERSION:
                tx.insert([SchemaVersionRow(version=schema.SCHEMA_VERSION, applied_at=utcnow())])

        self.commit(body, message=f"store brought to schema {schema.SCHEMA_VERSION}")

    def _version(self) -> int | None:
        """The schema version of the store; None when it has no tables yet."""
        try:
            found = self.rows("SELECT max(version) AS version FROM schema_versions")
        except duckdb.CatalogException:
            return None
        return int(found[0]["version"])

    @contextmanager
    def _reading(self) -> Iterator[DuckDBPyConnection]:
        """A cursor that one call has at a time: `USE` alone asks the catalog a question."""
        with self._guard:
            opened = self._connected()
            cursor = self._idle.pop() if self._idle else None
        if cursor is None:
            cursor = opened.cursor()
            cursor.execute("USE lake")
        try:
            yield cursor
        except BaseException:
            cursor.close()
            raise
        with self._guard:
            if is_ours := opened is self._connection:
                self._idle.append(cursor)
        if not is_ours:
            cursor.close()

    def _connected(self) -> DuckDBPyConnection:
        if self._connection is None:
            self._connection = connection.connect(self.place)
        elif self._may_have_grown:
            connection.fit_threads(self._connection)
        self._may_have_grown = False
        self._secrets = secrets.keep(self._connection, self.place, self._secrets)
        return self._connection

    @contextmanager
    def _cursor(self) -> Iterator[DuckDBPyConnection]:
        """A cursor of this call's own: cursors may be used by several threads at once."""
        with self._guard:
            cursor = self._connected().cursor()
        try:
            cursor.execute("USE lake")
            yield cursor
        finally:
            cursor.close()

    def _retrying(self, attempt: Callable[[], T]) -> T:
        deadline = time.monotonic() + GIVE_UP_S
        for number in range(1, ATTEMPTS + 1):
            try:
                with connection.translated():
                    return attempt()
            except TransientStorageError:
                if number == ATTEMPTS or time.monotonic() > deadline:
                    raise
                self.close()
                longest = min(_FIRST_WAIT_S * 2**number, _LONGEST_WAIT_S)
                time.sleep(random.uniform(_FIRST_WAIT_S, longest))
            except StorageError:
                # DuckDB keeps what it has read of files, and would read damaged bytes for ever.
                self.close()
                raise
        raise AssertionError("the last attempt returns or raises")


def _create_tables(tx: Transaction) -> None:
    for statement in schema.statements():
        tx.execute(statement)
    tx.insert([SchemaVersionRow(version=schema.SCHEMA_VERSION, applied_at=utcnow())])


def _written(
    cursor: DuckDBPyConnection,
    body: Callable[[Transaction], T],
    message: str,
    author: str,
    token: str,
) -> T:
    """What `body` gives, with a transaction open that has all it wrote."""
    cursor.execute("BEGIN")
    try:
        result = body(Transaction(cursor))
        cursor.execute(
            "CALL lake.set_commit_message(?, ?, extra_info => ?)",
            [author, message, unheard.marked(token)],
        )
    except BaseException:
        _roll_back(cursor)
        raise
    return result


def _while_held(cursor: DuckDBPyConnection, still_held: StillHeld) -> None:
    try:
        still_held()
    except BaseException:
        _roll_back(cursor)
        raise


def _roll_back(cursor: DuckDBPyConnection) -> None:
    try:
        cursor.execute("ROLLBACK")
    except duckdb.Error:
        # Already rolled back by the error that brought us here, which is the one to report.
        return


def _dicts(cursor: DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
