"""The whole queue in another database, and the change from one to the other with nothing lost.

While it is copied nobody can write to the old database. The copy is whole, checked and fenced
before the old one is fenced, and each of the two is one commit: so at any moment at most one of
them takes answers, and what was cut short is finished, or made anew, by doing it again.
"""

from sqlalchemy import Connection, Table, Text, delete, func, insert, select

from storage.errors import StorageError, TerminalStorageError
from storage.failpoints import failpoint
from storage.queue.check import check
from storage.queue.database import Database
from storage.queue.fence import Fence
from storage.queue.schema import current_model, metadata, schema_version

# In the order of foreign keys.
_TABLES = tuple(table for table in metadata.sorted_tables if table is not schema_version)
# Numbers that are never given twice, whatever was deleted since: readers remember the last one.
_COUNTERS = tuple(
    column for table in _TABLES for column in table.c if column is table.autoincrement_column
)
# Bodies have up to tens of megabytes.
_BODIES_AT_ONCE = 20
_ROWS_AT_ONCE = 1000


def snapshot(source: Database, target: Database) -> None:
    """Copy the queue as of one moment into an empty one, while others go on working."""
    with source.read() as old, target.write() as new:
        source.take_time(old)
        _copy_rows(source, old, target, new)


def require_free(source: Database, target: Database) -> None:
    """Raise TerminalStorageError unless `target` is empty or a state of `source`."""
    with source.read() as old:
        is_there = Fence.read(old) == _moved_to(target)
    if not is_there:
        with target.read() as new:
            _require_free(source, target, new)


def carry(source: Database, target: Database) -> None:
    """Copy the queue; from then on neither database takes a write, until `release`.

    Done already by a try that was cut short, it is not done again. Raises TerminalStorageError
    when another queue is in `target`, or what arrived is not sound; then nothing has changed.
    """
    with source.write(even_moved=True) as old:
        before = Fence.read(old)
        after = _moved_to(target)
        if before not in (None, after):
            raise before.refusal()
        source.take_time(old)
        source.fence(old, after)
        with target.write(even_moved=True) as new:
            if before is None or Fence.read(new) is not None or _is_empty(new):
                _require_free(source, target, new)
                target.take_time(new)
                target.lift_fence(new)
                _copy_rows(source, old, target, new)
                target.fence(new, _copy_of(source))
        failpoint("move.after_copy")
        _require_same(old, target)
    failpoint("move.after_fence")


def release(target: Database) -> None:
    """Let the copy be used."""
    with target.write(even_moved=True) as new:
        target.lift_fence(new)
    failpoint("move.after_release")


def give_back(source: Database, target: Database) -> None:
    """Let the old database be used again, and the copy never; raises TerminalStorageError.

    Where the queue has not moved, nothing is done.
    """
    try:
        with source.read() as old:
            if Fence.read(old) != _moved_to(target):
                return
        # In this order, or both could be used.
        with target.write(even_moved=True) as new:
            target.fence(new, _copy_of(source))
        with source.write(even_moved=True) as old:
            source.lift_fence(old)
    except StorageError as error:
        raise TerminalStorageError(
            f"review queue: moved half-way, nobody can use it ({error}); run the same maskloop "
            "store move again"
        ) from error


def left_for(source: Database) -> str | None:
    """Where the queue of this database has moved to; None while it has not."""
    with source.read() as connection:
        fence = Fence.read(connection)
    return None if fence is None or fence.is_copy else fence.place


def take_back(source: Database) -> None:
    """Let the old database be used again without a look at the copy, where all answers stay."""
    with source.write(even_moved=True) as connection:
        source.lift_fence(connection)


def _moved_to(target: Database) -> Fence:
    return Fence(place=target.place, is_copy=False)


def _copy_of(source: Database) -> Fence:
    return Fence(place=source.place, is_copy=True)


def _require_free(source: Database, target: Database, new: Connection) -> None:
    fence = Fence.read(new)
    if fence is None and not _is_empty(new):
        raise TerminalStorageError(
            f"{target.place}: another review queue is there; name another database, or leave the "
            "queue where it is: --queue here"
        )
    if fence is not None and fence.place != source.place:
        side = "of" if fence.is_copy else "that moved to"
        raise TerminalStorageError(
            f"{target.place}: a review queue {side} {fence.place} is there; name another "
            "database, or remove that queue first"
        )


def _is_empty(connection: Connection) -> bool:
    # The pointer is there from the beginning, and points to nothing.
    served = select(current_model).where(current_model.c.generation > 0)
    asked = [served, *(select(table) for table in _TABLES if table is not current_model)]
    return not any(
        connection.execute(select(rows.limit(1).exists())).scalar_one() for rows in asked
    )


def _copy_rows(source: Database, old: Connection, target: Database, new: Connection) -> None:
    for table in reversed(_TABLES):
        new.execute(delete(table))
    for table in _TABLES:
        options = {"yield_per": _at_once(table)}
        rows = old.execute(select(table), execution_options=options)
        for some in rows.mappings().partitions():
            new.execute(insert(table), [dict(row) for row in some])
    for column in _COUNTERS:
        target.set_counter(new, column, source.counter(old, column))


def _at_once(table: Table) -> int:
    has_bodies = any(isinstance(column.type, Text) for column in table.c)
    return _BODIES_AT_ONCE if has_bodies else _ROWS_AT_ONCE


def _require_same(old: Connection, target: Database) -> None:
    with target.read() as new:
        counts = {table.name: (_count(old, table), _count(new, table)) for table in _TABLES}
    wrong = [
        f"{name}: {there} rows of {num}" for name, (num, there) in counts.items() if num != there
    ]
    wrong += [f"{each.invariant} {each.where}: {each.message}" for each in check(target)]
    if wrong:
        raise TerminalStorageError(
            f"{target.place}: not what was copied to it ({wrong[0]}); the review queue stays where "
            "it was, run: maskloop fsck"
        )


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
